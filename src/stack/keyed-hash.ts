/**
 * A keyed hash of a few words: HalfSipHash (Aumasson and Bernstein's SipHash with 32-bit words), so that a guest that
 * does not know the key cannot choose addresses and ports that collide, nor foretell what is derived from the hash.
 */

import type { Random } from './port.ts';

export class KeyedHash {
  readonly #k0: number;
  readonly #k1: number;

  constructor(random: Random) {
    const key = new Uint8Array(8);
    random.fill(key);
    const view = new DataView(key.buffer);
    this.#k0 = view.getInt32(0);
    this.#k1 = view.getInt32(4);
  }

  /** A signed 32-bit hash of the first `count` words. One round a word, three at the end: for tables. */
  hash(words: Int32Array, count: number): number {
    return this.#run(words, count, 1, 3);
  }

  /** The same with two and four rounds: for what must not be foretold. */
  strong(words: Int32Array, count: number): number {
    return this.#run(words, count, 2, 4);
  }

  #run(words: Int32Array, count: number, perWord: number, atEnd: number): number {
    let v0 = this.#k0;
    let v1 = this.#k1;
    let v2 = 0x6c796765 ^ v0;
    let v3 = 0x74656462 ^ v1;
    for (let i = 0; i <= count; i++) {
      const last = i === count;
      const word = last ? count << 26 : words[i]!;
      v3 ^= word;
      let rounds = perWord;
      for (;;) {
        for (; rounds > 0; rounds--) {
          v0 = (v0 + v1) | 0;
          v1 = (v1 << 5) | (v1 >>> 27);
          v1 ^= v0;
          v0 = (v0 << 16) | (v0 >>> 16);
          v2 = (v2 + v3) | 0;
          v3 = (v3 << 8) | (v3 >>> 24);
          v3 ^= v2;
          v0 = (v0 + v3) | 0;
          v3 = (v3 << 7) | (v3 >>> 25);
          v3 ^= v0;
          v2 = (v2 + v1) | 0;
          v1 = (v1 << 13) | (v1 >>> 19);
          v1 ^= v2;
          v2 = (v2 << 16) | (v2 >>> 16);
        }
        if (!last || atEnd === 0) break;
        v0 ^= word;
        v2 ^= 0xff;
        rounds = atEnd;
        atEnd = 0;
      }
      if (!last) v0 ^= word;
    }
    return v1 ^ v3;
  }
}
