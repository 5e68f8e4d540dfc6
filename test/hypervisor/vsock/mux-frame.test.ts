import fc from 'fast-check';
import t from 'tap';
import {
  FrameParser,
  frameType,
  magic,
  maxFrameOctets,
  maxPayloadOctets,
  sealFrame,
  version,
} from '../../../src/hypervisor/vsock/mux-frame.ts';

type Seen = [type: number, flags: number, id: number, value: number, payload: string];

function frame(type: number, flags: number, id: number, value: number, payload: Uint8Array): Buffer {
  const octets = Buffer.alloc(16 + payload.length);
  octets.set(payload, 12);
  sealFrame(octets, 0, type, flags, id, value, payload.length);
  return octets;
}

const hello = frame(frameType.HELLO, version, magic, 0, Buffer.alloc(16, 7));

function parser(): { parser: FrameParser; seen: Seen[]; lost: string[] } {
  const seen: Seen[] = [];
  const lost: string[] = [];
  return {
    parser: new FrameParser(
      (type, flags, id, value, payload) => seen.push([type, flags, id, value, payload.toString('latin1')]),
      (reason) => lost.push(reason),
    ),
    seen,
    lost,
  };
}

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const anyFrame = fc.tuple(
  fc.integer({ min: 2, max: 7 }),
  fc.integer({ min: 0, max: 255 }),
  u32,
  u32,
  fc.oneof(fc.uint8Array({ maxLength: 50 }), fc.constantFrom(new Uint8Array(maxPayloadOctets), new Uint8Array(9000))),
);

t.test('frames come out as they went in, however they are cut, whatever came before HELLO', async (t) => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.array(anyFrame, { maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1 }),
      (noise, frames, cuts) => {
        const { parser: parse, seen, lost } = parser();
        const wire = Buffer.concat([noise, hello, ...frames.map((fields) => frame(...fields))]);
        for (let at = 0, cut = 0; at < wire.length; cut++) {
          const end = at + cuts[cut % cuts.length]!;
          parse.push(wire.subarray(at, end));
          at = end;
        }
        const expected = frames.map(([type, flags, id, value, payload]) => [
          ...[type, flags, id, value],
          Buffer.from(payload).toString('latin1'),
        ]);
        return lost.length === 0 && JSON.stringify(seen.slice(1)) === JSON.stringify(expected);
      },
    ),
    { numRuns: 300 },
  );
  t.pass('300 streams of frames');
});

t.test('any octets at all after HELLO: no exception, and the next HELLO is found', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.boolean(), (noise, looksLikeAFrame) => {
      const { parser: parse, seen } = parser();
      parse.push(hello);
      const octets = Buffer.from(noise);
      if (looksLikeAFrame) octets[0] = frameType.DATA;
      parse.push(octets);
      // What a side that starts sends: enough nothing to end any frame, then HELLO.
      parse.push(Buffer.alloc(maxFrameOctets));
      parse.push(hello);
      return seen.at(-1)?.[0] === frameType.HELLO && seen.filter(([type]) => type === frameType.HELLO).length >= 2;
    }),
  );
  t.pass('100 kinds of noise');
});

t.test('a frame cut off by a restart is not delivered', async (t) => {
  const { parser: parse, seen, lost } = parser();
  parse.push(hello);
  const data = frame(frameType.DATA, 0, 2, 0, Buffer.alloc(20_000, 1));
  parse.push(data.subarray(0, 10_000));
  parse.push(Buffer.concat([Buffer.alloc(maxFrameOctets), hello]));
  t.same(
    seen.map(([type]) => type),
    [frameType.HELLO, frameType.HELLO],
  );
  t.equal(lost.length, 1);
});
