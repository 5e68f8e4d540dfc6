/**
 * Objects from packs (gitformat-pack): whole ones, and deltas against another object of the pack. The list of packs is
 * kept until an object is in none of them; git and other processes of ours may add packs, and remove them once their
 * objects are in another one.
 */

import fs from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { inflateSync } from 'node:zlib';
import { hex, type ObjectType } from '../git-object.ts';
import { applyDelta } from './delta.ts';
import { errorCode } from './durable-files.ts';
import { damaged, PackIndex } from './git-pack-index.ts';

const read = promisify(fs.read);

const typeOf: Readonly<Record<number, ObjectType>> = { 1: 'commit', 2: 'tree', 3: 'blob', 4: 'tag' };
const OFFSET_DELTA = 6;
const HASH_DELTA = 7;
const HASH_OCTETS = 20;
/** What is read of an entry at first: most are smaller. */
const FIRST_OCTETS = 4096;
const MAX_OBJECT_OCTETS = 256 << 20;
/** A delta against a delta, and so on; git makes 4095 at most. */
const DELTAS = 4095;

interface Entry {
  readonly type: number;
  /** An object, or a delta against the one at `base`. */
  readonly octets: Uint8Array;
  readonly base: number | undefined;
}

export interface PackedContent {
  readonly type: ObjectType;
  readonly content: Uint8Array;
}

export class GitPackReader {
  readonly #folder: string;
  /** The newest that are known first. */
  #packs: { readonly name: string; readonly index: PackIndex }[] = [];

  /** `directory`: of the bare repository. */
  constructor(directory: string) {
    this.#folder = join(directory, 'objects', 'pack');
  }

  /** Undefined: no pack has it. Rejects when a pack is damaged. */
  async read(hash: string): Promise<PackedContent | undefined> {
    for (let attempt = 0; ; attempt++) {
      try {
        const found = await this.#find(hash);
        if (found || !(await this.#list())) return found;
      } catch (error) {
        // Its objects are in another pack by now.
        if (errorCode(error) !== 'ENOENT' || attempt >= 3) throw error;
        await this.#list();
      }
    }
  }

  /** To be told that there is a pack `pack-NAME` now, with that index. */
  add(name: string, index: Buffer): void {
    this.#packs.unshift({ name, index: PackIndex.of(this.#path(name, 'idx'), index) });
  }

  async #find(hash: string): Promise<PackedContent | undefined> {
    for (const { name, index } of this.#packs) {
      const offset = index.offsetOf(hash);
      if (offset !== undefined) return this.#readAt(name, index, offset);
    }
    return undefined;
  }

  /** Whether there is a pack that was not known. */
  async #list(): Promise<boolean> {
    const found = await fs.promises.readdir(this.#folder).catch((error) => {
      if (errorCode(error) === 'ENOENT') return [];
      throw error;
    });
    const names = found.flatMap((file) => /^pack-(.*)\.idx$/.exec(file)?.[1] ?? []);
    const there = new Set(names);
    const known = this.#packs.filter(({ name }) => there.delete(name));
    const opened = [...there].flatMap((name) => {
      try {
        return { name, index: PackIndex.open(this.#path(name, 'idx')) };
      } catch (error) {
        if (errorCode(error) === 'ENOENT') return [];
        throw error;
      }
    });
    this.#packs = [...opened, ...known];
    return opened.length > 0;
  }

  async #readAt(name: string, index: PackIndex, offset: number): Promise<PackedContent> {
    const path = this.#path(name, 'pack');
    const file = fs.openSync(path, 'r');
    try {
      const deltas: Uint8Array[] = [];
      let entry = await readEntry(file, path, index, offset);
      for (; entry.base !== undefined; entry = await readEntry(file, path, index, entry.base)) {
        deltas.push(entry.octets);
        if (deltas.length > DELTAS) throw damaged(path);
      }
      const type = typeOf[entry.type];
      if (!type) throw damaged(path);
      let content = entry.octets;
      for (const delta of deltas.reverse()) content = applyDelta(content, delta, MAX_OBJECT_OCTETS);
      return { type, content };
    } finally {
      fs.closeSync(file);
    }
  }

  #path(name: string, kind: 'pack' | 'idx'): string {
    return join(this.#folder, `pack-${name}.${kind}`);
  }
}

async function readEntry(file: number, path: string, index: PackIndex, offset: number): Promise<Entry> {
  const start = await readUpTo(file, offset, FIRST_OCTETS);
  let at = 0;
  const octet = (): number => {
    const next = start[at++];
    if (next === undefined) throw damaged(path);
    return next;
  };
  let head = octet();
  const type = (head >> 4) & 7;
  let size = head & 15;
  for (let scale = 16; head & 0x80; scale *= 128) {
    head = octet();
    size += (head & 0x7f) * scale;
  }
  if (size > MAX_OBJECT_OCTETS) throw damaged(path);
  let base: number | undefined;
  if (type === OFFSET_DELTA) {
    head = octet();
    let back = head & 0x7f;
    while (head & 0x80) {
      head = octet();
      back = (back + 1) * 128 + (head & 0x7f);
    }
    base = offset - back;
    if (back === 0 || base < 0) throw damaged(path);
  } else if (type === HASH_DELTA) {
    base = index.offsetOf(hex(Uint8Array.from({ length: HASH_OCTETS }, octet)));
    if (base === undefined) throw damaged(path);
  }
  return { type, base, octets: await inflated(file, path, offset + at, start.subarray(at), size) };
}

/** `start`: what has been read of it. Where it ends only zlib knows. */
async function inflated(file: number, path: string, at: number, start: Buffer, size: number): Promise<Uint8Array> {
  // At first no more than zlib makes of octets that it cannot compress.
  for (let most = size + (size >> 8) + 64; ; most *= 2) {
    const stored = most <= start.length ? start : await readUpTo(file, at, most);
    try {
      const octets = inflateSync(stored, { maxOutputLength: Math.max(size, 1) });
      if (octets.length !== size) throw damaged(path);
      return octets;
    } catch (error) {
      if (errorCode(error) !== 'Z_BUF_ERROR' || stored.length < most) throw error;
    }
  }
}

/** Fewer at the end of the file. */
async function readUpTo(file: number, at: number, length: number): Promise<Buffer> {
  const { bytesRead, buffer } = await read(file, Buffer.allocUnsafe(length), 0, length, at);
  return buffer.subarray(0, bytesRead);
}
