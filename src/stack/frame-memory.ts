/**
 * Memory for frames that checksums are computed over at vector speed: arenas cut from one WebAssembly memory. Send
 * queues live in it; a link whose receive ring and transmit slabs live in the same one spares the stack most of the
 * cost of summing (measured on 1480 octets: 41 ns instead of 180, and copying comes nearly for free).
 *
 * The memory is reserved at once and never grows, as growing would take it away from under those who hold views of it;
 * what is not touched costs nothing. Beyond it, and where WebAssembly or its vectors are missing, arenas are ordinary
 * memory and sums are computed in JavaScript.
 */

import type { Arena, ArenaSource } from './port.ts';
import * as checksum from './wire/checksum.ts';
import { create, type SimdSums } from './wire/checksum-simd.ts';

/** Send queues' 64 MiB, and room for the rings and slabs of some links. */
const DEFAULT_OCTETS = 80 << 20;
/** Arenas begin at a cache line. */
const ALIGNMENT = 64;

/** An arena of ordinary memory. */
export function plainArena(octets: number): Arena {
  const bytes = new Uint8Array(octets);
  return { bytes, view: new DataView(bytes.buffer), sums: undefined, base: 0 };
}

export class FrameMemory implements ArenaSource {
  readonly #sums: SimdSums | undefined;
  readonly #buffer: ArrayBuffer | undefined;
  #used = 0;

  constructor(octets = DEFAULT_OCTETS) {
    const memory = create(octets);
    this.#sums = memory?.sums;
    this.#buffer = memory?.buffer;
  }

  arena(octets: number): Arena {
    const buffer = this.#buffer;
    const base = this.#used;
    if (!buffer || base + octets > buffer.byteLength) return plainArena(octets);
    this.#used = Math.ceil((base + octets) / ALIGNMENT) * ALIGNMENT;
    const bytes = new Uint8Array(buffer, base, octets);
    return { bytes, view: new DataView(buffer, base, octets), sums: this.#sums, base };
  }
}

/** The partial sum of `length` octets at `at` of an arena. */
export function sum(arena: Arena, at: number, length: number): number {
  const { sums } = arena;
  return sums === undefined ? checksum.sum(arena.view, at, length) : sums.sum(arena.base! + at, length);
}

/** Copies `length` octets from one arena to another and returns their partial sum. */
export function copyAndSum(from: Arena, fromAt: number, into: Arena, intoAt: number, length: number): number {
  const { sums } = from;
  if (sums !== undefined && sums === into.sums)
    return sums.copyAndSum(from.base! + fromAt, into.base! + intoAt, length);
  return checksum.copyAndSum(from.view, fromAt, into.view, intoAt, length);
}
