/**
 * Tells octets apart without keeping them: 64 bits over any number of stretches, the same however they are cut. Words of
 * four octets are taken in the manner of FNV-1a, by two primes; each step can be undone, so that one word that is another
 * is always seen. Nothing secret and nothing hard to forge, as nobody forges here.
 */

import type { FragmentList } from '../../stack/port.ts';

const BASIS = 0x811c9dc5 | 0;
const PRIME_ONE = 0x01000193;
const PRIME_TWO = 0x5bd1e995;

export class OctetSum {
  #one = BASIS;
  #two = ~BASIS;
  /** The octets of a word that is not full, and all that there were. */
  #held = 0;
  #octets = 0;

  add(bytes: Uint8Array, offset = 0, length = bytes.length - offset): this {
    const end = offset + length;
    let at = offset;
    while ((this.#octets & 3) !== 0 && at < end) this.#hold(bytes[at++]!);
    const words = (end - at) >> 2;
    if (words > 0) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      let one = this.#one;
      let two = this.#two;
      const last = at + 4 * words;
      for (; at < last; at += 4) {
        const word = view.getInt32(at, true);
        one = Math.imul(one ^ word, PRIME_ONE);
        one ^= one >>> 15;
        two = Math.imul(two ^ word, PRIME_TWO);
        two ^= two >>> 13;
      }
      this.#one = one;
      this.#two = two;
      this.#octets += 4 * words;
    }
    while (at < end) this.#hold(bytes[at++]!);
    return this;
  }

  addAll({ items, count }: FragmentList): this {
    for (let i = 0; i < count; i++) {
      const { arena, offset, length } = items[i]!;
      this.add(arena.bytes, offset, length);
    }
    return this;
  }

  /** The sum, after which it begins anew. */
  take(): Uint8Array {
    if ((this.#octets & 3) !== 0) this.#mix(this.#held);
    this.#mix(this.#octets);
    const bytes = new Uint8Array(8);
    const view = new DataView(bytes.buffer);
    view.setInt32(0, this.#one);
    view.setInt32(4, this.#two);
    this.#one = BASIS;
    this.#two = ~BASIS;
    this.#held = 0;
    this.#octets = 0;
    return bytes;
  }

  #hold(octet: number): void {
    const place = this.#octets++ & 3;
    this.#held |= octet << (8 * place);
    if (place < 3) return;
    this.#mix(this.#held);
    this.#held = 0;
  }

  #mix(word: number): void {
    this.#one = Math.imul(this.#one ^ word, PRIME_ONE);
    this.#one ^= this.#one >>> 15;
    this.#two = Math.imul(this.#two ^ word, PRIME_TWO);
    this.#two ^= this.#two >>> 13;
  }
}

/** 32 bits of the sum of one stretch. */
export function octetWord(bytes: Uint8Array): number {
  const sum = new OctetSum().add(bytes).take();
  return new DataView(sum.buffer).getUint32(0);
}
