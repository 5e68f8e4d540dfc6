/** What Linux's own sockets do beyond the conformance of every adapter. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { addressOf, Place } from '../../src/native/memory.ts';
import { Readiness, type ReadyHandler } from '../../src/native/readiness.ts';
import {
  AF_INET,
  AF_UNIX,
  close,
  codeOf,
  connectSocket,
  EPOLLET,
  EPOLLIN,
  EPOLLOUT,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  SOCKADDR,
  send,
  socket,
} from '../../src/native/system-calls.ts';
import { LinuxHostNet } from '../../src/proxy/adapter/linux-host-net.ts';
import { decodeAddress, decodePort, encodeAddress, encodePath } from '../../src/proxy/adapter/socket-address.ts';
import { END, WOULD_BLOCK } from '../../src/proxy/port.ts';
import { withScope } from '../../src/proxy/scoped-address.ts';
import { formatAddress, parseAddress } from '../../src/stack/wire/address.ts';
import { HostPeer } from './host-peer.ts';

const MSG_OOB = 1;
const epollSets = (): number =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventpoll]';
    } catch {
      return false; // the directory's own
    }
  }).length;

t.test('addresses go to the kernel and come back', async (t) => {
  const place = new Place(SOCKADDR);
  for (const [text, length] of [
    ['10.1.2.3', 16],
    ['fd00::1:2', 28],
  ] as const) {
    t.equal(encodeAddress(place, parseAddress(text)!, 54321), length);
    t.equal(formatAddress(decodeAddress(place.view, 0)!), text);
    t.equal(decodePort(place.view, 0), 54321);
  }
  encodeAddress(place, parseAddress('fe80::1')!, 1);
  t.equal(decodeAddress(place.view, 0), undefined, 'a link-local address is nothing without its zone');
  const zoned = withScope(parseAddress('fe80::1')!, 3);
  encodeAddress(place, zoned, 1);
  t.same(decodeAddress(place.view, 0), zoned);
  t.equal(encodePath(place, '/x'.repeat(53)), 109);
  t.equal(place.view.getUint16(0, true), AF_UNIX);
  t.equal(encodePath(place, `${'/x'.repeat(53)}/y`), 0, 'too long');
  t.equal(codeOf(-111), 'ECONNREFUSED');
  t.equal(codeOf(113), 'EHOSTUNREACH');
});

t.test('one read fills several places, in their order', async (t) => {
  const host = new LinuxHostNet();
  await host.loaded;
  const bytes = Buffer.from(Array.from({ length: 5000 }, (_, i) => i % 251));
  const server = net.createServer((socket) => socket.end(bytes));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as net.AddressInfo;
  const memory = new Uint8Array(10_000);
  const arena = { bytes: memory, view: new DataView(memory.buffer) };
  // Not in the order of their addresses, and with gaps.
  const items = [
    { arena, offset: 7000, length: 1000 },
    { arena, offset: 0, length: 1 },
    { arena, offset: 100, length: 3500 },
  ];
  const got: number[] = [];
  const results: number[] = [];
  await new Promise<void>((resolve) => {
    host.connect(parseAddress('127.0.0.1')!, port, {
      connected: () => undefined,
      readable: (stream) => {
        for (;;) {
          const octets = stream.readv!({ items, count: items.length, octets: 4501 });
          if (octets <= 0) {
            results.push(octets);
            if (octets === END) stream.end();
            return;
          }
          let left = octets;
          for (const { offset, length } of items) {
            got.push(...memory.subarray(offset, offset + Math.min(left, length)));
            left -= Math.min(left, length);
          }
        }
      },
      writable: () => undefined,
      closed: () => resolve(),
    });
  });
  server.close();
  t.ok(Buffer.from(got).equals(bytes));
  t.equal(results.at(-1), END);
  t.ok(results.slice(0, -1).every((result) => result === WOULD_BLOCK));
});

t.test('urgent data does not stop a stream', async (t) => {
  const host = new LinuxHostNet();
  await host.loaded;
  const peer = new HostPeer();
  const listener = await host.listen('127.0.0.1', 0, (stream) => {
    peer.connected(stream);
    return peer;
  });
  const name = new Place(SOCKADDR);
  const fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  t.equal(connectSocket(fd, name.address, encodeAddress(name, parseAddress('127.0.0.1')!, listener.port)), 0);
  const say = (text: string, flags: number): number => {
    const bytes = Buffer.from(text);
    return send(fd, addressOf(bytes), bytes.length, flags);
  };
  // All of it lies in the socket before it is looked at for the first time.
  t.equal(say('before', 0), 6);
  t.equal(say('U', MSG_OOB), 1);
  t.equal(say('after', 0), 5);
  await peer.until(() => peer.receivedOctets >= 11);
  t.equal(say('urgent', MSG_OOB), 6);
  t.equal(say('end', 0), 3);
  await peer.until(() => peer.receivedOctets >= 19);
  t.equal(peer.bytes.toString(), 'beforeafterurgenend', 'the urgent octets themselves are out of band');
  close(fd);
  await peer.until(() => peer.ended);
  peer.stream.abort();
  listener.close();
});

t.test('a reset is noticed by a stream that has nothing left to read', async (t) => {
  const host = new LinuxHostNet();
  await host.loaded;
  const server = net.createServer({ allowHalfOpen: true }, (far) => far.on('error', () => {}).end()).listen(0);
  await once(server, 'listening');
  const peer = new HostPeer();
  const accepted = once(server, 'connection');
  host.connect(parseAddress('127.0.0.1')!, (server.address() as net.AddressInfo).port, peer);
  await peer.until(() => peer.ended);
  const [far] = (await accepted) as [net.Socket];
  if (!far.writableFinished) await once(far, 'finish');
  far.resetAndDestroy();
  await peer.until(() => peer.isClosed);
  t.match(peer.code, /^(ECONNRESET|EPIPE)$/);
  server.close();
});

t.test('a descriptor used anew is not mistaken for the one before', async (t) => {
  const told: string[] = [];
  const readiness = new Readiness();
  const name = new Place(SOCKADDR);
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  const dial = (): number => {
    const fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    connectSocket(fd, name.address, encodeAddress(name, parseAddress('127.0.0.1')!, port));
    return fd;
  };
  const watch = (fd: number, handler: ReadyHandler): number => readiness.add(fd, EPOLLIN | EPOLLOUT | EPOLLET, handler);
  const [first, second] = [dial(), dial()];
  let [replaced, ofReplaced] = [-1, -1];
  const registrations: number[] = [];
  await new Promise<void>((resolve) => {
    const third: ReadyHandler = {
      ready() {
        told.push('third');
        resolve();
      },
    };
    // Whichever is told first closes the other, whose event is in the same batch, and opens a third in its place.
    const rival = (own: string, other: number, fd: number): ReadyHandler => ({
      ready() {
        told.push(own);
        readiness.remove(registrations[other]!);
        close(fd);
        replaced = dial();
        t.equal(replaced, fd, 'the same descriptor');
        ofReplaced = watch(replaced, third);
      },
    });
    registrations.push(watch(first, rival('one', 1, second)), watch(second, rival('other', 0, first)));
  });
  t.equal(told.length, 2, `one of two, and the third: ${told}`);
  for (const registration of [...registrations, ofReplaced]) readiness.remove(registration);
  for (const fd of [replaced, told[0] === 'one' ? first : second]) close(fd);
  server.close();
});

t.test('all share one epoll set', async (t) => {
  await new LinuxHostNet().loaded;
  const before = epollSets();
  const hosts = [new LinuxHostNet(), new LinuxHostNet()];
  for (const host of hosts) await host.loaded;
  t.equal(epollSets(), before);
  const peers = hosts.map(() => new HostPeer());
  const listener = await hosts[0]!.listen('127.0.0.1', 0, () => new HostPeer());
  for (const [i, host] of hosts.entries()) host.connect(parseAddress('127.0.0.1')!, listener.port, peers[i]!);
  for (const peer of peers) await peer.until(() => peer.isConnected);
  for (const peer of peers) peer.stream.abort();
  listener.close();
  for (const peer of peers) await peer.until(() => peer.isClosed);
});

t.test('out of descriptors, those in the backlog are served when there are some again', async (t) => {
  const program = fileURLToPath(new URL('./linux-stream-program.ts', import.meta.url));
  const child = spawn('sh', ['-c', 'ulimit -n 64; exec "$@"', 'sh', process.execPath, program], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const clients = Array.from({ length: 120 }, () => net.connect(Number(line.toString()), '127.0.0.1'));
  await Promise.all(clients.map((client) => once(client, 'connect')));
  // More than it has descriptors for wait by now; each goes as soon as it has been greeted.
  const greeted = clients.map((client) => once(client, 'data').then(() => client.end()));
  child.stdin.write('\n');
  await Promise.all(greeted);
  child.stdin.end();
  t.same(await once(child, 'exit'), [0, null]);
});
