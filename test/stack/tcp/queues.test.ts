/** The send queue, the pool and the reassembly queue against plain models. */

import fc from 'fast-check';
import t from 'tap';
import { CHUNK_OCTETS, ChunkPool } from '../../../src/stack/chunk-pool.ts';
import { Fragments } from '../../../src/stack/fragment-list.ts';
import { plainArena } from '../../../src/stack/frame-memory.ts';
import { TcpReassembly } from '../../../src/stack/tcp/reassembly.ts';
import { SendQueue } from '../../../src/stack/tcp/send-queue.ts';
import { type Seq, seq, seqAdd, seqGeq, seqGt, seqLeq, seqLt, seqMax, seqSub } from '../../../src/stack/tcp/seq.ts';
import { arenaOf } from '../fake-link.ts';

const memory = { arena: plainArena };

t.test('sequence numbers compare across the wrap', async () => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 1, max: 2 ** 31 - 1 }), (from, distance) => {
      const a = seq(from);
      const b = seqAdd(a, distance);
      if (!seqLt(a, b) || seqLt(b, a) || !seqGt(b, a) || !seqLeq(a, a) || !seqGeq(b, a) || seqMax(a, b) !== b)
        throw new Error('order');
      if (seqSub(b, a) !== distance || seqSub(a, b) !== -distance) throw new Error('distance');
    }),
  );
});

t.test('a send queue gives back what was written, in pieces of any size', async () => {
  const action = fc.constantFrom('write', 'write several', 'acknowledge');
  const step = fc.tuple(action, fc.integer({ min: 1, max: 200_000 }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 2, max: 40 }), (steps, chunks) => {
      const pool = new ChunkPool(chunks * CHUNK_OCTETS, memory);
      const places = new Fragments();
      const queue = new SendQueue(pool, 300_000);
      let written = 0;
      let acknowledged = 0;
      for (const [action, octets] of steps) {
        if (action === 'write') {
          if (!queue.reserve()) continue;
          const count = Math.min(octets, queue.length);
          for (let i = 0; i < count; i++) queue.arena!.bytes[queue.offset + i] = (written + i) % 251;
          queue.commit(count);
          written += count;
        } else if (action === 'write several') {
          if (!queue.reserveList(places)) continue;
          const count = Math.min(octets, places.octets);
          let done = 0;
          for (let k = 0; k < places.count; k++) {
            const { arena, offset, length } = places.items[k]!;
            for (let i = 0; i < length && done < count; i++, done++) arena.bytes[offset + i] = (written + done) % 251;
          }
          queue.commit(count);
          written += count;
        } else {
          const count = Math.min(octets, queue.octets);
          queue.release(count);
          acknowledged += count;
        }
        if (queue.octets !== written - acknowledged) throw new Error('octets');
        if (queue.octets > queue.limit) throw new Error('limit');
        for (let index = 0; index < queue.octets; index += 997) {
          const { arena, offset } = queue.chunkOf(index);
          if (arena.bytes[offset + queue.placeOf(index)] !== (acknowledged + index) % 251) throw new Error('content');
        }
        if (queue.octets === 0 && pool.used > 0) throw new Error('an empty queue holds memory');
        if (pool.used !== queue.chunks || queue.chunks > Math.ceil(queue.octets / CHUNK_OCTETS) + 1)
          throw new Error('chunks');
      }
      queue.clear();
      if (pool.used !== 0) throw new Error('leak');
    }),
    { numRuns: 200 },
  );
});

t.test('reserving takes nothing; committing what was not reserved is an error', async (t) => {
  const pool = new ChunkPool(1 << 20, memory);
  const queue = new SendQueue(pool, 100_000);
  t.ok(queue.reserve());
  t.equal(pool.used, 0);
  t.throws(() => queue.commit(70_000), { code: 'ERR_NOT_RESERVED' });
  const places = new Fragments();
  t.ok(queue.reserveList(places));
  t.equal(places.octets, 100_000);
  t.equal(places.count, 2);
  t.equal(pool.used, 0);
  t.throws(() => queue.commit(100_001), { code: 'ERR_NOT_RESERVED' });
  const other = new SendQueue(pool, 100_000);
  other.reserve();
  other.commit(1);
  t.throws(() => queue.commit(1), { code: 'ERR_NOT_RESERVED' });
});

t.test('a pool that runs short keeps some for everyone', async (t) => {
  const pool = new ChunkPool(64 * CHUNK_OCTETS, memory);
  const fill = (queue: SendQueue): void => {
    while (queue.reserve()) queue.commit(queue.length);
  };
  const greedy = Array.from({ length: 3 }, () => new SendQueue(pool, 1 << 26));
  for (const queue of greedy) fill(queue);
  t.ok(pool.used < 64);
  const late = new SendQueue(pool, 1 << 26);
  fill(late);
  t.ok(late.chunks >= 2, 'a late flow has its share');
  let told = 0;
  const waiter = { chunkFreed: () => told++ };
  pool.wait(waiter);
  pool.wait(waiter);
  greedy[0]!.release(2 * CHUNK_OCTETS);
  t.equal(told, 1, 'once');
  pool.wait(waiter);
  pool.forget(waiter);
  greedy[0]!.clear();
  t.equal(told, 1);
});

t.test('reassembly is a map of octets in which the first comer stays', async () => {
  const segment = fc.record({
    at: fc.nat(3000),
    octets: fc.integer({ min: 1, max: 700 }),
    fill: fc.nat(255),
    split: fc.nat(700),
  });
  fc.assert(
    fc.property(fc.integer(), fc.array(segment, { maxLength: 40 }), (base, segments) => {
      const pool = new ChunkPool(1 << 22, memory);
      const reassembly = new TcpReassembly(pool);
      const model = new Map<number, number>();
      const start: Seq = seq(base);
      for (const { at, octets, fill, split } of segments) {
        const list = new Fragments();
        const cut = Math.min(split, octets);
        if (cut > 0) list.push(arenaOf(new Uint8Array(cut).fill(fill)), 0, cut);
        if (octets > cut) list.push(arenaOf(new Uint8Array(octets - cut + 2).fill(fill)), 1, octets - cut);
        if (!reassembly.insert(seqAdd(start, at + 1), list)) throw new Error('no room');
        for (let i = 0; i < octets; i++) if (!model.has(at + 1 + i)) model.set(at + 1 + i, fill);
      }
      // Gaps are filled from the left, one octet at a time, and what follows is taken.
      let next = 0;
      while (next < 4000) {
        const into = new Fragments();
        const after = seqSub(reassembly.take(seqAdd(start, next), into), start);
        let position = next;
        for (let i = 0; i < into.count; i++) {
          const { arena, offset, length } = into.items[i]!;
          for (let k = 0; k < length; k++)
            if (arena.bytes[offset + k] !== model.get(position++)) throw new Error(`octet ${position - 1}`);
        }
        if (position !== after || model.has(after)) throw new Error('not all was taken');
        next = after + 1;
      }
      if (!reassembly.empty) throw new Error('something is left');
      reassembly.settle();
      if (pool.used !== 0) throw new Error('leak');
    }),
    { numRuns: 500 },
  );
});

t.test('reassembly is bounded', async (t) => {
  const pool = new ChunkPool(1 << 26, memory);
  const reassembly = new TcpReassembly(pool);
  const list = new Fragments();
  list.push(arenaOf(new Uint8Array(1)), 0, 1);
  let kept = 0;
  for (let i = 0; i < 5000; i++) if (reassembly.insert(seq(2 * i), list)) kept++;
  t.equal(kept, 4096);
  t.equal(reassembly.size, 4096);
  reassembly.clear();
  const large = new Fragments();
  large.push(arenaOf(new Uint8Array(60_000)), 0, 60_000);
  let octets = 0;
  for (let i = 0; i < 100; i++) if (reassembly.insert(seq(100_000 * i), large)) octets += 60_000;
  t.ok(octets <= 64 * CHUNK_OCTETS);
  t.ok(pool.used <= 64);
});

t.test('reassembly gives memory back while segments wait: reordering may go on for ever', async (t) => {
  const pool = new ChunkPool(1 << 26, memory);
  const reassembly = new TcpReassembly(pool);
  const list = new Fragments();
  list.push(arenaOf(new Uint8Array(1000)), 0, 1000);
  const into = new Fragments();
  reassembly.insert(seq(1000), list);
  for (let i = 2; i < 100_000; i++) {
    if (!reassembly.insert(seq(1000 * i), list)) throw new Error(`no room after ${i} segments`);
    into.clear();
    reassembly.take(seq(1000 * (i - 1)), into);
    // The last one always waits.
    into.clear();
    reassembly.settle();
    reassembly.insert(seq(1000 * i + 2000), list);
  }
  t.ok(pool.used <= 3, `${pool.used} chunks`);
});
