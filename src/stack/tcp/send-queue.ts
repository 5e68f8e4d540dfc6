/**
 * The one buffer there is between a host socket and the guest: octets from SND.UNA on, sent or not, until the guest
 * acknowledges them. A run of 64 KiB chunks of the shared pool, all full but the last; an empty queue holds none: its
 * owner writes into the chunk that the pool would give next, and takes it with the first `commit`.
 */

import type { Chunk, ChunkPool } from '../chunk-pool.ts';
import { CHUNK_OCTETS } from '../chunk-pool.ts';
import type { Arena } from '../port.ts';

const SHIFT = 16;
const MASK = CHUNK_OCTETS - 1;

export class SendQueue {
  readonly #pool: ChunkPool;
  readonly #chunks: Chunk[] = [];
  /** Where the first octet lies in the first chunk. */
  #head = 0;
  /** Octets in the queue. */
  octets = 0;
  /** The most it holds; grows with what the guest takes. */
  limit: number;
  /** The place that `reserve` found. */
  arena: Arena | undefined = undefined;
  offset = 0;
  length = 0;
  #reserved: Chunk | undefined = undefined;

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
    const tail = this.#head + this.octets;
    let chunk = this.#chunks[tail >>> SHIFT];
    if (!chunk) {
      chunk = this.#pool.next(this.#chunks.length);
      if (!chunk) return false;
    }
    this.#reserved = chunk;
    this.arena = chunk.arena;
    this.offset = chunk.offset + (tail & MASK);
    this.length = Math.min(room, CHUNK_OCTETS - (tail & MASK));
    return true;
  }

  /** The first `octets` of the reserved place are filled. */
  commit(octets: number): void {
    const chunk = this.#reserved;
    if (octets === 0) return;
    if (!chunk || octets < 0 || octets > this.length)
      throw Object.assign(new Error('commitSend without as much reserved'), { code: 'ERR_NOT_RESERVED' });
    const tail = this.#head + this.octets;
    if (tail >>> SHIFT === this.#chunks.length) {
      if (this.#pool.take() !== chunk)
        throw Object.assign(new Error('another flow reserved before commitSend'), { code: 'ERR_NOT_RESERVED' });
      this.#chunks.push(chunk);
    }
    this.octets += octets;
    this.length -= octets;
    this.offset += octets;
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
    this.#reserved = undefined;
  }

  clear(): void {
    this.octets = 0;
    this.#reserved = undefined;
    this.#clear();
  }

  #clear(): void {
    this.#head = 0;
    for (let chunk = this.#chunks.pop(); chunk; chunk = this.#chunks.pop()) this.#pool.give(chunk);
  }
}
