/**
 * Hostile guests: random octets, sound headers with random contents, and random segments aimed at live connections.
 * Nothing throws, nothing loops, memory stays within its limits, and what TCP promises holds: the window's right edge
 * never moves left, octets are delivered once and in order, `closed` is told once and is the last call.
 */

import fc from 'fast-check';
import t from 'tap';
import type { CloseReason, FragmentList, TcpConnection, TcpHandler } from '../../src/stack/port.ts';
import * as tcp from '../../src/stack/wire/tcp.ts';
import { arpFrame, ethernetFrame, icmpFrame, ipFrame, pattern, readIp, transportChecksum, udpFrame } from './frames.ts';
import { assertRecorded } from './recorded-stack.ts';
import { address, World } from './world.ts';

const PEER = '10.0.0.1';
const GUEST = '192.168.65.3';

/** An owner that checks what it may rely on. */
class Wary implements TcpHandler {
  readonly windowMost: number;
  next = 1;
  isClosed = false;
  reason: CloseReason | undefined = undefined;

  constructor(windowMost: number) {
    this.windowMost = windowMost;
  }

  established(): void {
    this.#check();
  }

  room(): number {
    return this.windowMost;
  }

  received(_connection: TcpConnection, list: FragmentList): number {
    this.#check();
    let octets = 0;
    for (let i = 0; i < list.count; i++) {
      const { arena, offset, length } = list.items[i]!;
      const wanted = pattern(length, this.next);
      for (let k = 0; k < length; k++)
        if (arena.bytes[offset + k] !== wanted[k]) throw new Error(`octet ${this.next + k}`);
      this.next += length;
      octets += length;
    }
    if (octets !== list.octets || octets === 0) throw new Error('octets');
    return octets;
  }

  receivedEnd(): void {
    this.#check();
  }

  writable(connection: TcpConnection): void {
    this.#check();
    while (connection.reserveSend()) connection.commitSend(Math.min(connection.sendLength, 5000));
  }

  closed(_connection: TcpConnection, reason: CloseReason): void {
    this.#check();
    this.isClosed = true;
    this.reason = reason;
  }

  #check(): void {
    if (this.isClosed) throw new Error('called after closed');
  }
}

function settle(world: World): void {
  world.advance(2 * 3600 * 1000);
  if (world.netstack.pooledOctets > 64 << 20) throw new Error('memory');
}

t.test('random octets', async () => {
  assertRecorded(
    'hostile-1',
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 50 }),
      fc.integer({ min: 14, max: 60 }),
      (frames, split) => {
        const world = new World();
        world.link.input(frames);
        for (const frame of frames) {
          world.link.input([ethernetFrame(0x0800, frame)], 0, split);
          world.link.input([ethernetFrame(0x0806, frame)]);
          for (const protocol of [1, 6, 17, 58]) world.link.input([ipFrame(protocol, frame, { to: PEER })]);
        }
        settle(world);
      },
    ),
    { numRuns: 300 },
  );
});

t.test('sound frames with octets changed here and there', async () => {
  const change = fc.tuple(fc.nat(90), fc.nat(255));
  const samples = [
    arpFrame(1, 0x02_00_00_00_00_03, GUEST, '192.168.65.1'),
    icmpFrame(8, 0, 1, pattern(40)),
    icmpFrame(3, 4, 500, ipFrame(6, pattern(28), { from: PEER, to: GUEST }).subarray(14)),
    udpFrame(1, 53, pattern(40)),
    udpFrame(1, 53, pattern(40), { to: PEER, options: Uint8Array.of(68, 4, 5, 0) }),
    ipFrame(6, segment(1, 0, tcp.SYN, 65535, [2, 4, 5, 180, 1, 3, 3, 7], 0), { to: PEER }),
  ];
  assertRecorded(
    'hostile-2',
    fc.property(
      fc.array(fc.tuple(fc.nat(samples.length - 1), fc.array(change, { maxLength: 4 })), { maxLength: 60 }),
      (frames) => {
        const world = new World();
        for (const [index, changes] of frames) {
          const frame = samples[index]!.slice();
          for (const [at, value] of changes) frame[at % frame.length] = value;
          // As if verified below: so that more of them get beyond the checksum.
          world.link.input([frame], 1);
        }
        for (const connection of world.dialled) connection.accept(new Wary(65535));
        settle(world);
      },
    ),
    { numRuns: 500 },
  );
});

function segment(
  seq: number,
  ack: number,
  flags: number,
  window: number,
  options: readonly number[],
  octets: number,
  isn = 0,
): Uint8Array {
  const padded = [...options];
  while (padded.length % 4 !== 0) padded.push(0);
  const bytes = new Uint8Array(20 + padded.length + octets);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 40000);
  view.setUint16(2, 80);
  view.setUint32(4, (isn + seq) >>> 0);
  view.setUint32(8, ack >>> 0);
  view.setUint16(12, ((20 + padded.length) << 10) | flags);
  view.setUint16(14, window);
  bytes.set(padded, 20);
  bytes.set(pattern(octets, seq), 20 + padded.length);
  view.setUint16(16, transportChecksum(GUEST, PEER, 6, bytes));
  return bytes;
}

/** The guest's SYN offers SACK and timestamps, or one of them, or none. */
const offers = [[], [4, 2, 1, 1], [1, 1, 8, 10, 0, 0, 3, 232, 0, 0, 0, 0]] as const;
const offered = [[], offers[1], offers[2], [...offers[1], ...offers[2]]];
const word = (value: number): number[] => [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
/** As a segment of such a guest has them: timestamps, and blocks about what we sent. */
const stamp = (ticks: number): number[] => [1, 1, 8, 10, ...word(1000 + ticks), ...word(ticks)];
const blocks = (edges: readonly (readonly [number, number])[], ours: number): number[] =>
  edges.length === 0
    ? []
    : [1, 1, 5, 2 + 8 * edges.length, ...edges.flatMap(([a, b]) => [...word(ours + a), ...word(ours + b)])];

t.test('random segments at a live connection', async () => {
  const near = fc.oneof(fc.integer({ min: -3, max: 3 }), fc.integer({ min: -70_000, max: 70_000 }), fc.integer());
  const flags = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.constantFrom(tcp.ACK, tcp.ACK, tcp.ACK | tcp.PSH, tcp.ACK | tcp.FIN, tcp.ACK | tcp.RST, tcp.SYN),
    },
    { weight: 1, arbitrary: fc.nat(255) },
  );
  const sent = fc.record({
    do: fc.constant('segment' as const),
    seq: near,
    ack: near,
    flags,
    window: fc.oneof(fc.constantFrom(0, 1, 65535), fc.nat(65535)),
    options: fc.oneof(
      { weight: 1, arbitrary: fc.array(fc.nat(255), { maxLength: 40 }) },
      { weight: 2, arbitrary: fc.constant(undefined) },
    ),
    ticks: fc.oneof(fc.integer({ min: -2, max: 20 }), fc.integer()),
    edges: fc.array(fc.tuple(near, near), { maxLength: 3 }),
    octets: fc.constantFrom(0, 0, 1, 2, 536, 1460),
  });
  const done = fc.record({
    do: fc.constantFrom('write', 'end', 'abort', 'roomGrew', 'poll', 'pass', 'pass'),
    ms: fc.constantFrom(0, 1, 21, 101, 1001, 61_000),
  });
  const steps = fc.array(fc.oneof({ weight: 5, arbitrary: sent }, { weight: 2, arbitrary: done }), { maxLength: 80 });
  assertRecorded(
    'hostile-3',
    fc.property(
      fc.integer(),
      steps,
      fc.constantFrom(0, 100, 65535, 1 << 20),
      fc.boolean(),
      fc.nat(3),
      (isn, script, most, active, offer) => {
        const world = new World();
        const syn = [2, 4, 5, 180, 1, 3, 3, 7, ...offered[offer]!];
        const owner = new Wary(most);
        let rightEdge: number | undefined;
        let ours = 0;
        let theirs = 1;
        let shift = 0;
        const look = (): void => {
          world.poll();
          for (const { bytes } of world.link.take()) {
            if (bytes[12] !== 8 || bytes[13] !== 0) continue;
            const { payload, protocol } = readIp(bytes);
            if (protocol !== 6) continue;
            if (transportChecksum(PEER, GUEST, 6, payload) !== 0) throw new Error('a wrong checksum');
            const view = new DataView(payload.buffer, payload.byteOffset);
            const bits = tcp.flags(view, 0);
            const octets = payload.length - tcp.headerOctets(view, 0);
            if ((bits & tcp.RST) !== 0) continue;
            ours = (tcp.sequence(view, 0) + octets) >>> 0;
            if ((bits & tcp.ACK) === 0) continue;
            const ack = (tcp.acknowledgement(view, 0) - isn) | 0;
            const edge = (ack + (tcp.window(view, 0) << ((bits & tcp.SYN) === 0 ? shift : 0))) | 0;
            if ((bits & tcp.SYN) !== 0) {
              if (tcp.headerOctets(view, 0) > 24) shift = 7;
              rightEdge = undefined;
            }
            theirs = ack;
            if (rightEdge !== undefined && world.dialled.length <= 1 && ((edge - rightEdge) | 0) < 0)
              throw new Error('the window shrank');
            rightEdge = edge;
          }
        };
        const input = (bytes: Uint8Array): void => world.link.input([ipFrame(6, bytes, { to: PEER })]);
        let connection: TcpConnection;
        if (active) {
          world.netstack.pinNeighbor(address(GUEST), world.ingress, Uint8Array.of(2, 0, 0, 0, 0, 3));
          connection = world.netstack.connect(
            { guestAddress: address(GUEST), guestPort: 40000, peerAddress: address(PEER), peerPort: 80 },
            owner,
          );
          look();
          input(segment(0, ours + 1, tcp.SYN | tcp.ACK, 65535, syn, 0, isn));
        } else {
          input(segment(0, 0, tcp.SYN, 65535, syn, 0, isn));
          connection = world.dialled[0]!;
          connection.accept(owner);
          look();
          input(segment(1, ours + 1, tcp.ACK, 65535, offer >= 2 ? stamp(0) : [], 0, isn));
        }
        look();
        for (const step of script) {
          if (step.do === 'segment') {
            const seq = (theirs + step.seq) | 0;
            const options = step.options ?? [...(offer >= 2 ? stamp(step.ticks) : []), ...blocks(step.edges, ours)];
            input(segment(seq, ours + step.ack, step.flags, step.window, options, step.octets, isn));
          } else {
            if (step.do === 'write') owner.isClosed || owner.writable(connection);
            else if (step.do === 'pass') world.advance(step.ms);
            else if (step.do !== 'poll') connection[step.do as 'end' | 'abort' | 'roomGrew']();
          }
          look();
        }
        for (const late of world.dialled.slice(active ? 0 : 1)) late.reject('silent');
        world.advance(3_600_000);
        look();
        connection.abort();
        if (!owner.isClosed) throw new Error('closed was never told');
        settle(world);
        if (world.netstack.pooledOctets !== 0) throw new Error(`${world.netstack.pooledOctets} octets are left`);
        if (world.netstack.flows().length !== 0) throw new Error('flows are left');
      },
    ),
    { numRuns: 1000 },
  );
});

t.test('a port scan of all ports leaves nothing', async (t) => {
  const world = new World({ forwarder: { tcp: (connection) => connection.reject('reset') } });
  for (let port = 1; port <= 65_535; port += 5) {
    const frames: Uint8Array[] = [];
    for (let each = port; each < Math.min(port + 5, 65_536); each++) {
      const bytes = segment(0, 0, tcp.SYN, 1024, [], 0);
      const view = new DataView(bytes.buffer);
      view.setUint16(2, each);
      view.setUint16(16, 0);
      view.setUint16(16, transportChecksum(GUEST, PEER, 6, bytes));
      frames.push(ipFrame(6, bytes, { to: PEER }));
    }
    world.link.input(frames);
    world.poll();
    if (world.link.take().length !== frames.length) t.fail(`at port ${port}`);
  }
  t.same(world.netstack.flows(), []);
  t.equal(world.netstack.pollAt(), Number.POSITIVE_INFINITY);
});
