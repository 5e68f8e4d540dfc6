/** Streams between two stacks whose links have conditions at random: whole, always, and for the same seed the same way. */

import * as fc from 'fast-check';
import t from 'tap';
import { parseConditions } from '../../../src/stack/link/conditions.ts';
import { Pipe } from '../../../src/stack/link/pipe.ts';
import { Netstack } from '../../../src/stack/netstack.ts';
import { Pipeline } from '../../../src/stack/pipeline.ts';
import type { LinkOffload, TcpConnection, TcpHandler } from '../../../src/stack/port.ts';
import { macToBytes } from '../../../src/stack/wire/ethernet.ts';
import { address, seededRandom } from '../world.ts';

const OCTETS = 60_000;
const octetAt = (place: number): number => (place * 31 + (place >> 8)) & 0xff;

interface Outcome {
  readonly received: number;
  readonly reasons: readonly string[];
  readonly ms: number;
  readonly counts: unknown;
}

/** Left sends to right until both have closed, under a fake clock. */
function transfer(conditions: string, offload: LinkOffload, seed: number): Outcome {
  let nowMs = 1000;
  const soon: (() => void)[] = [];
  const timers = new Map<Pipeline | undefined, { at: number; run: () => void }>();
  const pipe: Pipe = new Pipe({ offload, flushed: () => void soon.push(() => pipe.deliver()) });
  let received = 0;
  const reasons: string[] = [];
  const quiet: TcpHandler = {
    established: () => undefined,
    room: () => 65_535,
    received: (_connection, octets) => octets.octets,
    receivedEnd: () => undefined,
    writable: () => undefined,
    closed: (_connection, reason) => void reasons.push(reason),
  };
  const sink: TcpHandler = {
    ...quiet,
    received: (_connection, octets) => {
      for (let i = 0; i < octets.count; i++) {
        const { arena, offset, length } = octets.items[i]!;
        for (let k = 0; k < length; k++)
          if (arena.bytes[offset + k] !== octetAt(received++)) throw new Error(`octet ${received - 1} is another`);
      }
      return octets.octets;
    },
    receivedEnd: (connection) => connection.end(),
  };
  const make = (host: number, link: Pipe['left']): [Netstack, Pipeline, number] => {
    const random = seededRandom(seed + host);
    const netstack = new Netstack({
      clock: { nowMs: () => nowMs },
      random: {
        fill: (into) => {
          for (let i = 0; i < into.length; i++) into[i] = random() * 256;
        },
      },
      forwarder: { tcp: (c) => c.accept(sink), udp: () => undefined, echo: () => undefined },
      macAddress: macToBytes(0x02_00_00_00_00_00 + host),
      gateway: address(`10.0.0.${host}`),
      hostAlias: address(`10.0.0.${host}`),
      prefix: 24,
    });
    const pipeline: Pipeline = new Pipeline({
      netstack,
      clock: { nowMs: () => nowMs },
      schedule: (when, run) => void (when === 'soon' ? soon.push(run) : timers.set(pipeline, { at: when, run })),
    });
    // At one end only: two bits turned over in one frame may cancel out in the Internet checksum.
    if (host === 1) pipeline.condition(parseConditions(`${conditions},seed=${seed}`));
    return [netstack, pipeline, pipeline.attach(link)];
  };
  const [left, leftEdge, ingress] = make(1, pipe.left);
  const [right, rightEdge] = make(2, pipe.right);
  left.pinNeighbor(address('10.0.0.2'), ingress, macToBytes(0x02_00_00_00_00_02));
  right.listenTcp(address('10.0.0.2'), 80, (connection) => connection.accept(sink));
  let sent = 0;
  const fill = (connection: TcpConnection): void => {
    while (sent < OCTETS && connection.reserveSend()) {
      const octets = Math.min(connection.sendLength, OCTETS - sent);
      for (let i = 0; i < octets; i++) connection.sendArena.bytes[connection.sendOffset + i] = octetAt(sent++);
      connection.commitSend(octets);
    }
    if (sent === OCTETS) connection.end();
  };
  left.connect(
    { guestAddress: address('10.0.0.2'), guestPort: 80, peerAddress: address('10.0.0.1'), peerPort: 0 },
    { ...quiet, established: fill, writable: fill },
  );
  for (let steps = 0; reasons.length < 2; steps++) {
    if (steps > 500_000) throw new Error('it never ends');
    const run = soon.shift();
    if (run) {
      run();
      continue;
    }
    const [next] = [...timers].sort(([, a], [, b]) => a.at - b.at);
    if (!next) break;
    timers.delete(next[0]);
    nowMs = Math.max(nowMs, next[1].at);
    next[1].run();
  }
  const counts = [leftEdge, rightEdge].map((edge) => edge.conditionCounts());
  return { received, reasons, ms: nowMs - 1000, counts };
}

const share = (most: number): fc.Arbitrary<string> => fc.nat(most * 10).map((tenths) => `${tenths / 10}%`);
const conditions = fc
  .record({
    delay: fc.nat(30),
    jitter: fc.nat(100),
    loss: share(6),
    duplicate: share(10),
    reorder: share(10),
    corrupt: share(4),
    rate: fc.constantFrom('', ',rate=2mbit,queue=40k', ',rate=100mbit'),
    burst: fc.constantFrom('', ',burst=0.5%/40%'),
  })
  .map(
    (c) =>
      `delay=${c.delay + 1}ms,jitter=${((c.delay + 1) * c.jitter) / 100}ms,loss=${c.loss},duplicate=${c.duplicate},` +
      `reorder=${c.reorder},corrupt=${c.corrupt}${c.rate}${c.burst}`,
  );
const offloads: fc.Arbitrary<LinkOffload> = fc.constantFrom(
  { checksum: false, segmentOctets: 0 },
  { checksum: true, segmentOctets: 65_535 },
);

t.test('a stream arrives whole, and both ends close', async () => {
  fc.assert(
    fc.property(conditions, offloads, fc.nat(1_000_000), (text, offload, seed) => {
      const { received, reasons } = transfer(text, offload, seed);
      // A burst counts frames, not time: it may swallow the handshake until both give up.
      fc.pre(received > 0 || reasons.some((reason) => reason !== 'ETIMEDOUT'));
      if (received !== OCTETS) throw new Error(`${received} octets`);
      // The last acknowledgement may be lost so often that who waits for it gives up; what was sent has arrived.
      if (!reasons.includes('closed')) throw new Error(reasons.join());
    }),
    { numRuns: 60 },
  );
});

t.test('the same seed, the same run', async (t) => {
  const bad = 'delay=10ms,jitter=4ms,loss=5%,duplicate=2%,reorder=3%,corrupt=2%,rate=10mbit';
  const offload = { checksum: true, segmentOctets: 65_535 };
  t.same(transfer(bad, offload, 9), transfer(bad, offload, 9));
  t.not(transfer(bad, offload, 9).ms, transfer(bad, offload, 10).ms);
});
