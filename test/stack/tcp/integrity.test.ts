/** Streams between two netstacks stay whole, whatever the wire does; memory stays bounded, whatever the readers do. */

import fc from 'fast-check';
import t from 'tap';
import type { CloseReason, Forwarder, FragmentList, TcpConnection, TcpHandler } from '../../../src/stack/port.ts';
import type { TcpLimits } from '../../../src/stack/tcp/limits.ts';
import { type Conditions, LossyWire } from '../lossy-wire.ts';
import { assertRecorded } from '../recorded-stack.ts';
import { address, seededRandom } from '../world.ts';

/** Sends `total` octets of a pattern, checks what comes, reads in fits and starts. */
class Stream implements TcpHandler {
  readonly total: number;
  sent = 0;
  received_ = 0;
  ended = false;
  reason: CloseReason | undefined = undefined;
  readonly #random: () => number;
  readonly #room: () => number;

  constructor(total: number, seed: number, room: () => number) {
    this.total = total;
    this.#random = seededRandom(seed);
    this.#room = room;
  }

  established(connection: TcpConnection): void {
    this.write(connection);
  }

  room(): number {
    return this.#room();
  }

  received(_connection: TcpConnection, list: FragmentList): number {
    let at = this.received_;
    for (let i = 0; i < list.count; i++) {
      const { arena, offset, length } = list.items[i]!;
      for (let k = 0; k < length; k++)
        if (arena.bytes[offset + k] !== octetAt(at + k)) throw new Error(`octet ${at + k} is wrong`);
      at += length;
    }
    this.received_ = at;
    return list.octets;
  }

  receivedEnd(): void {
    this.ended = true;
  }

  writable(connection: TcpConnection): void {
    this.write(connection);
  }

  closed(_connection: TcpConnection, reason: CloseReason): void {
    this.reason = reason;
  }

  write(connection: TcpConnection): void {
    while (this.sent < this.total && connection.reserveSend()) {
      const octets = Math.min(connection.sendLength, this.total - this.sent, 1 + Math.floor(this.#random() * 30_000));
      const { bytes } = connection.sendArena;
      for (let k = 0; k < octets; k++) bytes[connection.sendOffset + k] = octetAt(this.sent + k);
      connection.commitSend(octets);
      this.sent += octets;
    }
    if (this.sent === this.total) connection.end();
  }
}

const octetAt = (at: number): number => ((at * 31) ^ (at >> 8) ^ (at >> 16)) & 0xff;
const none: Forwarder = {
  tcp: (connection) => connection.reject('reset'),
  udp: () => undefined,
  echo: () => undefined,
};

function exchange(
  seed: number,
  conditions: Conditions,
  up: number,
  down: number,
  mtu: number,
  stingy: boolean,
  ipv6 = false,
  limits: Partial<TcpLimits> = {},
) {
  const random = seededRandom(seed + 1);
  const room = stingy ? (): number => Math.floor(random() * 20_000) : (): number => 1 << 20;
  const client = new Stream(up, seed + 2, room);
  const server = new Stream(down, seed + 3, room);
  const connections: TcpConnection[] = [];
  const wire = new LossyWire(
    seed,
    conditions,
    {
      left: {
        ...none,
        tcp: (connection) => {
          connections.push(connection);
          connection.accept(server);
        },
      },
      right: none,
    },
    mtu,
    limits,
    ipv6,
  );
  const to = ipv6
    ? { guestAddress: address('2001:db8::1'), guestPort: 80, peerAddress: address('fd00::81'), peerPort: 0 }
    : { guestAddress: address('10.0.0.1'), guestPort: 80, peerAddress: address('192.168.65.129'), peerPort: 0 };
  connections.push(wire.right.connect(to, client));
  // A stingy reader's room grows by itself: it says so now and then.
  const done = (): boolean => client.reason !== undefined && server.reason !== undefined;
  // An hour of theirs: with losses and without selective acknowledgements timeouts follow each other for minutes.
  for (let turns = 0; turns < 720_000 && !done(); turns++) {
    wire.run(stingy ? 5 : 60_000, done);
    for (const connection of connections) connection.roomGrew();
  }
  return { client, server, wire };
}

t.test('both streams arrive whole and both ends close in order', async (t) => {
  const conditions = fc.record({
    loss: fc.constantFrom(0, 0, 0.01, 0.1),
    repetition: fc.constantFrom(0, 0.05),
    corruption: fc.constantFrom(0, 0.02),
    jitterMs: fc.constantFrom(0, 0, 1, 20),
    delayMs: fc.constantFrom(0.05, 5),
    room: fc.constantFrom(4, 100, 10_000),
    patient: fc.boolean(),
  });
  const octets = fc.constantFrom(0, 1, 1459, 1460, 1461, 100_000, 700_000);
  assertRecorded(
    'integrity',
    fc.property(
      fc.integer({ min: 1, max: 1 << 30 }),
      conditions,
      octets,
      octets,
      fc.constantFrom(576, 1500, 9000, 65520),
      fc.boolean(),
      fc.boolean(),
      fc.record({ timestamps: fc.boolean(), sack: fc.boolean() }),
      (seed, how, up, down, mtu, stingy, ipv6, limits) => {
        const { client, server, wire } = exchange(seed, how, up, down, mtu, stingy, ipv6 && mtu >= 1280, limits);
        if (client.received_ !== down) throw new Error(`the client has ${client.received_} of ${down}`);
        if (server.received_ !== up) throw new Error(`the server has ${server.received_} of ${up}`);
        if (!client.ended || !server.ended) throw new Error('an end is missing');
        // The last acknowledgement may be lost with the side that waits for nothing gone: then the other gives up.
        if (client.reason !== 'closed' || server.reason !== 'closed')
          throw new Error(`${client.reason} ${server.reason}`);
        wire.run(60_000);
        if (wire.left.flows().length + wire.right.flows().length > 0) throw new Error('flows are left');
        if (wire.left.pooledOctets + wire.right.pooledOctets > 0) throw new Error('memory is left');
      },
    ),
    { numRuns: 60 },
  );
  t.pass('60 exchanges');
});

t.test('a clean wire loses nothing and repeats nothing', async (t) => {
  const { client, server, wire } = exchange(7, { delayMs: 0.05 }, 3_000_000, 3_000_000, 1500, false);
  t.equal(client.received_, 3_000_000);
  t.equal(server.received_, 3_000_000);
  t.same(
    Object.values(wire.left.drops).reduce((a, b) => a + b),
    0,
  );
  t.same(
    Object.values(wire.right.drops).reduce((a, b) => a + b),
    0,
  );
});

t.test('stopped readers bound memory both ways, for as long as they like, and lose nothing', async (t) => {
  let reading = false;
  const room = (): number => (reading ? 1 << 20 : 0);
  const client = new Stream(20_000_000, 1, room);
  const server = new Stream(20_000_000, 2, room);
  const connections: TcpConnection[] = [];
  const tcp = (connection: TcpConnection): void => {
    connections.push(connection);
    connection.accept(server);
  };
  const wire = new LossyWire(3, {}, { left: { ...none, tcp }, right: none });
  const to = { guestAddress: address('10.0.0.1'), guestPort: 80, peerAddress: address('192.168.65.129'), peerPort: 0 };
  connections.push(wire.right.connect(to, client));
  wire.run(3_600_000);
  for (const [stream, stack] of [
    [client, wire.right],
    [server, wire.left],
  ] as const) {
    t.equal(stream.received_, 0);
    t.ok(stream.sent > 0 && stream.sent <= 2 << 20, `${stream.sent} octets wait`);
    t.ok(stack.pooledOctets <= 3 << 20);
    t.equal(stack.flows()[0]?.state, 'ESTABLISHED');
  }
  t.equal(wire.left.flows()[0]?.waitsFor, 'guest window');
  reading = true;
  for (const connection of connections) connection.roomGrew();
  wire.run(120_000, () => client.reason !== undefined && server.reason !== undefined);
  t.equal(client.received_, 20_000_000);
  t.equal(server.received_, 20_000_000);
  t.same([client.reason, server.reason], ['closed', 'closed']);
});
