/**
 * The memory that send queues and out-of-order segments live in: chunks of 64 KiB cut from a few long-lived arenas,
 * within one budget for all flows. A flow holds chunks only while it has octets in them. When memory runs short each
 * flow may hold only as much as is still free (a dynamic threshold: Choudhury and Hahne 1998), so that flows whose
 * guest has stopped reading cannot take it all; a flow that was refused is told when a chunk comes back.
 */

import type { Arena, ArenaSource } from './port.ts';

export const CHUNK_OCTETS = 65536;
/** Chunks per arena. */
const ARENA_CHUNKS = 16;

export interface Chunk {
  readonly arena: Arena;
  readonly offset: number;
}

export interface ChunkWaiter {
  chunkFreed(): void;
}

export class ChunkPool {
  readonly limit: number;
  readonly #memory: ArenaSource;
  readonly #free: Chunk[] = [];
  readonly #waiters = new Set<ChunkWaiter>();
  /** Whom the next chunks were shown to, as `next` says; undefined: they are others by now. */
  shownTo: object | undefined = undefined;
  #made = 0;

  constructor(budgetOctets: number, memory: ArenaSource) {
    this.#memory = memory;
    this.limit = Math.max(2, Math.floor(budgetOctets / CHUNK_OCTETS));
  }

  /** Chunks out. */
  get used(): number {
    return this.#made - this.#free.length;
  }

  /**
   * The chunk that `take` would give, after `ahead` others, to a flow that holds `held` (those included); undefined: not
   * now (see `wait`).
   */
  next(held: number, ahead = 0): Chunk | undefined {
    const free = this.limit - this.used - ahead;
    if (free <= 0 || (held > 1 && held > free)) return undefined;
    if (this.#free.length <= ahead) this.#grow();
    return this.#free[this.#free.length - 1 - ahead];
  }

  /** Takes what `next` gave. */
  take(): Chunk | undefined {
    return this.#free.pop();
  }

  give(chunk: Chunk): void {
    this.shownTo = undefined;
    this.#free.push(chunk);
    for (const waiter of this.#waiters) {
      this.#waiters.delete(waiter);
      waiter.chunkFreed();
      return;
    }
  }

  /** `waiter.chunkFreed` will be called once, when a chunk has come back. */
  wait(waiter: ChunkWaiter): void {
    this.#waiters.add(waiter);
  }

  forget(waiter: ChunkWaiter): void {
    this.#waiters.delete(waiter);
  }

  #grow(): void {
    const count = Math.min(ARENA_CHUNKS, this.limit - this.#made);
    const arena = this.#memory.arena(count * CHUNK_OCTETS);
    const chunks: Chunk[] = [];
    // Backwards, so that they are taken in the order of their addresses; after those that somebody may have been shown.
    for (let i = count - 1; i >= 0; i--) chunks.push({ arena, offset: i * CHUNK_OCTETS });
    this.#free.unshift(...chunks);
    this.#made += count;
  }
}
