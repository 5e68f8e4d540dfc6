/**
 * The one buffer there is between a host socket and the guest: octets from SND.UNA on, sent or not, until the guest
 * acknowledges them. A run of 64 KiB chunks of the shared pool, all full but the last; an empty queue holds none: its
 * owner writes into the chunks that the pool would give next, and takes them with the first `commit`.
 */

import type { Chunk, ChunkPool } from '../chunk-pool.ts';
import { CHUNK_OCTETS } from '../chunk-pool.ts';
import type { Fragments } from '../fragment-list.ts';
import type { Arena } from '../port.ts';

const SHIFT = 16;
const MASK = CHUNK_OCTETS - 1;
/** Places found at once: what one system call is worth filling. */
const MOST_PLACES = 17;

export class SendQueue {
  readonly #pool: ChunkPool;
  readonly #chunks: Chunk[] = [];
  /** Where the first octet lies in the first chunk. */
  #head = 0;
  /** Octets in the queue. */
  octets = 0;
  /** The most it holds; grows with what the guest takes. */
  limit: number;
  /** The place that `reserve` found; the first of what `reserveList` found. */
  arena: Arena | undefined = undefined;
  offset = 0;
  length = 0;
  /** How many of the pool's next chunks the places are in. */
  #shown = 0;
  /** Octets of the places that were not committed. */
  #reserved = 0;

  constructor(pool: ChunkPool, limit: number) {
    this.#pool = pool;
    this.limit = limit;
  }

  /** Chunks held. */
  get chunks(): number {
    return this.#chunks.length;
  }

  /** Finds a contiguous place after the last octet; false: full, or the pool is. It is to be committed before anything else is reserved anywhere. */
  reserve(): boolean {
    const room = this.limit - this.octets;
    if (room <= 0) return false;
    this.#shown = 0;
    this.#pool.shownTo = this;
    const tail = this.#head + this.octets;
    const chunk = this.#chunkAt(tail);
    if (!chunk) return false;
    this.arena = chunk.arena;
    this.offset = chunk.offset + (tail & MASK);
    this.length = Math.min(room, CHUNK_OCTETS - (tail & MASK));
    this.#reserved = this.length;
    return true;
  }

  /** The same for several places, one after another; false: not even one. */
  reserveList(into: Fragments): boolean {
    into.clear();
    if (!this.reserve()) return false;
    into.push(this.arena!, this.offset, this.length);
    const end = this.#head + this.limit;
    let tail = this.#head + this.octets + this.length;
    while (tail < end && into.count < MOST_PLACES) {
      const chunk = this.#chunkAt(tail);
      if (!chunk) break;
      const length = Math.min(end - tail, CHUNK_OCTETS);
      into.push(chunk.arena, chunk.offset, length);
      this.#reserved += length;
      tail += length;
    }
    return true;
  }

  /** The first `octets` of what was reserved are filled. */
  commit(octets: number): void {
    if (octets === 0) return;
    if (octets < 0 || octets > this.#reserved)
      throw Object.assign(new Error('commitSend without as much reserved'), { code: 'ERR_NOT_RESERVED' });
    const last = this.#head + this.octets + octets - 1;
    while (this.#chunks.length <= last >>> SHIFT) {
      if (this.#shown === 0 || this.#pool.shownTo !== this)
        throw Object.assign(new Error('another flow reserved before commitSend'), { code: 'ERR_NOT_RESERVED' });
      this.#shown--;
      this.#chunks.push(this.#pool.take()!);
    }
    this.octets += octets;
    this.#reserved -= octets;
    this.length -= octets;
    this.offset += octets;
  }

  /** The chunk that the octet at `tail` (from the first chunk's start) is in or will be in; those to be taken from the pool are counted. */
  #chunkAt(tail: number): Chunk | undefined {
    const own = this.#chunks[tail >>> SHIFT];
    if (own) return own;
    const chunk = this.#pool.next(this.#chunks.length + this.#shown, this.#shown);
    if (chunk) this.#shown++;
    return chunk;
  }

  /** The chunk that octet `index` (from SND.UNA) lies in; its place there is `at(index)`, and `within(index)` octets follow. */
  chunkOf(index: number): Chunk {
    return this.#chunks[(this.#head + index) >>> SHIFT]!;
  }

  placeOf(index: number): number {
    return (this.#head + index) & MASK;
  }

  /** The first `octets` are acknowledged: forget them. */
  release(octets: number): void {
    this.octets -= octets;
    this.#head += octets;
    while (this.#head >= CHUNK_OCTETS) {
      this.#head -= CHUNK_OCTETS;
      this.#pool.give(this.#chunks.shift()!);
    }
    if (this.octets === 0) this.#clear();
    this.#reserved = 0;
  }

  clear(): void {
    this.octets = 0;
    this.#reserved = 0;
    this.#clear();
  }

  #clear(): void {
    this.#head = 0;
    for (let chunk = this.#chunks.pop(); chunk; chunk = this.#chunks.pop()) this.#pool.give(chunk);
  }
}
