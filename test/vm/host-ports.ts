/** The host's side of ports, as the kernel tells it: who listens where, a port that is free, servers on loopback. */

import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import { DEADLINE_MS } from './programs.ts';

/** Every listening address of the host that has `port`, such as `127.0.0.1` or `::1`, sorted. */
export function listeners(protocol: 'tcp' | 'udp', port: number): string[] {
  const found = new Set<string>();
  for (const table of [protocol, `${protocol}6`]) {
    if (!existsSync(`/proc/net/${table}`)) continue;
    for (const line of readFileSync(`/proc/net/${table}`, 'latin1').split('\n').slice(1)) {
      const [, local, , state] = line.trim().split(/\s+/);
      if (local === undefined || (protocol === 'tcp' && state !== '0A')) continue;
      const [address, hexPort] = local.split(':');
      if (Number.parseInt(hexPort!, 16) === port) found.add(addressFromHex(address!));
    }
  }
  return [...found].sort();
}

/** The kernel prints addresses as 32-bit words in the host's byte order (here little-endian). */
function addressFromHex(hex: string): string {
  const octets = Buffer.from(hex, 'hex');
  octets.swap32();
  if (octets.length === 4) return octets.join('.');
  const groups = Array.from({ length: 8 }, (_, index) => octets.readUInt16BE(index * 2).toString(16));
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

/** The first of `count` consecutive ports that nothing listens on, TCP and UDP, in either family. */
export async function freePort(count = 1): Promise<number> {
  for (;;) {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    server.close();
    const wanted = Array.from({ length: count }, (_, index) => port + index);
    const taken = (protocol: 'tcp' | 'udp') => (one: number) => listeners(protocol, one).length > 0;
    await once(server, 'close');
    if (wanted.at(-1)! < 65536 && !wanted.some(taken('tcp')) && !wanted.some(taken('udp'))) return port;
  }
}

export interface LoopbackServer {
  readonly server: Server;
  readonly port: number;
  /** Connections taken so far. */
  readonly accepted: number;
  close(): void;
}

/** A TCP server on the host's 127.0.0.1 that hands each connection (half-close allowed) to `serve`. */
export async function loopbackServer(serve: (socket: Socket) => void): Promise<LoopbackServer> {
  let accepted = 0;
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    accepted++;
    open.add(socket.on('error', () => undefined).once('close', () => open.delete(socket)));
    serve(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    server,
    port: (server.address() as AddressInfo).port,
    get accepted() {
      return accepted;
    },
    close() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}

/** Sends a datagram, again and again as UDP may lose it, until one comes back; returns that. */
export async function askUdp(host: string, port: number, text: string): Promise<string> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  socket.on('error', () => undefined);
  const answer = once(socket, 'message') as Promise<[Buffer]>;
  const deadline = performance.now() + DEADLINE_MS;
  try {
    while (performance.now() < deadline) {
      socket.send(text, port, host, () => undefined);
      const said = await Promise.race([answer, pause(1000)]);
      if (said) return said[0].toString();
    }
  } finally {
    socket.close();
  }
  throw new Error(`no answer to '${text}' from udp ${host}:${port}`);
}

/** Connects, says `text` and then the end (half-close), and returns all that comes back. */
export async function exchange(host: string, port: number, text: string): Promise<Buffer> {
  const socket = connect({ host, port, allowHalfOpen: true });
  await once(socket, 'connect');
  socket.end(text);
  return buffer(socket);
}

/** The SHA-256 of everything that a stream brings. */
export async function sha256(stream: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of stream) hash.update(chunk);
  return hash.digest('hex');
}
