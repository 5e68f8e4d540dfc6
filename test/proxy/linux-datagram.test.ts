/** Native UDP sockets, beyond what every host network does: batches, runs that the kernel cuts, turns, and errors. */

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t from 'tap';
import { Place } from '../../src/native/memory.ts';
import { Readiness } from '../../src/native/readiness.ts';
import {
  AF_INET,
  bindSocket,
  close,
  getsockname,
  IOVEC,
  IPPROTO_IP,
  MSG_DONTWAIT,
  MSGHDR,
  recvmsg,
  SOCK_DGRAM,
  SOL_SOCKET,
  setsockopt,
  socket,
} from '../../src/native/system-calls.ts';
import { LinuxDatagrams } from '../../src/proxy/adapter/linux-datagram.ts';
import { DatagramQueue } from '../../src/proxy/adapter/linux-datagram-queue.ts';
import { decodePort, encodeAddress } from '../../src/proxy/adapter/socket-address.ts';
import { NameServers } from '../../src/proxy/dns/name-servers.ts';
import { DnsUpstream } from '../../src/proxy/dns/upstream.ts';
import type { HostDatagramHandler, HostDatagramSocket, HostListener } from '../../src/proxy/port.ts';
import { formatAddress, parseAddress } from '../../src/stack/wire/address.ts';
import { seededRandom } from './gateway-fakes.ts';
import { fragmentsOf } from './host-peer.ts';

const loopback = parseAddress('127.0.0.1')!;
const everybody = parseAddress('255.255.255.255')!;
/** Without SO_NO_CHECK the kernel sums; with it, it refuses to cut. */
const SO_NO_CHECK = 11;
/** Says with each datagram how many hops it has left. */
const IP_RECVTTL = 12;

const datagrams = new LinuxDatagrams(new Readiness());

type Peer = HostListener & { socket: HostDatagramSocket };

/** Keeps what arrives; `until` resolves when there are so many. */
class Received implements HostDatagramHandler {
  readonly payloads: Buffer[] = [];
  readonly failures: string[] = [];
  #awaited = 0;
  #done: () => void = () => {};

  received(_socket: HostDatagramSocket, payload: Uint8Array): void {
    this.payloads.push(Buffer.from(payload));
    if (this.payloads.length === this.#awaited) this.#done();
  }

  failed(_socket: HostDatagramSocket, code: string, address?: Uint8Array, port?: number): void {
    this.failures.push(`${code} ${address && formatAddress(address)} ${port}`);
  }

  until(count: number): Promise<void> {
    this.#awaited = count;
    return this.payloads.length >= count ? Promise.resolve() : new Promise((resolve) => (this.#done = resolve));
  }
}

const listening = (handler: HostDatagramHandler): Promise<Peer> => datagrams.listen('127.0.0.1', 0, handler);

const filled = (length: number, octet: number): Uint8Array => new Uint8Array(length).fill(octet);

t.test('whatever is sent in one turn arrives, each datagram by itself, in order', async (t) => {
  const peers = [new Received(), new Received()] as const;
  const at = [await listening(peers[0]), await listening(peers[1])] as const;
  const sockets = [datagrams.bind(4, new Received()), datagrams.bind(4, new Received())] as const;
  // Few lengths, so that there are runs; together no more than any kernel's buffer holds.
  const length = fc.oneof(fc.constantFrom(0, 1, 100, 101, 1400, 1472), fc.integer({ min: 0, max: 3000 }));
  const sending = fc.record({ length, from: fc.constantFrom(0, 1), to: fc.constantFrom(0, 0, 0, 1) });
  await fc.assert(
    fc.asyncProperty(fc.array(sending, { minLength: 1, maxLength: 60 }), async (all) => {
      for (const peer of peers) peer.payloads.length = 0;
      const sent: [Buffer[], Buffer[]] = [[], []];
      const perSocket = [0, 0, 0, 0];
      for (const [i, { length, from, to }] of all.entries()) {
        // By whom and as which of whose, as far as it is long enough to say.
        const bytes = filled(length, i & 0xff);
        if (length > 1) bytes.set([from, perSocket[to * 2 + from]!++]);
        sent[to as 0 | 1].push(Buffer.from(bytes));
        const middle = length >> 1;
        sockets[from as 0 | 1].send(
          fragmentsOf(bytes.subarray(0, middle), bytes.subarray(middle)),
          loopback,
          at[to as 0 | 1].port,
        );
      }
      await Promise.all(peers.map((peer, i) => peer.until(sent[i as 0 | 1].length)));
      for (const i of [0, 1] as const)
        if (!Buffer.concat(peers[i].payloads).equals(Buffer.concat(sent[i]))) return false;
      return peers.every((peer, i) => peer.payloads.every((one, k) => one.length === sent[i as 0 | 1][k]!.length));
    }),
    { numRuns: 200 },
  );
  for (const one of [...at, ...sockets]) one.close();
  t.pass();
});

t.test('more octets than are gathered', async (t) => {
  const peer = new Received();
  const at = await listening(peer);
  const from = datagrams.bind(4, new Received());
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 5; i++) from.send(fragmentsOf(filled(65507, i)), loopback, at.port);
    await peer.until(5 * (round + 1));
  }
  t.ok(peer.payloads.every((one, i) => one.equals(filled(65507, i % 5))));
  from.close();
  at.close();
});

/** Each longer than the one before is no run; all of a length are runs of 64. */
for (const [kind, flood, lengthOf] of [
  ['single datagrams', 300, (i: number) => 1 + i],
  ['runs', 2000, () => 10],
] as const)
  t.test(`who gets much does not keep others waiting: ${kind}`, async (t) => {
    const order: string[] = [];
    let done: () => void = () => {};
    const all = new Promise<void>((resolve) => (done = resolve));
    const noting = (name: string): HostDatagramHandler => ({
      received() {
        order.push(name);
        if (order.length === flood + 2) done();
      },
      failed: (_, code) => t.fail(code),
    });
    const flooded = await listening(noting('flooded'));
    const quiet = [await listening(noting('quiet')), await listening(noting('quiet'))];
    const from = datagrams.bind(4, new Received());
    // Before the loop looks.
    for (let i = 0; i < flood; i++) from.send(fragmentsOf(filled(lengthOf(i), 0)), loopback, flooded.port);
    for (const one of quiet) from.send(fragmentsOf(filled(10, 0)), loopback, one.port);
    datagrams.flush();
    await all;
    const last = order.lastIndexOf('quiet');
    t.ok(last < 600 && last < flood, `both had theirs after ${last}`);
    for (const one of [from, flooded, ...quiet]) one.close();
  });

t.test('closed in the middle of a batch, a socket hears no more, and what it had waiting is not sent', async (t) => {
  const peer = new Received();
  const at = await listening(peer);
  let heard = 0;
  const closing = await listening({
    received(socket) {
      heard++;
      socket.send(fragmentsOf(filled(1, 1)), loopback, at.port);
      socket.close();
      other.send(fragmentsOf(filled(1, 2)), loopback, at.port);
    },
    failed: (_, code) => t.fail(code),
  });
  const other = datagrams.bind(4, new Received());
  for (let i = 0; i < 10; i++) other.send(fragmentsOf(filled(10, i)), loopback, closing.port);
  await peer.until(1);
  t.equal(heard, 1);
  t.same(peer.payloads, [Buffer.of(2)]);
  t.equal(closing.socket.send(fragmentsOf(filled(1, 0)), loopback, at.port), false);
  t.equal(closing.socket.port, 0);
  closing.close();
  other.close();
  at.close();
});

t.test('what the kernel refuses is told of, and the others of the batch go', async (t) => {
  const peer = new Received();
  const at = await listening(peer);
  const refused = new Received();
  const from = datagrams.bind(4, refused);
  from.send(fragmentsOf(filled(5, 1)), loopback, at.port);
  // A run, and then one by itself. Without SO_BROADCAST neither is allowed.
  for (let i = 0; i < 3; i++) from.send(fragmentsOf(filled(5, 2)), everybody, 9);
  from.send(fragmentsOf(filled(6, 2)), everybody, 9);
  from.send(fragmentsOf(filled(5, 3)), loopback, at.port);
  await peer.until(2);
  t.same(peer.payloads, [filled(5, 1), filled(5, 3)].map(Buffer.from));
  t.same(refused.failures, ['EACCES 255.255.255.255 9', 'EACCES 255.255.255.255 9']);
  from.close();
  at.close();
});

t.test('where runs cannot be cut, their datagrams go one by one', async (t) => {
  const peer = new Received();
  const at = await listening(peer);
  const fd = socket(AF_INET, SOCK_DGRAM, 0);
  const one = new Place(4);
  one.view.setInt32(0, 1, true);
  t.equal(setsockopt(fd, SOL_SOCKET, SO_NO_CHECK, one.address, 4), 0);
  const failures: string[] = [];
  const sender = { fd, cuts: true, unsent: (code: string) => failures.push(code) };
  const queue = new DatagramQueue();
  for (let i = 0; i < 5; i++) t.ok(queue.add(sender, fragmentsOf(filled(i < 4 ? 100 : 50, i)), loopback, at.port, 0));
  queue.flush();
  t.ok(queue.isEmpty);
  await peer.until(5);
  t.same(
    peer.payloads,
    [0, 1, 2, 3, 4].map((i) => Buffer.from(filled(i < 4 ? 100 : 50, i))),
  );
  t.notOk(sender.cuts, 'and later ones at once');
  t.same(failures, []);
  close(fd);
  at.close();
});

t.test('DF: what is larger than the path takes is answered with its MTU; what may be cut arrives', async (t) => {
  const program = fileURLToPath(new URL('./path-mtu-program.ts', import.meta.url));
  const script = `ip link set lo mtu 1400 up && ip addr add 10.9.0.1/32 dev lo && ip addr add fd99::1/128 dev lo &&
    exec "$0" "$1"`;
  const argv = ['--user', '--map-root-user', '--net', 'sh', '-c', script, process.execPath, program];
  const { stdout, stderr } = spawnSync('unshare', argv, { encoding: 'utf8' });
  const { heard, unreachable } = JSON.parse(stdout || `{"heard":${JSON.stringify(stderr)}}`);
  t.same(heard.sort(), ['1000', '1000', '1300', '1300', '1450', '1450']);
  t.same(unreachable.sort(), ['too-big 1400 10.9.0.1 7', 'too-big 1400 fd99::1 7']);
});

t.test('each datagram has the hops that it was given, runs too', async (t) => {
  const fd = socket(AF_INET, SOCK_DGRAM, 0);
  const name = new Place(16);
  t.equal(bindSocket(fd, name.address, encodeAddress(name, loopback, 0)), 0);
  const word = new Place(4);
  word.view.setInt32(0, 1, true);
  t.equal(setsockopt(fd, IPPROTO_IP, IP_RECVTTL, word.address, 4), 0);
  word.view.setUint32(0, 16, true);
  getsockname(fd, name.address, word.address);
  const port = decodePort(name.view, 0);
  const sender = datagrams.bind(4, new Received());
  const hops = [7, 7, 3, 3, 3, 7, 255, undefined, 1];
  for (const hopLimit of hops) t.ok(sender.send(fragmentsOf(filled(10, 1)), loopback, port, hopLimit));
  datagrams.flush();

  const [message, vector, payload, control] = [new Place(MSGHDR), new Place(IOVEC), new Place(64), new Place(64)];
  vector.setPointer(0, payload.address);
  vector.setPointer(8, 64);
  message.setPointer(16, vector.address);
  message.setPointer(24, 1);
  message.setPointer(32, control.address);
  const arrived: number[] = [];
  for (;;) {
    message.setPointer(40, 64);
    if (recvmsg(fd, message.address, MSG_DONTWAIT) < 0) break;
    arrived.push(control.view.getInt32(16, true));
  }
  t.same(
    arrived,
    hops.map((hopLimit) => hopLimit ?? 7),
    'what says nothing has what the first had',
  );
  sender.close();
  close(fd);
});

t.test('a port that is taken, an address that is none, a family that does not fit', async (t) => {
  const at = await listening(new Received());
  await t.rejects(datagrams.listen('127.0.0.1', at.port, new Received()), { code: 'EADDRINUSE' });
  await t.rejects(datagrams.listen('192.0.2.1', 0, new Received()), { code: 'EADDRNOTAVAIL' });
  await t.rejects(datagrams.listen('localhost', 0, new Received()), { code: 'EINVAL' });
  const failures = new Received();
  const from = datagrams.bind(6, failures);
  from.send(fragmentsOf(filled(5, 1)), loopback, at.port);
  datagrams.flush();
  t.equal(failures.failures.length, 1);
  from.close();
  at.close();
});

t.test('DNS: a server whose host says that nobody listens costs no time', async (t) => {
  const gone = await listening(new Received());
  const server = await listening({
    received(socket, payload, address, port) {
      const answer = payload.slice();
      answer[2]! |= 0x80;
      socket.send(fragmentsOf(answer), address, port);
    },
    failed: (_, code) => t.fail(code),
  });
  gone.close();
  const servers = [gone, server].map(({ port }) => ({ address: loopback, port }));
  const order = new NameServers({ current: () => ({ servers, search: [] }) });
  order.refresh();
  // Time stands still: only the error can lead on.
  const hostNet = { bindDatagram: (family: 4 | 6, handler: HostDatagramHandler) => datagrams.bind(family, handler) };
  const upstream = new DnsUpstream(hostNet, { nowMs: () => 0 }, seededRandom());
  const query = Uint8Array.of(0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0x61, 0, 0, 1, 0, 1);
  for (let i = 0; i < 3; i++) {
    const answer = await new Promise<Uint8Array | undefined>((resolve) =>
      upstream.ask(query, query.length, order.of(query, query.length - 4), {
        answered: (answer) => resolve(answer?.slice()),
      }),
    );
    t.same(answer?.slice(3), query.slice(3));
  }
  upstream.close();
  server.close();
});

t.test('a thousand sockets at once, each with its own replies', async (t) => {
  const echo: HostDatagramHandler = {
    received: (socket, payload, address, port) => void socket.send(fragmentsOf(payload.slice()), address, port),
    failed: () => undefined,
  };
  const at = await listening(echo);
  const peers = Array.from({ length: 1000 }, () => new Received());
  const sockets = peers.map((peer) => datagrams.bind(4, peer));
  t.equal(new Set(sockets.map(({ port }) => port)).size, 1000);
  for (const [i, socket] of sockets.entries()) {
    socket.send(fragmentsOf(Buffer.from(`${i}`)), loopback, at.port);
    // No more under way than the listener's buffer holds.
    if (i % 100 === 99) await Promise.all(peers.slice(i - 99, i + 1).map((peer) => peer.until(1)));
  }
  t.same(
    peers.map(({ payloads }) => payloads.map(String)),
    peers.map((_, i) => [`${i}`]),
  );
  for (const socket of sockets) socket.close();
  at.close();
});
