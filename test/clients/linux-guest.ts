/**
 * A real Linux network stack as a guest: run by `guest.ts` in a network namespace of its own, this process makes a TAP
 * there, carries its frames over a unix socket in QEMU's stream framing, and runs what the test sends it.
 */

import { execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { close, openSync, read, writeSync } from 'node:fs';
import net from 'node:net';
import { promisify } from 'node:util';
import koffi from 'koffi';

const TUNSETIFF = 0x400454ca;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const LENGTH = 4;

const [path, mtu] = process.argv.slice(2) as [string, string];

function openTap(name: string): number {
  const fd = openSync('/dev/net/tun', 'r+');
  const request = Buffer.alloc(40);
  request.write(name);
  request.writeUInt16LE(IFF_TAP | IFF_NO_PI, 16);
  const ioctl = koffi.load('libc.so.6').func('int ioctl(int fd, unsigned long request, void *argument)');
  if (ioctl(fd, TUNSETIFF, request) !== 0) throw new Error(`TUNSETIFF failed: ${koffi.errno()}`);
  return fd;
}

const ip = (...words: string[]): void => void execFileSync('ip', words);
const tap = openTap('eth0');
ip('link', 'set', 'lo', 'up');
ip('link', 'set', 'eth0', 'mtu', mtu, 'up');
ip('addr', 'add', '192.168.65.3/24', 'dev', 'eth0');
ip('route', 'add', 'default', 'via', '192.168.65.1');
// A container behind the guest.
ip('addr', 'add', '172.17.0.2/32', 'dev', 'lo');

const socket = net.connect({ path });
socket.once('connect', () => process.send!({ ready: true }));
socket.on('error', () => undefined);
socket.once('close', () => {
  close(tap, () => process.exit(0));
});

const frame = Buffer.alloc(LENGTH + 65_550);
function readFrame(): void {
  read(tap, frame, LENGTH, frame.length - LENGTH, null, (error, octets) => {
    if (error) return; // the TAP was closed
    frame.writeUInt32BE(octets);
    socket.write(Buffer.from(frame.subarray(0, LENGTH + octets)));
    readFrame();
  });
}
readFrame();

let pending: Buffer = Buffer.alloc(0);
socket.on('data', (chunk: Buffer) => {
  pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
  let at = 0;
  while (pending.length - at >= LENGTH) {
    const octets = pending.readUInt32BE(at);
    if (pending.length - at - LENGTH < octets) break;
    try {
      writeSync(tap, pending, at + LENGTH, octets);
    } catch {
      // The kernel takes no frame of this kind: lost, as on any wire.
    }
    at += LENGTH + octets;
  }
  pending = pending.subarray(at);
});

process.on('message', ({ id, source, args }: { id: number; source: string; args: unknown[] }) => {
  const task = new Function(`return (${source})`)() as (tools: object, ...args: unknown[]) => Promise<unknown>;
  Promise.resolve()
    .then(async () => {
      const [crypto, dgram, dns] = await Promise.all([import('node:crypto'), import('node:dgram'), import('node:dns')]);
      return task({ crypto, dgram, dns, net, once, exec: execFileSync, execute: promisify(execFile) }, ...args);
    })
    .then(
      (value) => process.send!({ id, value }),
      (error: NodeJS.ErrnoException) => process.send!({ id, error: error.code ?? error.message }),
    );
});
