/** Reassembly: RFC 791 3.2, RFC 815, RFC 1122 3.3.2, RFC 1858, RFC 3128, RFC 5722's rule for overlaps. */

import fc from 'fast-check';
import t from 'tap';
import * as ipv4 from '../../src/stack/wire/ipv4.ts';
import { type FrameOptions, ipFrame, pattern, readIp, udpBytes } from './frames.ts';
import { assertRecorded } from './recorded-stack.ts';
import { World } from './world.ts';

const TO = { to: '10.0.0.1' };

/** A fragment of `whole` from `begin` to `end`. */
function piece(whole: Uint8Array, begin: number, end: number, options: FrameOptions = {}, protocol = 17): Uint8Array {
  const more = end < whole.length ? ipv4.MORE_FRAGMENTS : 0;
  return ipFrame(protocol, whole.subarray(begin, end), { ...TO, fragment: more | (begin / 8), ...options });
}

t.test('in any order, with repetitions, the datagram arrives once and whole', async () => {
  const cuts = fc.uniqueArray(fc.integer({ min: 1, max: 400 }), { maxLength: 20 });
  assertRecorded(
    'fragments-1',
    fc.property(
      fc.integer({ min: 1, max: 3300 }),
      cuts,
      fc.infiniteStream(fc.nat()),
      fc.boolean(),
      (octets, at, order, split) => {
        const world = new World();
        const whole = udpBytes(1, 2, pattern(octets), TO);
        const ends = [...at.map((cut) => cut * 8).filter((cut) => cut < whole.length), whole.length].sort(
          (a, b) => a - b,
        );
        const pieces = ends.map((end, i) => piece(whole, ends[i - 1] ?? 0, end));
        const next = (): number => order.next().value as number;
        const shuffled = pieces.map((frame) => [next(), frame] as const).sort(([a], [b]) => a - b);
        const frames = shuffled.map(([, frame]) => frame);
        // Repeats that come before the last piece are ignored.
        if (frames.length > 1) frames.splice(1 + (next() % (frames.length - 1)), 0, frames[0]!);
        for (const frame of frames) world.link.input([frame], 0, split ? 42 : undefined);
        if (world.forwarded.length !== 1)
          throw new Error(`${world.forwarded.length} datagrams, ${JSON.stringify(world.drops())}`);
        if (Buffer.compare(world.payloads[0]!, pattern(octets)) !== 0) throw new Error('another payload');
      },
    ),
    { numRuns: 300 },
  );
});

t.test('a datagram of 65507 octets', async (t) => {
  const world = new World();
  const whole = udpBytes(1, 2, pattern(65507), TO);
  for (let at = 0; at < whole.length; at += 1480)
    world.link.input([piece(whole, at, Math.min(at + 1480, whole.length))]);
  t.equal(world.payloads[0]!.length, 65507);
  t.ok(Buffer.from(world.payloads[0]!).equals(pattern(65507)));
});

t.test('TCP segments may come in fragments too', async (t) => {
  const { TcpScript } = await import('./tcp/tcp-script.ts');
  const s = new TcpScript(t);
  s.establish();
  const frame = s.frame('P. 1:1001(1000) ack 1');
  const whole = frame.subarray(34);
  s.world.link.input([piece(whole, 504, 1020, {}, 6), piece(whole, 0, 504, {}, 6)]);
  s.owns('received 1000');
  s.expect('. 1:1(0) ack 1001');
});

t.test('overlaps lose the whole datagram', async (t) => {
  const whole = udpBytes(1, 2, pattern(200), TO);
  const other = whole.slice().fill(0x55);
  for (const [name, frames] of Object.entries({
    'the same place, other octets': [piece(whole, 0, 80), piece(other, 0, 80), piece(whole, 80, 208)],
    'half of it': [piece(whole, 0, 80), piece(whole, 40, 120)],
    'over a gap': [piece(whole, 0, 40), piece(whole, 80, 120), piece(whole, 32, 88)],
    'two ends': [piece(whole, 160, 208), ipFrame(17, whole.subarray(80, 160), { ...TO, fragment: 10 })],
    'beyond the end': [ipFrame(17, whole.subarray(80, 120), { ...TO, fragment: 10 }), piece(whole, 120, 160)],
    'an end before what is here': [piece(whole, 80, 160), ipFrame(17, whole.subarray(0, 40), { ...TO, fragment: 1 })],
  })) {
    const world = new World();
    for (const frame of frames) world.link.input([frame]);
    t.ok(world.drops()['fragment-overlap']! >= 1, name);
    t.same(world.forwarded, [], name);
  }
});

t.test('fragments that no honest sender makes', async (t) => {
  const whole = pattern(4000);
  for (const [name, frame] of Object.entries({
    empty: ipFrame(17, new Uint8Array(0), { ...TO, fragment: ipv4.MORE_FRAGMENTS }),
    'not a multiple of 8': ipFrame(17, whole.subarray(0, 15), { ...TO, fragment: ipv4.MORE_FRAGMENTS }),
    'beyond the largest datagram': ipFrame(17, whole.subarray(0, 1000), { ...TO, fragment: 8189 }),
    "a TCP header's second half": ipFrame(6, whole.subarray(0, 16), { ...TO, fragment: 1 }),
    'a first one too small for TCP': ipFrame(6, whole.subarray(0, 16), { ...TO, fragment: ipv4.MORE_FRAGMENTS }),
  })) {
    const world = new World();
    world.link.input([frame]);
    t.same(world.drops(), { 'fragment-malformed': 1 }, name);
  }
});

t.test('datagrams are told apart by all four fields', async (t) => {
  const world = new World();
  const whole = udpBytes(1, 2, pattern(100), TO);
  for (const options of [{ identification: 2 }, { from: '192.168.65.4' }, { to: '10.0.0.2' }])
    world.link.input([piece(whole, 0, 56), piece(whole, 56, 108, options)]);
  t.same(world.forwarded, []);
  t.same(world.drops(), {});
  world.link.input([piece(whole, 56, 108)]);
  t.equal(world.forwarded.length, 1);
});

t.test('RFC 1122 3.3.2: time runs out, and the sender of a first fragment is told', async (t) => {
  const world = new World();
  const whole = udpBytes(1, 2, pattern(100), TO);
  world.link.input([piece(whole, 0, 56), piece(whole, 56, 108, { identification: 9 })]);
  world.advance(14_999);
  t.same(world.drops(), {});
  world.advance(10);
  t.same(world.drops(), { 'fragment-timeout': 2 });
  const answers = world.link.take().map(({ bytes }) => readIp(bytes));
  t.equal(answers.length, 1);
  t.same([...answers[0]!.payload.subarray(0, 2)], [11, 1]);
  t.same(answers[0]!.payload.subarray(28), whole.subarray(0, 56));
});

t.test('bounded: the oldest gives way', async (t) => {
  const world = new World();
  const whole = udpBytes(1, 2, pattern(100), TO);
  for (let identification = 1; identification <= 1000; identification++)
    world.link.input([piece(whole, 0, 56, { identification })]);
  t.equal(world.drops()['fragment-evicted'], 1000 - 31);
  world.link.input([piece(whole, 56, 108, { identification: 1000 })]);
  t.equal(world.forwarded.length, 1, 'the newest is still here');
});

t.test('an order that makes too many holes is an attack', async (t) => {
  const world = new World();
  for (let at = 8; at < 60_000; at += 16) world.link.input([piece(new Uint8Array(65000), at, at + 8)]);
  t.ok(world.drops()['fragment-malformed']! > 0);
});

t.test('random fragments never throw, and never deliver what is not a datagram', async () => {
  const fragment = fc.record({
    offset: fc.nat(8191),
    octets: fc.integer({ min: 0, max: 1480 }),
    more: fc.boolean(),
    identification: fc.nat(3),
    protocol: fc.constantFrom(1, 6, 17, 132),
  });
  assertRecorded(
    'fragments-2',
    fc.property(fc.array(fragment, { maxLength: 100 }), (fragments) => {
      const world = new World();
      for (const { offset, octets, more, identification, protocol } of fragments) {
        const flags = more ? ipv4.MORE_FRAGMENTS : 0;
        world.link.input([
          ipFrame(protocol, new Uint8Array(octets), { ...TO, identification, fragment: flags | (offset % 40) }),
        ]);
        world.link.input([
          ipFrame(protocol, new Uint8Array(octets), { ...TO, identification, fragment: flags | offset }),
        ]);
      }
      world.advance(20_000);
    }),
    { numRuns: 200 },
  );
});
