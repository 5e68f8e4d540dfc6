/**
 * Memory for frames that a link keeps for a while, bounded: blocks of 2 KiB, chained for larger frames, in arenas that
 * are made as they are needed. A kept frame is known by its first block's number.
 */

import type { FrameBatch } from '../frame-batch.ts';
import { plainArena } from '../frame-memory.ts';
import type { Arena } from '../port.ts';

const BLOCK_OCTETS = 2048;
const ARENA_BLOCKS = 256;
/** The first fragment of a frame holds its headers in one piece: a block is more than the 256 octets that asks for. */
const NONE = -1;

export class FramePool {
  /** Blocks in use. */
  used = 0;
  readonly #blocks: number;
  readonly #arenas: Arena[] = [];
  readonly #next: Int32Array;
  readonly #octets: Int32Array;
  #free = NONE;
  #made = 0;

  /** `octets`: what the pool may hold, whole blocks. */
  constructor(octets: number) {
    this.#blocks = Math.max(1, Math.floor(octets / BLOCK_OCTETS));
    this.#next = new Int32Array(this.#blocks);
    this.#octets = new Int32Array(this.#blocks);
  }

  /** Copies a frame; returns its number, -1 where there is no room. */
  keep(bytes: Uint8Array, at: number, octets: number): number {
    const blocks = Math.max(1, Math.ceil(octets / BLOCK_OCTETS));
    if (this.used + blocks > this.#blocks) return NONE;
    // From its end, so that each block knows the next.
    let next = NONE;
    for (let i = blocks - 1; i >= 0; i--) {
      const block = this.#take();
      const begin = i * BLOCK_OCTETS;
      const length = Math.min(BLOCK_OCTETS, octets - begin);
      this.#arenaOf(block).bytes.set(bytes.subarray(at + begin, at + begin + length), this.#offsetOf(block));
      this.#next[block] = next;
      next = block;
    }
    this.#octets[next] = octets;
    return next;
  }

  octets(frame: number): number {
    return this.#octets[frame]!;
  }

  /** Copies a kept frame out. */
  copy(frame: number, into: Uint8Array, at: number): void {
    let left = this.octets(frame);
    for (let block = frame, place = at; left > 0; block = this.#next[block]!) {
      const length = Math.min(left, BLOCK_OCTETS);
      const begin = this.#offsetOf(block);
      into.set(this.#arenaOf(block).bytes.subarray(begin, begin + length), place);
      place += length;
      left -= length;
    }
  }

  /** Adds a kept frame to a batch, where it lies; false: the batch has no place for it. Freed when the batch has been read. */
  push(frame: number, batch: FrameBatch): boolean {
    let left = this.octets(frame);
    if (batch.fragmentsLeft < Math.ceil(left / BLOCK_OCTETS)) return false;
    for (let block = frame; left > 0; block = this.#next[block]!) {
      const length = Math.min(left, BLOCK_OCTETS);
      const [arena, offset] = [this.#arenaOf(block), this.#offsetOf(block)];
      if (block === frame ? !batch.push(arena, offset, length) : !batch.extend(arena, offset, length)) return false;
      left -= length;
    }
    return true;
  }

  free(frame: number): void {
    for (let block = frame; block !== NONE; ) {
      const next = this.#next[block]!;
      this.#next[block] = this.#free;
      this.#free = block;
      this.used--;
      block = next;
    }
  }

  #take(): number {
    this.used++;
    const block = this.#free;
    if (block !== NONE) {
      this.#free = this.#next[block]!;
      return block;
    }
    const made = this.#made++;
    if (made % ARENA_BLOCKS === 0) this.#arenas.push(plainArena(ARENA_BLOCKS * BLOCK_OCTETS));
    return made;
  }

  #arenaOf(block: number): Arena {
    return this.#arenas[Math.floor(block / ARENA_BLOCKS)]!;
  }

  #offsetOf(block: number): number {
    return (block % ARENA_BLOCKS) * BLOCK_OCTETS;
  }
}
