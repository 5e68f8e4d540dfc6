/**
 * A batch of received frames, kept as columns so that no object is made per frame. A frame is a run of fragments:
 * the first holds its headers contiguously (at least min(256, frame) octets, in memory that only we write, so that
 * what was checked cannot change), the rest is payload wherever the link left it. The batch and the memory it points
 * at belong to the link; both are valid until `LinkHandler.input` returns.
 */

import type { Arena } from './port.ts';

/** Checksum state of a frame, as in virtio: not looked at, verified below us, or partial (the sender left it to its link). */
export const CHECKSUM_UNKNOWN = 0;
export const CHECKSUM_VERIFIED = 1;
export const CHECKSUM_PARTIAL = 2;

export class FrameBatch {
  readonly capacity: number;
  /** Frames in the batch. */
  count = 0;
  /** Per frame: its first fragment, how many it has, its octets in all. */
  readonly first: Uint32Array;
  readonly fragments: Uint8Array;
  readonly octets: Uint32Array;
  /** Per frame: CHECKSUM_*; segment size of a frame the link did not cut, else 0. */
  readonly checksum: Uint8Array;
  readonly segmentOctets: Uint16Array;
  /** Per fragment. */
  readonly arena: Arena[] = [];
  readonly offset: Uint32Array;
  readonly length: Uint32Array;
  #fragmentCount = 0;

  constructor(capacity = 1024, fragmentsPerFrame = 2) {
    this.capacity = capacity;
    this.first = new Uint32Array(capacity);
    this.fragments = new Uint8Array(capacity);
    this.octets = new Uint32Array(capacity);
    this.checksum = new Uint8Array(capacity);
    this.segmentOctets = new Uint16Array(capacity);
    this.offset = new Uint32Array(capacity * fragmentsPerFrame);
    this.length = new Uint32Array(capacity * fragmentsPerFrame);
  }

  /** Places left for fragments. */
  get fragmentsLeft(): number {
    return this.offset.length - this.#fragmentCount;
  }

  clear(): void {
    this.count = 0;
    this.#fragmentCount = 0;
  }

  /** Adds a frame of one contiguous fragment; false when the batch is full. */
  push(arena: Arena, offset: number, length: number, checksum: number = CHECKSUM_UNKNOWN, segmentOctets = 0): boolean {
    if (this.count === this.capacity || this.#fragmentCount === this.offset.length) return false;
    const i = this.count++;
    const f = this.#fragmentCount++;
    this.first[i] = f;
    this.fragments[i] = 1;
    this.octets[i] = length;
    this.checksum[i] = checksum;
    this.segmentOctets[i] = segmentOctets;
    this.arena[f] = arena;
    this.offset[f] = offset;
    this.length[f] = length;
    return true;
  }

  /** Appends a payload fragment to the frame pushed last; false when the batch has no place for it. */
  extend(arena: Arena, offset: number, length: number): boolean {
    const i = this.count - 1;
    if (i < 0 || this.#fragmentCount === this.offset.length || this.fragments[i] === 255) return false;
    const f = this.#fragmentCount++;
    this.fragments[i]!++;
    this.octets[i]! += length;
    this.arena[f] = arena;
    this.offset[f] = offset;
    this.length[f] = length;
    return true;
  }
}
