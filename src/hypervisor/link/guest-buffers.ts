/**
 * Buffers that a guest offers for what it receives (virtio 1.2 5.1.6.3, 5.1.6.4), and how frames get into them. When one
 * stretch of guest memory holds the header and the whole frame, the frame is written there at once; else it is written
 * into memory of ours and copied, over several buffers where the driver merges them (MRG_RXBUF).
 *
 * Buffers are popped for a reservation and used or given back by the commit, so none is held from one turn to the next.
 * Kicks are asked for only while there is too little room. Timers: none.
 */

import type { Arena } from '../../stack/port.ts';
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
    const place = this.#popped > 0 ? this.#chains[0]!.fragments[0] : undefined;
    if (place && place.length >= needed) {
      this.arena = arenaAt(place.region, place.offset);
      this.offset = windowOffset(place.offset) + NET_HEADER_OCTETS;
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
    for (let room = 0; room < total; used++) room += this.#chains[used]!.writableOctets;
    emitHeader(view, header, view, offset, checksumStart, checksumOffset, segmentOctets);
    view.setUint16(header + BUFFERS, used, true);
    this.#release(used);
    this.#popped = 0;
    if (arena !== this.#own) queue.push(this.#chains[0]!, total);
    else this.#scatter(queue, used, total);
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

  #scatter(queue: Virtqueue, chains: number, octets: number): void {
    const { bytes } = this.#own;
    let done = 0;
    for (let index = 0; index < chains; index++) {
      const chain = this.#chains[index]!;
      const before = done;
      for (let piece = 0; piece < chain.count && done < octets; piece++) {
        const { region, offset, length } = chain.fragments[piece]!;
        const here = Math.min(length, octets - done);
        region.bytes.set(bytes.subarray(done, done + here), offset);
        done += here;
      }
      queue.push(chain, done - before);
    }
  }
}
