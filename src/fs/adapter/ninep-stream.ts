/**
 * A 9P session over one of Node's duplex streams: a unix socket, a TCP connection, a stream from the guest. The stream's own
 * back-pressure rules both ways: replies wait in the session until the stream has room, and nothing more is read while the
 * session is congested.
 */

import type { Duplex } from 'node:stream';
import type { Export } from '../ninep/connection.ts';
import type { NinepLimits } from '../ninep/limits.ts';
import type { LockTable } from '../ninep/lock-table.ts';
import { Session } from '../ninep/session.ts';

export interface ServeOptions {
  readonly served: Export;
  readonly locks: LockTable;
  readonly limits?: Partial<NinepLimits>;
  /** Tells why a connection was dropped. */
  readonly log: (line: string) => void;
}

/**
 * Serves 9P on a stream until either side ends it; returns the session. A client that ends its own side alone still gets its
 * answers; as its other side may be gone as well, whatever waits (a live file) ends with them.
 */
export function serveStream(stream: Duplex, { log, ...options }: ServeOptions): Session {
  let ending = false;
  const flush = (): void => {
    while (!stream.writableNeedDrain && !stream.destroyed) {
      const frame = session.take();
      if (!frame) {
        if (ending) stream.end();
        return;
      }
      stream.write(frame);
    }
  };
  const session = new Session({ ...options, ready: flush, relieved: () => stream.resume() });
  stream.on('data', (chunk: Uint8Array) => {
    const fault = session.input(chunk);
    if (fault !== undefined) {
      log(`a 9P client was dropped: ${fault}`);
      stream.destroy();
    } else if (session.congested) stream.pause();
  });
  stream.on('drain', flush);
  stream.on('end', async () => {
    await session.settled();
    ending = true;
    flush();
  });
  stream.on('error', () => stream.destroy());
  stream.on('close', () => session.close());
  return session;
}
