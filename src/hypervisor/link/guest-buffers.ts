/**
 * Buffers that a guest offers for what it receives (virtio 1.2 5.1.6.3, 5.1.6.4), and how frames get into them. When one
 * stretch of guest memory holds the header and the whole frame, the frame is written there at once; else it is written
 * into memory of ours and copied, over several buffers where the driver merges them (MRG_RXBUF). Linux cuts its buffers
 * from pages one behind the other: neighbours are one stretch, and copied to as one.
 *
 * Buffers are popped for a reservation and used or given back by the commit, so none is held from one turn to the next.
 * Kicks are asked for only while there is too little room. Timers: none.
 */

import type { Arena } from '../../stack/port.ts';
import type { GuestFragment, MemoryRegion } from '../vhost-user/guest-memory.ts';
import { DescriptorChain, type Virtqueue } from '../vhost-user/virtqueue.ts';
import { arenaAt, LARGEST_FRAME, NET_HEADER_OCTETS, windowOffset } from './guest-frames.ts';
import { emitHeader } from './virtio-net-header.ts';

/** Where the count of merged buffers stands. */
const BUFFERS = 10;

export class GuestBuffers {
  /** Whether a frame may span several buffers. */
  merged = false;
  /** Frames that no buffer of this driver holds. */
  tooLarge = 0;
  /** Where a reserved frame goes. */
  arena: Arena;
  offset = NET_HEADER_OCTETS;
  readonly #own: Arena;
  readonly #chains: DescriptorChain[] = [];
  /** Stretches of guest memory that the popped chains make up, in order. */
  readonly #stretches: GuestFragment[] = [];
  #stretched = 0;
  /** Chains that are popped, for the reservation at hand. */
  #popped = 0;
  #queue: Virtqueue | undefined;

  constructor() {
    const bytes = new Uint8Array(NET_HEADER_OCTETS + LARGEST_FRAME);
    this.#own = { bytes, view: new DataView(bytes.buffer) };
    this.arena = this.#own;
  }

  get running(): boolean {
    return this.#queue !== undefined;
  }

  start(queue: Virtqueue): void {
    this.#queue = queue;
    queue.suppressKicks();
  }

  /** Ends the use of the queue: what was popped goes back, what was written is shown. */
  stop(): void {
    this.#release(0);
    this.#queue?.publish();
    this.#queue = undefined;
  }

  /** A kick was asked for and has come: no more of them. */
  kicked(): void {
    this.#queue?.suppressKicks();
  }

  /** Room for a frame of so many octets; false: none, and the driver will kick when it offers more. */
  reserve(octets: number): boolean {
    this.#release(0);
    const queue = this.#queue;
    if (!queue || octets > LARGEST_FRAME) return false;
    const needed = NET_HEADER_OCTETS + octets;
    if (!this.#gather(queue, needed)) {
      // Before it waits, the driver must have what is its. It may have offered more before it saw that kicks are wanted.
      queue.publish();
      queue.allowKicks();
      if (!this.#gather(queue, needed)) return false;
      queue.suppressKicks();
    }
    this.#stretch();
    const place = this.#stretches[0];
    if (this.#stretched > 0 && place!.length >= needed) {
      this.arena = arenaAt(place!.region, place!.offset);
      this.offset = windowOffset(place!.offset) + NET_HEADER_OCTETS;
    } else {
      this.arena = this.#own;
      this.offset = NET_HEADER_OCTETS;
    }
    return true;
  }

  commit(octets: number, checksumStart: number, checksumOffset: number, segmentOctets: number): void {
    const queue = this.#queue;
    if (!queue) return;
    if (this.#popped === 0) {
      this.tooLarge++;
      return;
    }
    const { arena, offset } = this;
    const { view } = arena;
    const header = offset - NET_HEADER_OCTETS;
    const total = NET_HEADER_OCTETS + octets;
    let used = 0;
    for (let left = total; left > 0; used++) {
      const chain = this.#chains[used]!;
      queue.push(chain, Math.min(left, chain.writableOctets));
      left -= chain.writableOctets;
    }
    emitHeader(view, header, view, offset, checksumStart, checksumOffset, segmentOctets);
    view.setUint16(header + BUFFERS, used, true);
    this.#release(used);
    this.#popped = 0;
    if (arena === this.#own) this.#scatter(total);
  }

  /** Shows the driver what was written since the last time. */
  flush(): void {
    this.#queue?.publish();
  }

  /** Pops chains that together hold `needed` octets; true with none popped when no chains of this driver ever could. */
  #gather(queue: Virtqueue, needed: number): boolean {
    let room = 0;
    while (room < needed) {
      const full = this.#popped === (this.merged ? queue.size : 1);
      let chain = this.#chains[this.#popped];
      if (!chain) this.#chains.push((chain = new DescriptorChain()));
      if (full || !queue.pop(chain)) {
        this.#release(0);
        return full;
      }
      this.#popped++;
      room += chain.writableOctets;
      if (chain.readable === 0 && chain.writableOctets >= NET_HEADER_OCTETS) continue;
      queue.fail(`a receive buffer of ${chain.writableOctets} octets, and ${chain.readableOctets} to read`);
      this.#release(0);
      return false;
    }
    return true;
  }

  /** Gives back all popped chains but the first `kept`. */
  #release(kept: number): void {
    if (this.#popped > kept) this.#queue?.unpop(this.#popped - kept);
    this.#popped = kept;
  }

  #stretch(): void {
    const stretches = this.#stretches;
    let count = 0;
    let end = -1;
    let within: MemoryRegion | undefined;
    for (let index = 0; index < this.#popped; index++) {
      const chain = this.#chains[index]!;
      for (let piece = 0; piece < chain.count; piece++) {
        const { region, offset, length } = chain.fragments[piece]!;
        if (region === within && offset === end) stretches[count - 1]!.length += length;
        else {
          const stretch = stretches[count++];
          if (stretch) {
            stretch.region = region;
            stretch.offset = offset;
            stretch.length = length;
          } else stretches.push({ region, offset, length });
          within = region;
        }
        end = offset + length;
      }
    }
    this.#stretched = count;
  }

  #scatter(octets: number): void {
    const { bytes } = this.#own;
    for (let index = 0, done = 0; done < octets; index++) {
      const { region, offset, length } = this.#stretches[index]!;
      const here = Math.min(length, octets - done);
      region.bytes.set(bytes.subarray(done, done + here), offset);
      done += here;
    }
  }
}
