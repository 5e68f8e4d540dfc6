/** The records of a recording, and what becomes of a file that was cut off or damaged. */

import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import { HEADER } from '../../../src/proxy/recording/chunk.ts';
import { frameLine } from '../../../src/proxy/recording/frame-line.ts';
import { OctetSum } from '../../../src/proxy/recording/octet-sum.ts';
import { type KindName, kinds, RecordingError } from '../../../src/proxy/recording/record.ts';
import { type DecodedRecord, RecordDecoder, type RecordedFrame } from '../../../src/proxy/recording/record-decoder.ts';
import type { Value } from '../../../src/proxy/recording/record-encoder.ts';
import { recordLine } from '../../../src/proxy/recording/record-line.ts';
import { Recorder } from '../../../src/proxy/recording/recorder.ts';
import { FrameBatch } from '../../../src/stack/frame-batch.ts';
import { arenaOf } from '../../stack/fake-link.ts';
import { chunked, sourceOf } from './sources.ts';

const octets = fc.uint8Array({ maxLength: 300 });
const plain = { noNullPrototype: true } as const;
const frame = fc.record(
  {
    checksum: fc.constantFrom(0, 1, 2),
    segmentOctets: fc.integer({ min: 0, max: 65535 }),
    fragments: fc.array(octets, { minLength: 1, maxLength: 4 }),
  },
  plain,
);

function batchOf(frames: readonly RecordedFrame[]): FrameBatch {
  const batch = new FrameBatch(Math.max(1, frames.length), 4);
  for (const { checksum, segmentOctets, fragments } of frames)
    fragments.forEach((bytes, i) => {
      if (i === 0) batch.push(arenaOf(bytes), 0, bytes.length, checksum, segmentOctets);
      else batch.extend(arenaOf(bytes), 0, bytes.length);
    });
  return batch;
}

/** JSON's null stands for undefined. */
const data = fc.record(
  { text: fc.string(), octets, list: fc.array(fc.integer()), most: fc.constant(Number.POSITIVE_INFINITY) },
  plain,
);
const values = {
  number: fc.maxSafeNat(),
  signed: fc.integer(),
  octets,
  time: fc.double(),
  text: fc.string({ unit: 'grapheme' }),
  data,
  frames: fc.array(frame, { maxLength: 5 }),
} as const;

interface Said {
  readonly name: KindName;
  readonly values: readonly unknown[];
}

const calls = Object.keys(kinds).filter((name) => kinds[name as KindName].what === 'call') as KindName[];
const events = Object.keys(kinds).filter((name) => kinds[name as KindName].what === 'event') as KindName[];
const saidOf = (names: readonly KindName[], skip: number) =>
  fc.constantFrom(...names).chain((name) => {
    const types = Object.values(kinds[name].fields).slice(skip);
    return fc.tuple(...types.map((type) => values[type])).map((found): Said => ({ name, values: found }));
  });
const script = fc.array(fc.oneof(saidOf(calls, 0), saidOf(events, 1)), { maxLength: 30 });

/** Octets of a recording of these, in which each event lasts a millisecond. */
function recordingOf(said: readonly Said[], flushEach = false): Uint8Array {
  const parts: Uint8Array[] = [];
  let nowMs = 5;
  const recorder = new Recorder(
    { clock: { nowMs: () => (nowMs += 0.125) }, sink: (bytes) => void parts.push(bytes.slice()) },
    { of: 'a test' },
  );
  for (const { name, values } of said) {
    const list = values.map((value) => (isFrames(value) ? batchOf(value) : value)) as Value[];
    if (kinds[name].what === 'call') recorder.call(name, list, () => undefined);
    else recorder.event(name, list, () => undefined);
    if (flushEach) recorder.flush();
  }
  recorder.end();
  return new Uint8Array(Buffer.concat(parts));
}

const isFrames = (value: unknown): value is RecordedFrame[] =>
  Array.isArray(value) && value.every((one) => Array.isArray((one as RecordedFrame).fragments));

function readAll(file: Uint8Array): DecodedRecord[] {
  const decoder = new RecordDecoder(sourceOf(file));
  const records: DecodedRecord[] = [];
  for (;;) {
    const record = decoder.take();
    if (!record) return records;
    records.push(record);
  }
}

t.test('what is written is what is read, and can be told in words', async () => {
  fc.assert(
    fc.property(script, (said) => {
      const [made, ...records] = readAll(recordingOf(said));
      if (made?.name !== 'made' || records.pop()?.name !== 'end') throw new Error('no beginning, or no end');
      const found = records.map(({ name, values }) => ({ name, values: Object.values(values) }));
      let nowMs = 5.125;
      for (const one of found)
        if (kinds[one.name].what === 'event' && one.values.shift() !== (nowMs += 0.125)) throw new Error('time');
      assert.deepEqual(found, said);
      records.forEach(recordLine);
    }),
    { numRuns: 200 },
  );
});

t.test('a file that was cut off or damaged says where, and what came before is read', async (t) => {
  fc.assert(
    fc.property(script, fc.nat(), fc.option(fc.integer({ min: 1, max: 255 })), (said, at, change) => {
      const file = recordingOf(said, true);
      const whole = readAll(file).length;
      const place = at % file.length;
      const broken = change === null ? file.slice(0, place) : file.slice();
      if (change !== null) broken[place]! ^= change;
      let records = 0;
      try {
        records = readAll(broken).length;
        // Cut off between chunks: nothing is there that would say so, but there is no end.
        if (change !== null || records >= whole) throw new Error('it was taken for whole');
      } catch (error) {
        if (!(error instanceof RecordingError)) throw error;
        if (place >= HEADER.length && !/at octet \d+: /.test(error.message)) throw error;
      }
    }),
    { numRuns: 300 },
  );
  t.throws(() => readAll(new TextEncoder().encode('not a recording at all')), {
    message: 'it is no recording of slipway',
  });
  const newer = recordingOf([]);
  newer[HEADER.length - 1] = 9;
  t.throws(() => readAll(newer), { message: /of version 9/ });
});

t.test('a sum of octets is the same however they are cut, and another when one octet is', async () => {
  const cuts = fc.array(fc.nat(64), { maxLength: 8 });
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 64 }),
      cuts,
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (octets, places, at, by) => {
        const sum = new OctetSum().add(octets).take();
        const cutter = new OctetSum();
        const ends = [...places.filter((place) => place < octets.length).sort((a, b) => a - b), octets.length];
        ends.forEach((end, i) => {
          cutter.add(octets, ends[i - 1] ?? 0, end - (ends[i - 1] ?? 0));
        });
        assert.deepEqual(cutter.take(), sum);
        assert.notDeepEqual(new OctetSum().add(Uint8Array.of(...octets, 0)).take(), sum);
        if (octets.length === 0) return;
        octets[at % octets.length]! ^= by;
        assert.notDeepEqual(cutter.add(octets).take(), sum);
      },
    ),
    { numRuns: 1000 },
  );
});

t.test('any octets in a sound chunk', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (octets) => {
      try {
        for (const record of readAll(chunked(octets))) recordLine(record);
      } catch (error) {
        if (!(error instanceof RecordingError)) throw error;
      }
    }),
    { numRuns: 1000 },
  );
});

t.test('any frame has its line', async () => {
  const type = fc.constantFrom([8, 0, 0x45], [8, 6, 0], [0x86, 0xdd, 0x60], [1, 2, 3]);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), type, (octets, bytes) => {
      octets.set(bytes.slice(0, Math.max(0, octets.length - 12)), Math.min(12, octets.length));
      if (!/^[ -~]+, 99 octets$/.test(frameLine(octets, 99))) throw new Error(frameLine(octets, 99));
    }),
    { numRuns: 2000 },
  );
});

t.test('a sink that takes no more ends the recording, and nothing else', async (t) => {
  const failures: string[] = [];
  let room = 3;
  const recorder = new Recorder(
    {
      clock: { nowMs: () => 1 },
      sink: () => {
        if (--room === 0) throw new Error('ENOSPC: no space left on device, write');
      },
      failed: ({ message }) => failures.push(message),
    },
    {},
  );
  for (let i = 0; i < 5; i++) {
    t.equal(
      recorder.callFor('socket port', [i], () => i),
      i,
    );
    recorder.flush();
  }
  recorder.end();
  t.same(failures, ['ENOSPC: no space left on device, write']);
});
