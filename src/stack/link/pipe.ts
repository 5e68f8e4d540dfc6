/**
 * A wire between two stacks in one process: what one end commits, the other receives as one batch when `deliver` is
 * called. Nothing is copied; each direction writes into one of two slabs while the other one is being read. A slab that
 * is full refuses, as a real link does, and says `writable` when it has been read.
 */

import { CHECKSUM_PARTIAL, CHECKSUM_UNKNOWN, FrameBatch } from '../frame-batch.ts';
import { plainArena } from '../frame-memory.ts';
import type { Arena, ArenaSource, LinkHandler, LinkOffload, LinkPort } from '../port.ts';

export interface PipeOptions {
  readonly mtu?: number;
  readonly offload?: LinkOffload;
  /** Octets that each direction holds until they are delivered. */
  readonly slabOctets?: number;
  readonly memory?: ArenaSource;
  /** Frames that each direction holds. */
  readonly frames?: number;
  /** Something was flushed: `deliver` is due. */
  readonly flushed?: (pipe: Pipe) => void;
}

class Slab {
  readonly arena: Arena;
  readonly batch: FrameBatch;
  used = 0;

  constructor(memory: ArenaSource, octets: number, frames: number) {
    this.arena = memory.arena(octets);
    this.batch = new FrameBatch(frames, 1);
  }
}

class PipeEnd implements LinkPort {
  readonly name: string;
  readonly mtu: number;
  readonly offload: LinkOffload;
  readonly #flushed: () => void;
  #filling: Slab;
  #other: Slab;
  #refused = false;
  #closed = false;
  handler: LinkHandler | undefined = undefined;
  /** The end that receives what is sent here. */
  peer: PipeEnd | undefined = undefined;

  constructor(name: string, options: PipeOptions, flushed: () => void) {
    this.name = name;
    this.mtu = options.mtu ?? 1500;
    this.offload = options.offload ?? { checksum: false, segmentOctets: 0 };
    const octets = options.slabOctets ?? 512 * 1024;
    const frames = options.frames ?? 1024;
    const memory = options.memory ?? { arena: plainArena };
    this.#filling = new Slab(memory, octets, frames);
    this.#other = new Slab(memory, octets, frames);
    this.#flushed = flushed;
  }

  get txArena(): Arena {
    return this.#filling.arena;
  }

  get txOffset(): number {
    return this.#filling.used;
  }

  start(handler: LinkHandler): void {
    this.handler = handler;
  }

  reserve(octets: number): boolean {
    const { used, arena, batch } = this.#filling;
    if (this.#closed || used + octets > arena.bytes.length || batch.count === batch.capacity) {
      this.#refused = true;
      return false;
    }
    return true;
  }

  commit(octets: number, checksumStart: number, _checksumOffset: number, segmentOctets: number): void {
    const slab = this.#filling;
    const checksum = checksumStart > 0 ? CHECKSUM_PARTIAL : CHECKSUM_UNKNOWN;
    slab.batch.push(slab.arena, slab.used, octets, checksum, segmentOctets);
    slab.used += octets;
  }

  flush(): void {
    this.#flushed();
  }

  /** Hands what was sent here to the other end; returns the frames. */
  deliver(): number {
    const slab = this.#filling;
    const { count } = slab.batch;
    if (count === 0 || this.#closed) return 0;
    this.#filling = this.#other;
    this.#other = slab;
    this.peer?.handler?.input(slab.batch);
    slab.batch.clear();
    slab.used = 0;
    if (this.#refused) {
      this.#refused = false;
      this.handler?.writable();
    }
    return count;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.handler?.closed();
    this.peer?.close();
  }
}

export class Pipe {
  readonly #left: PipeEnd;
  readonly #right: PipeEnd;

  constructor(options: PipeOptions = {}) {
    const flushed = (): void => options.flushed?.(this);
    this.#left = new PipeEnd('pipe:left', options, flushed);
    this.#right = new PipeEnd('pipe:right', options, flushed);
    this.#left.peer = this.#right;
    this.#right.peer = this.#left;
  }

  get left(): LinkPort {
    return this.#left;
  }

  get right(): LinkPort {
    return this.#right;
  }

  /** Hands over what both ends have sent; returns the frames. */
  deliver(): number {
    return this.#left.deliver() + this.#right.deliver();
  }
}
