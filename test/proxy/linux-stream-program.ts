/** Listens, waits for a line on standard input before it looks at anybody, and greets whoever comes with one octet. */

import { readSync } from 'node:fs';
import { LinuxHostNet } from '../../src/proxy/adapter/linux-host-net.ts';
import { END, type StreamHandler } from '../../src/proxy/port.ts';
import { fragmentsOf } from './host-peer.ts';

const scratch = new Uint8Array(16);
const greeter: StreamHandler = {
  connected() {},
  readable(stream) {
    if (stream.read(scratch, 0, scratch.length) === END) stream.end();
  },
  writable() {},
  closed() {},
};

const net = new LinuxHostNet();
await net.loaded;
const listener = await net.listen('127.0.0.1', 0, (stream) => {
  stream.writev(fragmentsOf(Uint8Array.of(33)));
  return greeter;
});
process.stdout.write(`${listener.port}\n`);
readSync(0, new Uint8Array(1));
process.stdin.on('end', () => listener.close()).resume();
