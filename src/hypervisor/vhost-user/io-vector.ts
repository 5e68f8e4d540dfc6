/** A reusable array of `struct iovec` whose entries lie in guest memory: readv and writev without a copy. */

import { addressOfBuffer } from '../../native/memory.ts';
import { readv, writev } from '../../native/system-calls.ts';
import type { MemoryRegion } from './guest-memory.ts';

export class IoVector {
  readonly capacity: number;
  readonly #memory: ArrayBuffer;
  readonly #halves: Uint32Array;
  readonly #address: number;
  readonly #regions: MemoryRegion[] = [];
  readonly #offsets: Float64Array;
  readonly #lengths: Float64Array;
  #count = 0;
  #octets = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#memory = new ArrayBuffer(capacity * 16);
    this.#halves = new Uint32Array(this.#memory);
    this.#address = addressOfBuffer(this.#memory);
    this.#offsets = new Float64Array(capacity);
    this.#lengths = new Float64Array(capacity);
  }

  get count(): number {
    return this.#count;
  }

  get octets(): number {
    return this.#octets;
  }

  clear(): void {
    this.#count = 0;
    this.#octets = 0;
  }

  /** Appends a stretch of guest memory; the caller minds `capacity`. */
  add(region: MemoryRegion, offset: number, length: number): void {
    const index = this.#count++;
    const address = region.hostAddress + offset;
    this.#halves[index * 4] = address >>> 0;
    this.#halves[index * 4 + 1] = Math.floor(address / 2 ** 32);
    this.#halves[index * 4 + 2] = length >>> 0;
    this.#halves[index * 4 + 3] = Math.floor(length / 2 ** 32);
    this.#regions[index] = region;
    this.#offsets[index] = offset;
    this.#lengths[index] = length;
    this.#octets += length;
  }

  /** Octets moved, 0 at the end, or the negative errno. */
  readFrom(fd: number): number {
    return readv(fd, this.#address, this.#count);
  }

  writeTo(fd: number): number {
    return writev(fd, this.#address, this.#count);
  }

  /** Hands over what lies beyond the first `skip` octets, piece by piece. */
  eachAfter(skip: number, take: (bytes: Uint8Array, start: number, end: number) => void): void {
    let before = skip;
    for (let index = 0; index < this.#count; index++) {
      const length = this.#lengths[index]!;
      if (before >= length) {
        before -= length;
        continue;
      }
      const offset = this.#offsets[index]!;
      take(this.#regions[index]!.bytes, offset + before, offset + length);
      before = 0;
    }
  }
}
