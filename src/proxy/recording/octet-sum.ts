/**
 * Tells octets apart without keeping them: 64 bits over any number of stretches, the same however they are cut. Two FNV-1a
 * of different primes; nothing secret and nothing hard to forge, as nobody forges here.
 */

import type { FragmentList } from '../../stack/port.ts';

const BASIS = 0x811c9dc5 | 0;

export class OctetSum {
  #one = BASIS;
  #two = ~BASIS;

  add(bytes: Uint8Array, offset = 0, length = bytes.length - offset): this {
    let one = this.#one;
    let two = this.#two;
    for (let i = offset; i < offset + length; i++) {
      const octet = bytes[i]!;
      one = Math.imul(one ^ octet, 0x01000193);
      two = Math.imul(two ^ octet, 0x5bd1e995);
    }
    this.#one = one;
    this.#two = two;
    return this;
  }

  addAll({ items, count }: FragmentList): this {
    for (let i = 0; i < count; i++) {
      const { arena, offset, length } = items[i]!;
      this.add(arena.bytes, offset, length);
    }
    return this;
  }

  /** The first 32 bits. */
  get word(): number {
    return this.#one >>> 0;
  }

  take(): Uint8Array {
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    view.setInt32(0, this.#one);
    view.setInt32(4, this.#two);
    this.#one = BASIS;
    this.#two = ~BASIS;
    return bytes;
  }
}
