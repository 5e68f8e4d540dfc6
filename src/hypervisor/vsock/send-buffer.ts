/** A ring of octets that a host socket has not taken yet; filled from guest memory, written out by system call. */

import { addressOf, errno, write } from '../vhost-user/libc.ts';

export class SendBuffer {
  readonly capacity: number;
  readonly #memory: ArrayBuffer;
  readonly #bytes: Uint8Array;
  readonly #address: number;
  #start = 0;
  #length = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#memory = new ArrayBuffer(capacity);
    this.#bytes = new Uint8Array(this.#memory);
    this.#address = addressOf(this.#memory);
  }

  get length(): number {
    return this.#length;
  }

  /** Appends bytes[from, to); the caller keeps within `capacity`. */
  append(bytes: Uint8Array, from: number, to: number): void {
    const at = (this.#start + this.#length) % this.capacity;
    const first = Math.min(to - from, this.capacity - at);
    this.#bytes.set(bytes.subarray(from, from + first), at);
    if (from + first < to) this.#bytes.set(bytes.subarray(from + first, to), 0);
    this.#length += to - from;
  }

  /** Writes what the socket takes; octets written, or the negative errno when it fails. */
  writeTo(fd: number): number {
    let written = 0;
    while (this.#length > 0) {
      const octets = Math.min(this.#length, this.capacity - this.#start);
      const result = write(fd, this.#address + this.#start, octets);
      if (result === -errno.EAGAIN) break;
      if (result < 0) return result;
      written += result;
      this.#length -= result;
      this.#start = this.#length === 0 ? 0 : (this.#start + result) % this.capacity;
    }
    return written;
  }

  clear(): void {
    this.#start = 0;
    this.#length = 0;
  }
}

/**
 * Keeps drained buffers for the next stall, and decides how much each connection may have held: the sum over all
 * connections stays within `totalOctets`, and late connections get less rather than none.
 */
export class SendBufferPool {
  readonly #largest: number;
  readonly #smallest: number;
  readonly #total: number;
  readonly #free: SendBuffer[] = [];
  #reserved = 0;

  constructor(largest: number, connections: number, totalOctets: number) {
    this.#largest = largest;
    this.#total = totalOctets;
    this.#smallest = Math.max(4096, Math.floor(totalOctets / connections / 4));
  }

  get reserved(): number {
    return this.#reserved;
  }

  /** Takes a share of the budget for one connection: its buf_alloc. */
  reserve(): number {
    const share = Math.floor((this.#total - this.#reserved) / 64);
    const octets = Math.min(this.#largest, Math.max(this.#smallest, share));
    this.#reserved += octets;
    return octets;
  }

  release(octets: number): void {
    this.#reserved -= octets;
  }

  take(capacity: number): SendBuffer {
    if (capacity === this.#largest) {
      const buffer = this.#free.pop();
      if (buffer) return buffer;
    }
    return new SendBuffer(capacity);
  }

  give(buffer: SendBuffer): void {
    buffer.clear();
    if (buffer.capacity === this.#largest && this.#free.length < 8) this.#free.push(buffer);
  }
}
