/** Sums by vectors against sums by the book. */

import fc from 'fast-check';
import t from 'tap';
import { copyAndSum, FrameMemory, plainArena, sum } from '../../src/stack/frame-memory.ts';
import * as checksum from '../../src/stack/wire/checksum.ts';
import { create, LARGEST_OCTETS } from '../../src/stack/wire/checksum-simd.ts';

/** One's complement has two zeros, and a sum of nothing but zeros is the other one. */
const same = (a: number, b: number): boolean =>
  checksum.fold(a) % 0xffff === checksum.fold(b) % 0xffff && (a === 0) === (b === 0);

const memory = new FrameMemory(4 << 20);
const from = memory.arena(300_000);
const into = memory.arena(300_000);

t.test('equal to the plain sum at any place and length, and copies just that', async (t) => {
  t.ok(from.sums, 'this machine has vectors');
  const length = fc.oneof(fc.nat(200), fc.nat(70_000));
  fc.assert(
    fc.property(fc.nat(70), fc.nat(70), length, fc.nat(255), (at, intoAt, octets, seed) => {
      for (let i = 0; i < octets; i++) from.bytes[at + i] = seed === 0 ? 0 : (i * 197 + seed * (i >> 3)) & 0xff;
      into.bytes.fill(0xa5, 0, intoAt + octets + 100);
      const wanted = checksum.sum(from.view, at, octets);
      if (!same(sum(from, at, octets), wanted)) throw new Error('sum');
      if (!same(copyAndSum(from, at, into, intoAt, octets), wanted)) throw new Error('copyAndSum');
      const copied = into.bytes.subarray(intoAt, intoAt + octets);
      if (Buffer.compare(copied, from.bytes.subarray(at, at + octets)) !== 0) throw new Error('copy');
      const around = [
        ...into.bytes.subarray(0, intoAt),
        ...into.bytes.subarray(intoAt + octets, intoAt + octets + 100),
      ];
      if (around.some((octet) => octet !== 0xa5)) throw new Error('it wrote beyond');
      const plain = plainArena(octets + 3);
      if (!same(copyAndSum(from, at, plain, 3, octets), wanted)) throw new Error('to ordinary memory');
    }),
    { numRuns: 500 },
  );
});

t.test('the largest sums do not overflow', async (t) => {
  from.bytes.fill(0xff);
  t.equal(sum(from, 0, LARGEST_OCTETS), 0xffff);
  t.equal(copyAndSum(from, 0, into, 1, LARGEST_OCTETS), 0xffff);
});

t.test('arenas do not overlap, and beyond the memory there is ordinary memory', async (t) => {
  const small = new FrameMemory(65536);
  const arenas = Array.from({ length: 10 }, () => small.arena(10_001));
  for (const [i, { bytes }] of arenas.entries()) bytes.fill(i);
  for (const [i, { bytes, view }] of arenas.entries()) {
    t.ok(bytes.every((octet) => octet === i));
    t.equal(view.getUint8(10_000), i);
  }
  t.ok(arenas[0]!.sums);
  t.equal(arenas[9]!.sums, undefined);
});

t.test('a machine without WebAssembly, or without room', async (t) => {
  const host = globalThis as { WebAssembly?: unknown };
  const { WebAssembly } = host;
  t.teardown(() => {
    host.WebAssembly = WebAssembly;
  });
  t.equal(create(2 ** 40), undefined);
  host.WebAssembly = undefined;
  t.equal(create(65536), undefined);
  const arena = new FrameMemory().arena(100);
  arena.bytes.fill(1);
  t.equal(sum(arena, 0, 4), 0x0202);
});
