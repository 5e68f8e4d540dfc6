/** Streams to the guest for any process of the host: a client of the `connect` socket, whichever lane serves it. */

import net from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { checkSocketPath } from './socket-path.ts';

/** Longest answer: `OK 4294967295\n`. */
const maxAnswerOctets = 16;

/**
 * A stream to guest port `port` through `DIRECTORY/connect`, half-open capable. Rejects with an Error whose `code` is
 * ECONNREFUSED when the guest refuses (or does not run, or does not answer in time), ENOENT when no lane is there.
 */
export function connectGuest(directory: string, port: number): Promise<Duplex> {
  const path = join(directory, 'connect');
  checkSocketPath(path);
  return new Promise((resolve, reject) => {
    const socket = net.connect({ path, allowHalfOpen: true });
    let answer = '';
    const fail = (error: Error) => {
      socket.destroy();
      reject(error);
    };
    const refused = () =>
      fail(
        Object.assign(new Error(`the guest does not accept streams on port ${port}: is what listens there running?`), {
          code: 'ECONNREFUSED',
        }),
      );
    const readable = () => {
      // One octet at a time, so that none of the stream's is taken.
      for (let octet = socket.read(1); octet !== null; octet = socket.read(1)) {
        answer += octet.toString('latin1');
        if (!answer.endsWith('\n') && answer.length <= maxAnswerOctets) continue;
        socket.off('readable', readable).off('error', fail).off('end', refused).off('close', refused);
        if (/^OK \d+\n$/.test(answer)) resolve(socket);
        else refused();
        return;
      }
    };
    socket.once('connect', () => socket.write(`CONNECT ${port}\n`));
    socket.on('readable', readable).once('error', fail).once('end', refused).once('close', refused);
  });
}
