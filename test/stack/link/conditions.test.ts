/** Conditions on a link, under a fake clock: every kind of them, both ways, and what they may not do. */

import * as fc from 'fast-check';
import t from 'tap';
import { CHECKSUM_PARTIAL, FrameBatch } from '../../../src/stack/frame-batch.ts';
import { ConditionedLink } from '../../../src/stack/link/conditioned-link.ts';
import { ConditionsError, parseConditions } from '../../../src/stack/link/conditions.ts';
import { DueQueue } from '../../../src/stack/link/due-queue.ts';
import { FramePool } from '../../../src/stack/link/frame-pool.ts';
import { SegmentCutter } from '../../../src/stack/link/segmentation.ts';
import { Netstack } from '../../../src/stack/netstack.ts';
import { Pipeline } from '../../../src/stack/pipeline.ts';
import type { LinkOffload } from '../../../src/stack/port.ts';
import { fold, sum } from '../../../src/stack/wire/checksum.ts';
import { macToBytes } from '../../../src/stack/wire/ethernet.ts';
import { arenaOf, FakeLink } from '../fake-link.ts';
import { ethernetFrame, icmpFrame, ipFrame, pattern, transportChecksum, udpFrame } from '../frames.ts';
import { address, GATEWAY_MAC, seededRandom } from '../world.ts';

/** A link made worse, what came out of it at which time, and a clock. */
class Bad {
  nowMs = 0;
  readonly link: FakeLink;
  readonly conditioned: ConditionedLink;
  /** Frames for the stack. */
  readonly up: { atMs: number; bytes: Uint8Array }[] = [];
  readonly down: { atMs: number; bytes: Uint8Array }[] = [];
  writable = 0;
  deserted = 0;
  closed = 0;

  constructor(text: string, options: { offload?: LinkOffload; poolOctets?: number } = {}) {
    this.link = new FakeLink(1500, options.offload);
    this.conditioned = new ConditionedLink(this.link, { clock: { nowMs: () => this.nowMs }, ...options });
    this.conditioned.use(parseConditions(text));
    this.conditioned.start({
      input: (batch) => {
        for (let i = 0; i < batch.count; i++) {
          const bytes = new Uint8Array(batch.octets[i]!);
          let place = 0;
          for (let f = batch.first[i]!; place < bytes.length; f++) {
            const begin = batch.offset[f]!;
            bytes.set(batch.arena[f]!.bytes.subarray(begin, begin + batch.length[f]!), place);
            place += batch.length[f]!;
          }
          this.up.push({ atMs: this.nowMs, bytes });
        }
      },
      writable: () => void this.writable++,
      deserted: () => void this.deserted++,
      closed: () => void this.closed++,
    });
  }

  send(...frames: Uint8Array[]): boolean {
    const link = this.conditioned;
    for (const frame of frames) {
      if (!link.reserve(frame.length)) return false;
      link.txArena.bytes.set(frame, link.txOffset);
      link.commit(frame.length, 0, 0, 0);
    }
    link.flush();
    this.#took();
    return true;
  }

  receive(...frames: Uint8Array[]): void {
    this.link.input(frames);
  }

  advance(ms: number): void {
    const end = this.nowMs + ms;
    for (let polls = 0; this.conditioned.pollAt() <= end; polls++) {
      if (polls > 100_000) throw new Error('polled for ever');
      this.nowMs = Math.max(this.nowMs, this.conditioned.pollAt());
      this.conditioned.poll(this.nowMs);
      this.#took();
    }
    this.nowMs = end;
  }

  #took(): void {
    for (const { bytes } of this.link.take()) this.down.push({ atMs: this.nowMs, bytes });
  }
}

/** Frames that tell which they are. */
const numbered = (count: number, octets = 100): Uint8Array[] =>
  Array.from({ length: count }, (_, i) => udpFrame(1000, 2000, Uint8Array.of(i >> 8, i, ...pattern(octets))));
const numberOf = ({ bytes }: { bytes: Uint8Array }): number => (bytes[42]! << 8) | bytes[43]!;

t.test('none: straight through, with the link’s own memory and offload', async (t) => {
  const offload = { checksum: true, segmentOctets: 65535 };
  const bad = new Bad('', { offload });
  t.equal(bad.conditioned.offload, offload);
  t.equal(bad.conditioned.txArena, bad.link.txArena);
  const [frame] = numbered(1);
  bad.send(frame!);
  bad.receive(frame!);
  t.same([bad.down.length, bad.up.length, bad.conditioned.kept], [1, 1, 0]);
  t.equal(bad.conditioned.pollAt(), Number.POSITIVE_INFINITY);
});

t.test('delay, each way', async (t) => {
  const bad = new Bad('delay=40ms,direction=up; delay=10ms');
  const [frame] = numbered(1);
  bad.send(frame!);
  bad.receive(frame!);
  t.same([bad.down, bad.up], [[], []]);
  t.equal(bad.conditioned.pollAt(), 10);
  bad.advance(100);
  t.same([bad.down, bad.up], [[{ atMs: 10, bytes: frame }], [{ atMs: 40, bytes: frame }]]);
});

t.test('jitter keeps the order', async (t) => {
  const bad = new Bad('delay=20ms,jitter=10ms');
  const frames = numbered(300);
  for (const frame of frames) {
    bad.receive(frame);
    bad.advance(1);
  }
  bad.advance(100);
  t.same(bad.up.map(numberOf), [...frames.keys()]);
  const delays = bad.up.map(({ atMs }, i) => atMs - i);
  t.ok(delays.every((delay) => delay >= 10 && delay <= 30));
  t.ok(Math.max(...delays) - Math.min(...delays) > 5);
});

t.test('loss is as often as it says, and the same for the same seed', async (t) => {
  const lost = (text: string) => {
    const bad = new Bad(text);
    bad.receive(...numbered(5000, 4));
    return { numbers: bad.up.map(numberOf), lost: bad.conditioned.counts.lost };
  };
  const one = lost('loss=5%,seed=7');
  t.equal(one.numbers.length + one.lost, 5000);
  t.ok(one.lost > 200 && one.lost < 300, `${one.lost}`);
  t.same(lost('loss=5%,seed=7'), one);
  t.not(lost('loss=5%,seed=8').numbers.join(), one.numbers.join());
  t.equal(lost('loss=100%').lost, 5000);
});

t.test('losses one way do not move those the other way', async (t) => {
  const frames = numbered(500, 4);
  const run = (withDown: boolean): number[] => {
    const bad = new Bad('loss=10%');
    for (const frame of frames) {
      if (withDown) bad.send(frame);
      bad.receive(frame);
    }
    return bad.up.map(numberOf);
  };
  t.same(run(true), run(false));
});

t.test('burst: losses come together', async (t) => {
  const bad = new Bad('burst=1%/20%');
  bad.receive(...numbered(20_000, 4));
  const numbers = new Set<number>();
  let bursts = 0;
  let previous = -1;
  // Numbers go round at 65536, far beyond these.
  for (const entry of bad.up) {
    const number = numberOf(entry);
    if (number > previous + 1) bursts++;
    previous = number;
    numbers.add(number);
  }
  const { lost } = bad.conditioned.counts;
  t.ok(lost > 600 && lost < 1400, `${lost} lost: 20000 x 1/21`);
  t.ok(lost / bursts > 3.5 && lost / bursts < 6.5, `${lost / bursts} a burst: 1/20 %`);
});

t.test('rate: frames leave as a wire would carry them, and the queue has an end', async (t) => {
  const bad = new Bad('rate=1mbit,queue=10k,direction=down');
  const frames = numbered(100, 1000 - 44);
  t.ok(frames.every(({ length }) => length === 1000));
  bad.send(...frames);
  bad.advance(1000);
  // 1000 octets take 8 ms; one is on the wire and ten wait.
  t.same(
    bad.down.map(({ atMs }) => atMs),
    Array.from({ length: 10 }, (_, i) => 8 * (i + 1)),
  );
  t.equal(bad.conditioned.counts.queueFull, 90);
  bad.send(frames[0]!);
  bad.advance(8);
  t.equal(bad.down.length, 11, 'idle time is not saved up');
  t.equal(bad.down[10]!.atMs, 1008);
});

t.test('a frame larger than the queue goes when nothing waits', async (t) => {
  const bad = new Bad('rate=1mbit,queue=100');
  bad.send(...numbered(2, 956));
  bad.advance(100);
  t.equal(bad.down.length, 1);
});

t.test('reorder: some overtake', async (t) => {
  const bad = new Bad('delay=10ms,reorder=10%');
  const frames = numbered(1000, 4);
  for (const frame of frames) {
    bad.receive(frame);
    bad.advance(1);
  }
  bad.advance(50);
  const numbers = bad.up.map(numberOf);
  t.not(numbers.join(), [...frames.keys()].join());
  t.same(
    numbers.toSorted((a, b) => a - b),
    [...frames.keys()],
  );
  const { reordered } = bad.conditioned.counts;
  t.ok(reordered > 70 && reordered < 130);
  t.equal(bad.up.filter((entry) => entry.atMs === numberOf(entry)).length, reordered);
});

t.test('duplicate and corrupt: twice the frame, one bit of it', async (t) => {
  const [frame] = numbered(1);
  const twice = new Bad('duplicate=100%');
  twice.receive(frame!);
  t.same(
    twice.up.map(({ bytes }) => bytes),
    [frame, frame],
  );
  const bent = new Bad('corrupt=100%');
  for (let i = 0; i < 200; i++) bent.send(frame!);
  for (const { bytes } of bent.down) {
    let bits = 0;
    for (const [i, octet] of bytes.entries()) {
      const changed = (octet ^ frame![i]!).toString(2).replaceAll('0', '').length;
      if (i < 14 && changed > 0) t.fail('the Ethernet header is spared');
      bits += changed;
    }
    if (bits !== 1) t.fail(`${bits} bits`);
  }
  t.equal(bent.conditioned.counts.corrupted, 200);
  bent.send(new Uint8Array(14));
});

t.test('per destination: the first rule that fits', async (t) => {
  const bad = new Bad('to=10.0.0.0/8,loss=100%; to=1.1.1.1,delay=5ms; direction=down,to=10.0.0.0/8,loss=0%');
  const to = (host: string) => udpFrame(1, 2, pattern(3), { to: host });
  bad.receive(to('10.9.9.9'), to('1.1.1.1'), to('8.8.8.8'));
  t.equal(bad.up.length, 1);
  bad.send(udpFrame(1, 2, pattern(3), { from: '10.1.1.1' }), udpFrame(1, 2, pattern(3), { to: '10.1.1.1' }));
  bad.advance(5);
  t.equal(bad.up.length, 2);
  t.equal(bad.down.length, 1, 'for frames to the guest it is the source that counts');
});

t.test('changed while frames are on their way', async (t) => {
  const bad = new Bad('delay=40ms', { offload: { checksum: true, segmentOctets: 65535 } });
  const frames = numbered(3);
  t.equal(bad.conditioned.offload.segmentOctets, 0);
  bad.send(frames[0]!);
  bad.conditioned.use(parseConditions('none'));
  bad.send(frames[1]!);
  t.same(bad.down.map(numberOf), [1], 'what follows is not delayed');
  t.equal(bad.conditioned.offload.segmentOctets, 0);
  bad.advance(40);
  t.same(bad.down.map(numberOf), [1, 0]);
  t.equal(bad.conditioned.offload.segmentOctets, 65535);
  bad.send(frames[2]!);
  t.equal(bad.conditioned.txArena, bad.link.txArena);
});

t.test('a link that is full makes the stack wait; nothing is lost', async (t) => {
  const bad = new Bad('delay=5ms');
  const frames = numbered(10);
  bad.link.room = 3;
  bad.send(...frames.slice(0, 6));
  bad.advance(5);
  t.equal(bad.down.length, 3);
  t.equal(bad.conditioned.pollAt(), Number.POSITIVE_INFINITY, 'no spinning');
  t.notOk(bad.send(frames[6]!));
  bad.link.room = 2;
  bad.link.writable();
  t.equal(bad.writable, 0);
  bad.link.room = 100;
  bad.link.writable();
  t.equal(bad.writable, 1);
  bad.advance(0);
  bad.send(...frames.slice(6));
  bad.advance(5);
  t.same(bad.down.map(numberOf), [...frames.keys()]);
});

t.test('what it keeps is bounded, and goes with the peer', async (t) => {
  const bad = new Bad('delay=5ms', { poolOctets: 20_480 });
  bad.receive(...numbered(30));
  t.equal(bad.conditioned.kept, 10);
  t.equal(bad.conditioned.counts.poolFull, 20);
  bad.conditioned.below.deserted?.();
  t.same([bad.conditioned.kept, bad.deserted], [0, 1]);
  bad.receive(...numbered(10));
  bad.send(...numbered(1));
  t.equal(bad.conditioned.kept, 10);
  bad.link.gone();
  t.same([bad.conditioned.kept, bad.closed], [0, 1]);
  bad.conditioned.close();
  t.ok(bad.link.closed);
});

const superSegment = (payload: Uint8Array, flags: number, version: 4 | 6): Uint8Array => {
  const bytes = new Uint8Array(32 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 4000);
  view.setUint16(2, 80);
  view.setUint32(4, 0xffff_fff0);
  view.setUint16(12, 0x8000 | flags);
  view.setUint16(16, 0xbeef);
  bytes.set(pattern(12), 20);
  bytes.set(payload, 32);
  if (version === 4) return ipFrame(6, bytes, { identification: 0xffff });
  const packet = new Uint8Array(40 + bytes.length);
  packet[0] = 0x60;
  new DataView(packet.buffer).setUint16(4, bytes.length);
  packet.set([6, 64, 0xfd, 7], 6);
  packet[39] = 9;
  packet.set(bytes, 40);
  return ethernetFrame(0x86dd, packet);
};

t.test('super-segments are cut, and summed', async () => {
  const cutter = new SegmentCutter();
  const property = fc.property(
    fc.integer({ min: 0, max: 9000 }),
    fc.integer({ min: 1, max: 4000 }),
    fc.integer({ min: 0, max: 255 }),
    fc.constantFrom(4 as const, 6 as const),
    fc.integer({ min: 0, max: 40 }),
    (octets, mss, flags, version, padding) => {
      const payload = pattern(octets);
      const frame = superSegment(payload, flags, version);
      const padded = Uint8Array.of(...frame, ...new Uint8Array(padding));
      const batch = new FrameBatch(1, 2);
      batch.push(arenaOf(padded), 0, Math.min(100, padded.length), CHECKSUM_PARTIAL, mss);
      if (padded.length > 100) batch.extend(arenaOf(padded), 100, padded.length - 100);
      const count = cutter.take(batch, 0);
      if (count !== Math.max(1, Math.ceil(octets / mss))) throw new Error(`${count} segments`);
      const out = arenaOf(new Uint8Array(70_000));
      const ip = version === 4 ? 20 : 40;
      const got: number[] = [];
      for (let i = 0; i < count; i++) {
        const length = cutter.octetsOf(i);
        cutter.write(i, out, 5);
        const { view } = out;
        const bytes = out.bytes.slice(5, 5 + length);
        const segment = bytes.subarray(14 + ip);
        if (version === 4) {
          if (fold(sum(view, 19, 20)) !== 0xffff) throw new Error('IPv4 checksum');
          if (view.getUint16(21) !== length - 14) throw new Error('total length');
          if (view.getUint16(23) !== ((0xffff + i) & 0xffff)) throw new Error('identification');
          if (transportChecksum('192.168.65.3', '192.168.65.1', 6, segment) !== 0) throw new Error('TCP checksum');
        } else {
          if (view.getUint16(23) !== length - 54) throw new Error('payload length');
          const pseudo = sum(view, 5 + 14 + 8, 32) + segment.length + 6;
          if (fold(pseudo + sum(view, 5 + 54, segment.length)) !== 0xffff) throw new Error('TCP checksum');
        }
        const tcp = 5 + 14 + ip;
        if (view.getUint32(tcp + 4) !== (0xffff_fff0 + i * mss) % 2 ** 32) throw new Error('sequence');
        const expected = flags & (i < count - 1 ? ~0x09 : 0xff) & (i > 0 ? ~0x80 : 0xff);
        if (view.getUint8(tcp + 13) !== expected) throw new Error('flags');
        got.push(...segment.subarray(32));
      }
      return Buffer.compare(Uint8Array.from(got), payload) === 0;
    },
  );
  fc.assert(property, { numRuns: 200 });
});

t.test('an open checksum is filled in, of UDP too', async (t) => {
  const frame = udpFrame(1, 2, pattern(33));
  const open = frame.slice();
  open.set([0xde, 0xad], 40);
  const batch = new FrameBatch(1, 1);
  batch.push(arenaOf(open), 0, open.length, CHECKSUM_PARTIAL);
  const cutter = new SegmentCutter();
  t.equal(cutter.take(batch, 0), 1);
  const out = arenaOf(new Uint8Array(100));
  cutter.write(0, out, 0);
  t.same(out.bytes.slice(0, frame.length), frame);
});

t.test('a hostile frame that wants to be cut is dropped, counted', async () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.tuple(fc.nat(60), fc.nat(255)).map(([at, value]) => {
      const frame = superSegment(pattern(50), 0x10, 4);
      frame[14 + at] = value;
      return frame;
    }),
    fc.tuple(fc.nat(70), fc.nat(255)).map(([at, value]) => {
      const frame = superSegment(pattern(50), 0x10, 6);
      frame[12 + at] = value;
      return frame;
    }),
  );
  fc.assert(
    fc.property(bytes, fc.integer({ min: 0, max: 2000 }), fc.nat(2), (octets, segmentOctets, checksum) => {
      const bad = new Bad('delay=1ms');
      const batch = new FrameBatch(1, 1);
      batch.push(arenaOf(octets.slice()), 0, octets.length, checksum, segmentOctets);
      bad.conditioned.below.input(batch);
      bad.advance(5);
      return bad.up.length + bad.conditioned.counts.malformed > 0;
    }),
    { numRuns: 1000 },
  );
});

t.test('the pool and the queue by themselves', async () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(20), fc.boolean())), (steps) => {
      const queue = new DueQueue();
      const model: { atMs: number; frame: number }[] = [];
      for (const [frame, [atMs, shifts]] of steps.entries()) {
        queue.push(frame, atMs);
        model.push({ atMs, frame });
        model.sort((a, b) => a.atMs - b.atMs || a.frame - b.frame);
        if (shifts && queue.shift() !== model.shift()!.frame) return false;
      }
      return model.every(({ atMs, frame }) => queue.nextMs === atMs && queue.shift() === frame) && queue.size === 0;
    }),
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(70_000), fc.nat(5)), { maxLength: 60 }), (steps) => {
      const pool = new FramePool(300_000);
      const kept: { frame: number; bytes: Uint8Array }[] = [];
      for (const [octets, drops] of steps) {
        const bytes = pattern(octets, octets);
        const frame = pool.keep(bytes, 0, octets);
        if (frame >= 0) kept.push({ frame, bytes });
        for (let i = 0; i < drops && kept.length > 0; i++) {
          const { frame, bytes } = kept.splice((octets + i) % kept.length, 1)[0]!;
          const into = new Uint8Array(bytes.length);
          pool.copy(frame, into, 0);
          if (Buffer.compare(into, bytes) !== 0) return false;
          pool.free(frame);
        }
      }
      for (const { frame } of kept) pool.free(frame);
      return pool.used === 0;
    }),
  );
});

t.test('the text form', async (t) => {
  t.equal(parseConditions(''), undefined);
  t.equal(parseConditions(' none ; '), undefined);
  const none = { direction: 'both', delayMs: 0, jitterMs: 0, loss: 0, duplicate: 0, corrupt: 0, reorder: 0 };
  const text = 'delay=1.5s, jitter = 500us ,loss=0.1%,rate=10mbit; direction=up,burst=1%/25%/50%,seed=9';
  t.same(parseConditions(text), {
    seed: 9,
    text,
    rules: [
      { ...none, delayMs: 1500, jitterMs: 0.5, loss: 0.001, rate: 1e7, queueOctets: 125_000 },
      { ...none, direction: 'up', burst: { enter: 0.01, leave: 0.25, loss: 0.5 }, queueOctets: 32_768 },
    ],
  });
  t.equal(parseConditions('rate=64kbit,queue=2k')!.rules[0]!.queueOctets, 2048);
  t.equal(parseConditions('to=fd00::/64,loss=1%')!.rules[0]!.to!.prefix, 64);
  for (const [text, why] of [
    ['delay', /'delay': the form is NAME=VALUE/],
    ['delay=40', /a time has a unit/],
    ['delay=61s', /more than 60 s/],
    ['delay=1ms,delay=2ms', /set twice/],
    ['loss=5', /a share is written as/],
    ['loss=101%', /a share is written as/],
    ['rate=10', /a rate has a unit/],
    ['rate=10bit', /a rate is from 1kbit/],
    ['rate=10mb', /a rate has a unit/],
    ['queue=1k', /a queue goes with a rate/],
    ['rate=1mbit,queue=0', /number of octets/],
    ['reorder=1%', /reorder needs a delay/],
    ['delay=1ms,jitter=2ms', /larger than the delay/],
    ['burst=1%', /the form is ENTER\/LEAVE/],
    ['burst=1%/0%', /must end/],
    ['direction=left', /it is up, down or both/],
    ['to=example.org', /10\.0\.0\.0\/8/],
    ['seed=x', /whole number/],
    ['lag=1ms', /there is no such condition; there are direction, to, delay/],
    ['loss=1%;'.repeat(100), /more than 64 rules/],
  ] as const)
    t.throws(() => parseConditions(text), { code: 'CONDITIONS', message: why }, text.slice(0, 30));
  const piece = fc.constantFrom('delay', 'loss', '=', '1ms', '%', ',', ';', 'to', '1/', '5', 'rate', '__proto__');
  fc.assert(
    fc.property(fc.string(), fc.array(piece), (a, b) => {
      for (const text of [a, b.join('')]) {
        try {
          parseConditions(text);
        } catch (error) {
          if (!(error instanceof ConditionsError)) throw error;
        }
      }
    }),
  );
});

t.test('in a pipeline: set, changed and taken away while it runs', async (t) => {
  let nowMs = 1000;
  let at: { ms: number; run: () => void } | undefined;
  const clock = { nowMs: () => nowMs };
  const random = seededRandom(1);
  const netstack = new Netstack({
    clock,
    random: { fill: (into) => void into.forEach((_, i) => void (into[i] = random() * 256)) },
    forwarder: { tcp: (c) => c.reject('reset'), udp: () => undefined, echo: () => undefined },
    macAddress: macToBytes(GATEWAY_MAC),
    gateway: address('192.168.65.1'),
    hostAlias: address('192.168.65.2'),
    prefix: 24,
  });
  const pipeline = new Pipeline({
    netstack,
    clock,
    schedule: (when, run) => void (when === 'soon' ? run() : (at = { ms: when, run })),
  });
  const link = new FakeLink();
  pipeline.attach(link);
  const ping = (): number => {
    const before = nowMs;
    link.input([icmpFrame(8, 0, 1, pattern(8))]);
    while (link.take().length === 0) {
      if (!at) throw new Error('nothing is scheduled');
      nowMs = at.ms;
      const { run } = at;
      at = undefined;
      run();
    }
    return nowMs - before;
  };
  t.equal(ping(), 0);
  pipeline.condition(parseConditions('delay=30ms'));
  t.equal(ping(), 60);
  t.equal(ping(), 60);
  pipeline.condition(parseConditions('delay=30ms,direction=up'));
  t.equal(ping(), 30);
  const late = new FakeLink();
  pipeline.attach(late);
  t.equal(pipeline.conditionCounts().length, 2, 'links that come later have them too');
  late.gone();
  t.equal(pipeline.conditionCounts().length, 1);
  pipeline.condition(undefined);
  t.equal(ping(), 0);
});
