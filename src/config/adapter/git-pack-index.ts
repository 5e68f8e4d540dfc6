/**
 * Where the objects of a pack lie in it: its index (gitformat-pack, version 2). Finding an object takes as long in the
 * index of a pack of a million as in that of ten: the table of 256 sums (fan-out) is kept, and of the sorted hashes only
 * those that begin with the same octet are read. Small indexes are kept whole.
 */

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { unhex } from '../git-object.ts';

const SIGNATURE = 0xff744f63;
const VERSION = 2;
const HASHES_AT = 8 + 4 * 256;
const HASH_OCTETS = 20;
const KEPT_WHOLE_OCTETS = 16 * 1024;

/** One object's place: `crc` is of the octets of its entry. */
export interface PackRow {
  readonly hash: string;
  readonly offset: number;
  readonly crc: number;
}

export class PackIndex {
  readonly #path: string;
  readonly #head: Buffer;
  readonly #count: number;

  private constructor(path: string, head: Buffer, sizeOctets: number) {
    if (head.readUInt32BE(0) !== SIGNATURE || head.readUInt32BE(4) !== VERSION)
      throw new Error(`${path} is not an index of version ${VERSION}`);
    this.#path = path;
    this.#head = head;
    this.#count = head.readUInt32BE(HASHES_AT - 4);
    const most = HASHES_AT + this.#count * (HASH_OCTETS + 16) + 2 * HASH_OCTETS;
    if (sizeOctets > most || sizeOctets < most - 8 * this.#count) throw damaged(path);
    for (let first = 0, sum = 0; first < 256; first++) {
      const next = head.readUInt32BE(8 + 4 * first);
      if (next < sum) throw damaged(path);
      sum = next;
    }
  }

  static open(path: string): PackIndex {
    const file = openSync(path, 'r');
    try {
      const { size } = fstatSync(file);
      if (size < HASHES_AT) throw damaged(path);
      const head = readAt(path, file, 0, size <= KEPT_WHOLE_OCTETS ? size : HASHES_AT);
      return new PackIndex(path, head, size);
    } finally {
      closeSync(file);
    }
  }

  /** Of these octets, which are at `path` too. */
  static of(path: string, octets: Buffer): PackIndex {
    return new PackIndex(
      path,
      octets.length <= KEPT_WHOLE_OCTETS ? octets : Buffer.copyBytesFrom(octets, 0, HASHES_AT),
      octets.length,
    );
  }

  /** Of the object's entry in the pack; undefined: it has none. */
  offsetOf(hash: string): number | undefined {
    const wanted = unhex(hash);
    const first = wanted[0]!;
    const from = first === 0 ? 0 : this.#head.readUInt32BE(8 + 4 * (first - 1));
    const to = this.#head.readUInt32BE(8 + 4 * first);
    if (from === to) return undefined;
    return this.#reading((read) => {
      const hashes = read(HASHES_AT + HASH_OCTETS * from, HASH_OCTETS * (to - from));
      let [low, high] = [0, to - from];
      while (low < high) {
        const middle = (low + high) >> 1;
        const order = hashes.compare(wanted, 0, HASH_OCTETS, HASH_OCTETS * middle, HASH_OCTETS * (middle + 1));
        if (order === 0) return this.#offsetAt(from + middle, read);
        if (order < 0) low = middle + 1;
        else high = middle;
      }
      return undefined;
    });
  }

  /** All of them, by hash. */
  rows(): PackRow[] {
    return this.#reading((read) => {
      const hashes = read(HASHES_AT, HASH_OCTETS * this.#count);
      const crcs = read(this.#crcsAt, 4 * this.#count);
      return Array.from({ length: this.#count }, (_, i) => ({
        hash: hashes.toString('hex', HASH_OCTETS * i, HASH_OCTETS * (i + 1)),
        offset: this.#offsetAt(i, read),
        crc: crcs.readUInt32BE(4 * i),
      }));
    });
  }

  get #crcsAt(): number {
    return HASHES_AT + HASH_OCTETS * this.#count;
  }

  #offsetAt(row: number, read: (at: number, octets: number) => Buffer): number {
    const offsetsAt = this.#crcsAt + 4 * this.#count;
    const offset = read(offsetsAt + 4 * row, 4).readUInt32BE();
    if (offset < 0x80000000) return offset;
    return Number(read(offsetsAt + 4 * this.#count + 8 * (offset - 0x80000000), 8).readBigUInt64BE());
  }

  #reading<T>(body: (read: (at: number, octets: number) => Buffer) => T): T {
    const head = this.#head;
    if (head.length > HASHES_AT) return body((at, octets) => within(this.#path, head, at, octets));
    const file = openSync(this.#path, 'r');
    try {
      return body((at, octets) => readAt(this.#path, file, at, octets));
    } finally {
      closeSync(file);
    }
  }
}

function within(path: string, octets: Buffer, at: number, length: number): Buffer {
  if (at + length > octets.length) throw damaged(path);
  return octets.subarray(at, at + length);
}

function readAt(path: string, file: number, at: number, length: number): Buffer {
  const octets = Buffer.allocUnsafe(length);
  if (readSync(file, octets, 0, length, at) !== length) throw damaged(path);
  return octets;
}

/** Of a pack or an index. */
export function damaged(path: string): Error {
  return new Error(`${path} is damaged`);
}
