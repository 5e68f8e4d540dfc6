/**
 * Memory for octets on their way to host sockets. A socket keeps what it is given until its write is done, and the
 * guest's memory cannot be lent for so long, so every write is copied once, into slabs that all sockets of one adapter
 * share: writes are laid one behind the other, and a slab is used again when the last of its writes is done. Most are
 * done before the next begins, so in the steady state one warm slab serves everybody.
 */

import type { FragmentList } from '../../stack/port.ts';

export const SLAB = 256 * 1024;
/** Idle slabs kept; more are left to the collector. */
const KEPT = 16;

export class WriteSlab {
  readonly bytes = new Uint8Array(SLAB);
  end = 0;
  /** Writes under way from this slab. */
  writes = 0;
}

export class WritePool {
  /** Octets that sockets have not taken yet. */
  pendingOctets = 0;
  /** The slab that `gather` used last. */
  slab = new WriteSlab();
  readonly #idle: WriteSlab[] = [];

  /**
   * Copies `octets` (at most SLAB) of the fragments, from octet `skip` on, to one contiguous place, which the caller
   * gives back with `release(slab, octets)`.
   */
  gather(fragments: FragmentList, skip: number, octets: number): Buffer {
    if (this.slab.end + octets > SLAB) this.#next();
    const slab = this.slab;
    const start = slab.end;
    const end = start + octets;
    let at = start;
    for (let i = 0; at < end; i++) {
      const { arena, offset, length } = fragments.items[i]!;
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const take = Math.min(length - skip, end - at);
      slab.bytes.set(arena.bytes.subarray(offset + skip, offset + skip + take), at);
      at += take;
      skip = 0;
    }
    slab.end = end;
    slab.writes++;
    this.pendingOctets += octets;
    return Buffer.from(slab.bytes.buffer, start, octets);
  }

  release(slab: WriteSlab, octets: number): void {
    this.pendingOctets -= octets;
    if (--slab.writes > 0) return;
    slab.end = 0;
    if (slab !== this.slab && this.#idle.length < KEPT) this.#idle.push(slab);
  }

  #next(): void {
    this.slab = this.#idle.pop() ?? new WriteSlab();
  }
}
