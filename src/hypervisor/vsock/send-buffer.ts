/** A ring of octets that a host socket has not taken yet; filled from guest memory, written out by system call. */

import { addressOfBuffer } from '../../native/memory.ts';
import { EAGAIN, write } from '../../native/system-calls.ts';

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
    this.#address = addressOfBuffer(this.#memory);
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
      if (result === EAGAIN) break;
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

/** Keeps a few drained buffers of the usual size for the next stall. */
export class SendBufferPool {
  readonly #capacity: number;
  readonly #free: SendBuffer[] = [];

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  take(capacity: number): SendBuffer {
    return (capacity === this.#capacity ? this.#free.pop() : undefined) ?? new SendBuffer(capacity);
  }

  give(buffer: SendBuffer): void {
    buffer.clear();
    if (buffer.capacity === this.#capacity && this.#free.length < 8) this.#free.push(buffer);
  }
}
