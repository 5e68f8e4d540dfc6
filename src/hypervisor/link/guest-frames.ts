/**
 * Frames that a guest sends through a virtqueue (virtio 1.2 5.1.6.2), as batches. The virtio header and the frame's
 * first octets are copied once, into memory that the guest cannot reach; a short frame is copied whole, and of a long
 * one the rest stays where the guest put it, as fragments of its memory. A frame in very many pieces is copied too.
 * All chains of a batch go back to the guest together, after the batch has been handed over.
 *
 * A chain that holds no frame (shorter than an Ethernet header, longer than any, or with buffers to write) is counted
 * and returned. Timers: none.
 */

import { type Arena, CHECKSUM_PARTIAL, CHECKSUM_UNKNOWN, FrameBatch } from '../../stack/port.ts';
import type { GuestFragment, MemoryRegion } from '../vhost-user/guest-memory.ts';
import { DescriptorChain, type Virtqueue } from '../vhost-user/virtqueue.ts';
import { checksumState, segmentSize } from './virtio-net-header.ts';

/** With the count of buffers, which VERSION_1 always has. */
export const NET_HEADER_OCTETS = 12;
export const ETHERNET_HEADER = 14;
/** An IP packet of 65535 octets behind an Ethernet header with a VLAN tag. */
export const LARGEST_FRAME = 65535 + ETHERNET_HEADER + 4;
/** Headers that must be ours. */
const COPIED = 256;
/** Up to here copying costs less than to follow fragments. */
const COPIED_WHOLE = 2048;
/** Frames in more pieces are copied. A driver's largest frame is in about 18. */
const PIECES = 32;
const BATCH_FRAMES = 256;
const BATCH_FRAGMENTS = BATCH_FRAMES * 4;
/** Room for a batch of short frames, and for one copied whole at the end. */
const COPIES = BATCH_FRAMES * (COPIED_WHOLE + 64) + NET_HEADER_OCTETS + LARGEST_FRAME + 64;
/** With the header at the start, and before Ethernet, IPv4 and TCP, the words of all three lie even. */
const ALIGNMENT = 64;

/** Offsets in a batch have 32 bits; guest memory may have more. Windows overlap, so that no fragment crosses one's end. */
const WINDOW = 2 ** 31;
const windows = new WeakMap<MemoryRegion, Arena[]>();

/** The arena for a place in guest memory: the region itself, or a window that begins at `windowStart`. */
export function arenaAt(region: MemoryRegion, offset: number): Arena {
  const index = Math.floor(offset / WINDOW);
  if (index === 0) return region;
  let arenas = windows.get(region);
  if (!arenas) windows.set(region, (arenas = []));
  let arena = arenas[index];
  if (!arena) {
    const start = region.bytes.byteOffset + index * WINDOW;
    const octets = Math.min(2 * WINDOW, region.octets - index * WINDOW);
    const { buffer } = region.bytes;
    arena = { bytes: new Uint8Array(buffer, start, octets), view: new DataView(buffer, start, octets) };
    arenas[index] = arena;
  }
  return arena;
}

/** `offset` within the arena that `arenaAt` gives. */
export function windowOffset(offset: number): number {
  return offset % WINDOW;
}

export class GuestFrames {
  /** Chains without a frame. */
  malformed = 0;
  readonly batch = new FrameBatch(BATCH_FRAMES, BATCH_FRAGMENTS / BATCH_FRAMES);
  readonly #copies: Arena;
  readonly #chain = new DescriptorChain();
  #end = 0;
  #fragments = 0;

  constructor() {
    const bytes = new Uint8Array(COPIES);
    this.#copies = { bytes, view: new DataView(bytes.buffer) };
  }

  /**
   * Fills the batch from the queue. Chains are put on the used ring, which the guest sees when the caller publishes:
   * after the batch has been read.
   */
  take(queue: Virtqueue): void {
    const chain = this.#chain;
    this.batch.clear();
    this.#end = 0;
    this.#fragments = 0;
    for (let taken = 0; taken < BATCH_FRAMES && this.#fragments + 1 + PIECES <= BATCH_FRAGMENTS; taken++) {
      if (this.#end + NET_HEADER_OCTETS + LARGEST_FRAME > COPIES || !queue.pop(chain)) return;
      this.#add(chain);
      queue.push(chain, 0);
    }
  }

  #add(chain: DescriptorChain): void {
    const octets = chain.readableOctets - NET_HEADER_OCTETS;
    if (octets < ETHERNET_HEADER || octets > LARGEST_FRAME || chain.readable !== chain.count) {
      this.malformed++;
      return;
    }
    const whole = octets <= COPIED_WHOLE || chain.readable > PIECES;
    const copied = NET_HEADER_OCTETS + (whole ? octets : COPIED);
    const { bytes, view } = this.#copies;
    const at = this.#end;
    this.#end = (at + copied + ALIGNMENT - 1) & -ALIGNMENT;
    let index = 0;
    let within = 0;
    for (let done = 0; done < copied; ) {
      const { region, offset, length } = chain.fragments[index] as GuestFragment;
      const here = Math.min(length, copied - done);
      copy(region, offset, here, bytes, at + done);
      done += here;
      within = here;
      if (here === length) {
        index++;
        within = 0;
      }
    }
    // Verified is what a device says, not a driver (5.1.6.2).
    const checksum = checksumState(view, at) === CHECKSUM_PARTIAL ? CHECKSUM_PARTIAL : CHECKSUM_UNKNOWN;
    const { batch } = this;
    batch.push(this.#copies, at + NET_HEADER_OCTETS, copied - NET_HEADER_OCTETS, checksum, segmentSize(view, at));
    this.#fragments++;
    if (whole) return;
    for (; index < chain.readable; index++, within = 0) {
      const { region, offset, length } = chain.fragments[index] as GuestFragment;
      batch.extend(arenaAt(region, offset + within), windowOffset(offset + within), length - within);
      this.#fragments++;
    }
  }
}

/** A view for each copy costs more than a few octets do. */
const BY_OCTET = 32;

function copy(region: MemoryRegion, offset: number, octets: number, into: Uint8Array, at: number): void {
  const { bytes } = region;
  if (octets > BY_OCTET) into.set(bytes.subarray(offset, offset + octets), at);
  else for (let i = 0; i < octets; i++) into[at + i] = bytes[offset + i]!;
}
