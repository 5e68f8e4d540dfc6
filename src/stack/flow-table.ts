/**
 * Flows by address pair, port pair and ingress: open addressing with linear probing over an Int32Array of keys, at most
 * half full, hashed with a secret. A hit compares the whole key. Removal shifts back what follows, so there are no
 * tombstones and the table never degrades.
 */

import type { KeyedHash } from './keyed-hash.ts';

/** Words of a key: guest's address (4), peer's address (4), both ports, ingress. */
export const KEY_WORDS = 10;

/** The third word of an IPv4 address in mapped form. */
const MAPPED = 0xffff;

export class FlowTable<T> {
  readonly #hash: KeyedHash;
  #mask: number;
  #keys: Int32Array;
  #hashes: Int32Array;
  #values: (T | undefined)[];
  #size = 0;
  readonly #short = new Int32Array(4);

  constructor(hash: KeyedHash, capacity = 256) {
    this.#hash = hash;
    this.#mask = capacity - 1;
    this.#keys = new Int32Array(capacity * KEY_WORDS);
    this.#hashes = new Int32Array(capacity);
    this.#values = new Array(capacity).fill(undefined);
  }

  get size(): number {
    return this.#size;
  }

  find(key: Int32Array): T | undefined {
    const slot = this.#locate(key, this.#hashOf(key));
    return this.#values[slot];
  }

  /** Adds a flow, or replaces the one of the same key. */
  set(key: Int32Array, value: T): void {
    const hash = this.#hashOf(key);
    const slot = this.#locate(key, hash);
    if (this.#values[slot] === undefined) this.#size++;
    this.#put(slot, key, 0, hash, value);
    if (this.#size * 2 > this.#mask) this.#grow();
  }

  /** Whether there was one. */
  delete(key: Int32Array): boolean {
    let hole = this.#locate(key, this.#hashOf(key));
    if (this.#values[hole] === undefined) return false;
    this.#size--;
    const mask = this.#mask;
    for (let slot = (hole + 1) & mask; this.#values[slot] !== undefined; slot = (slot + 1) & mask) {
      // A flow may move into the hole unless its own place lies after it.
      const home = this.#hashes[slot]! & mask;
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      this.#put(hole, this.#keys, slot * KEY_WORDS, this.#hashes[slot]!, this.#values[slot]!);
      hole = slot;
    }
    this.#values[hole] = undefined;
    return true;
  }

  *values(): IterableIterator<T> {
    for (const value of this.#values) if (value !== undefined) yield value;
  }

  /** Of two IPv4 addresses only the words that differ are hashed. */
  #hashOf(key: Int32Array): number {
    if (key[2] !== MAPPED || key[6] !== MAPPED || (key[0]! | key[1]! | key[4]! | key[5]!) !== 0)
      return this.#hash.hash(key, KEY_WORDS);
    const short = this.#short;
    short[0] = key[3]!;
    short[1] = key[7]!;
    short[2] = key[8]!;
    short[3] = key[9]!;
    return this.#hash.hash(short, 4);
  }

  /** The slot that holds the key, or the free one where it would go. */
  #locate(key: Int32Array, hash: number): number {
    const mask = this.#mask;
    const keys = this.#keys;
    let slot = hash & mask;
    for (; this.#values[slot] !== undefined; slot = (slot + 1) & mask) {
      if (this.#hashes[slot] !== hash) continue;
      const at = slot * KEY_WORDS;
      let i = 0;
      while (i < KEY_WORDS && keys[at + i] === key[i]) i++;
      if (i === KEY_WORDS) break;
    }
    return slot;
  }

  #put(slot: number, keys: Int32Array, at: number, hash: number, value: T): void {
    for (let i = 0; i < KEY_WORDS; i++) this.#keys[slot * KEY_WORDS + i] = keys[at + i]!;
    this.#hashes[slot] = hash;
    this.#values[slot] = value;
  }

  #grow(): void {
    const keys = this.#keys;
    const hashes = this.#hashes;
    const values = this.#values;
    const capacity = values.length * 2;
    this.#mask = capacity - 1;
    this.#keys = new Int32Array(capacity * KEY_WORDS);
    this.#hashes = new Int32Array(capacity);
    this.#values = new Array(capacity).fill(undefined);
    for (const [slot, value] of values.entries()) {
      if (value === undefined) continue;
      let place = hashes[slot]! & this.#mask;
      while (this.#values[place] !== undefined) place = (place + 1) & this.#mask;
      this.#put(place, keys, slot * KEY_WORDS, hashes[slot]!, value);
    }
  }
}
