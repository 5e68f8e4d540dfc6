/**
 * The objects of a git repository on disk. Loose ones are read here, packed ones by git-pack-reader.ts; whatever has been
 * read or written is kept, decoded, up to a bound. Objects are written through a batch, as one pack: synced under a name
 * of its own, then renamed into place, so that an object which can be seen is whole. That a pack is two files to sync,
 * however many objects a commit has, is what a commit's time depends on; packs are joined later (pack-joining.ts).
 *
 * An object that nothing refers to yet is safe from a `git gc` beside us for two weeks, as git counts from its last
 * writing: one that is there already is written anew.
 */

import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inflateSync } from 'node:zlib';
import { type CommitRecord, DatabaseError } from '../database.ts';
import {
  EMPTY_TREE,
  encodeCommit,
  encodeTree,
  inGitOrder,
  type ObjectType,
  parseCommit,
  parseTree,
  type RawEntry,
} from '../git-object.ts';
import type { ObjectReader, Objects } from '../objects.ts';
import { errorCode, FreshFiles, syncFolder } from './durable-files.ts';
import { GitPackReader } from './git-pack-reader.ts';
import { makePack, type PackedObject } from './git-pack-writer.ts';
import { pendingPath } from './pending-files.ts';
import type { Staged } from './ref-lock.ts';

const CACHE_OCTETS = 32 << 20;
/** What an object costs in memory beside its octets. */
const OVERHEAD_OCTETS = 300;
const MAX_OBJECT_OCTETS = 256 << 20;

interface GitObject {
  readonly type: ObjectType;
  readonly content: Uint8Array;
  /** Of a tree or commit, made when first asked for. */
  parsed?: readonly RawEntry[] | CommitRecord | undefined;
}

export class GitObjectStore implements ObjectReader {
  readonly #directory: string;
  readonly #cache = new Map<string, GitObject>();
  #cachedOctets = 0;
  readonly #packs: GitPackReader;

  /** `directory`: of the bare repository. */
  constructor(directory: string) {
    this.#directory = directory;
    this.#packs = new GitPackReader(directory);
    this.#keep(EMPTY_TREE, { type: 'tree', content: new Uint8Array() });
  }

  async blob(hash: string): Promise<Uint8Array> {
    return (await this.#typed(hash, 'blob')).content;
  }

  async tree(hash: string): Promise<readonly RawEntry[]> {
    return parsedTree(await this.#typed(hash, 'tree'));
  }

  async commit(hash: string): Promise<CommitRecord> {
    return parsedCommit(hash, await this.#typed(hash, 'commit'));
  }

  /** Rejects with 'NO-OBJECT'. */
  async typeOf(hash: string): Promise<ObjectType> {
    return (await this.#object(hash)).type;
  }

  batch(): ObjectBatch {
    return new ObjectBatch(this);
  }

  /** Objects to be written, as a pack. */
  stage(objects: readonly (PackedObject & GitObject)[]): Staged | undefined {
    if (objects.length === 0) return undefined;
    const folder = join(this.#directory, 'objects', 'pack');
    const { name, pack, index } = makePack(objects);
    const files = new FreshFiles();
    const pending = join(this.#directory, 'pending');
    const [packPath, indexPath] = [pendingPath(pending), pendingPath(pending)];
    files.add(packPath, pack);
    files.add(indexPath, index);
    const publish = async (): Promise<void> => {
      try {
        fs.renameSync(packPath, join(folder, `pack-${name}.pack`));
        fs.renameSync(indexPath, join(folder, `pack-${name}.idx`));
      } catch (error) {
        files.remove();
        throw error;
      }
      this.#packs.add(name, index);
      for (const object of objects) this.#keep(object.hash, object);
      await syncFolder(folder);
    };
    return { write: () => files.write(), publish };
  }

  async #typed(hash: string, type: ObjectType): Promise<GitObject> {
    const object = await this.#object(hash);
    if (object.type !== type) throw new DatabaseError('NO-OBJECT', `${hash} is a ${object.type}, not a ${type}`);
    return object;
  }

  async #object(hash: string): Promise<GitObject> {
    const kept = this.#cache.get(hash);
    if (kept) {
      // The order of the map is that of last use.
      this.#cache.delete(hash);
      this.#cache.set(hash, kept);
      return kept;
    }
    const object = await this.#read(hash);
    this.#keep(hash, object);
    return object;
  }

  async #read(hash: string): Promise<GitObject> {
    // A repack between the two looks may have made it loose.
    const found = (await this.#readLoose(hash)) ?? (await this.#readPacked(hash)) ?? (await this.#readLoose(hash));
    if (!found) throw new DatabaseError('NO-OBJECT', `there is no object ${hash}`);
    return found;
  }

  async #readLoose(hash: string): Promise<GitObject | undefined> {
    const path = join(this.#directory, 'objects', hash.slice(0, 2), hash.slice(2));
    if (!fs.existsSync(path)) return undefined;
    let stored: Buffer;
    try {
      stored = await readFile(path);
    } catch (error) {
      if (errorCode(error) === 'ENOENT') return undefined;
      throw new DatabaseError('STORAGE', `cannot read ${path}: ${errorCode(error)}`);
    }
    let whole: Buffer;
    try {
      whole = inflateSync(stored, { maxOutputLength: MAX_OBJECT_OCTETS });
    } catch (error) {
      throw damaged(hash, (error as Error).message);
    }
    const end = whole.indexOf(0);
    const type = whole.toString('latin1', 0, Math.max(end, 0)).split(' ')[0] as ObjectType;
    if (end < 0 || sha1(whole) !== hash) throw damaged(hash, 'its hash is another');
    return { type, content: whole.subarray(end + 1) };
  }

  async #readPacked(hash: string): Promise<GitObject | undefined> {
    let found: GitObject | undefined;
    try {
      found = await this.#packs.read(hash);
    } catch (error) {
      throw damaged(hash, (error as Error).message);
    }
    if (found && sha1(objectHead(found.type, found.content.length), found.content) !== hash)
      throw damaged(hash, 'its hash is another');
    return found;
  }

  #keep(hash: string, object: GitObject): void {
    if (this.#cache.has(hash) || object.content.length > CACHE_OCTETS / 8) return;
    this.#cache.set(hash, object);
    this.#cachedOctets += object.content.length + OVERHEAD_OCTETS;
    for (const [oldest, { content }] of this.#cache) {
      if (this.#cachedOctets <= CACHE_OCTETS) break;
      this.#cache.delete(oldest);
      this.#cachedOctets -= content.length + OVERHEAD_OCTETS;
    }
  }
}

/** Objects to be written together; they can be read from here meanwhile. */
export class ObjectBatch implements Objects {
  readonly #store: GitObjectStore;
  readonly #added = new Map<string, PackedObject & GitObject>();
  /** Of all objects added here. */
  octets = 0;

  constructor(store: GitObjectStore) {
    this.#store = store;
  }

  clear(): void {
    this.#added.clear();
    this.octets = 0;
  }

  addBlob(content: Uint8Array): string {
    return this.#add('blob', content);
  }

  addTree(entries: readonly RawEntry[]): string {
    const sorted = inGitOrder(entries);
    return this.#add('tree', encodeTree(sorted), sorted);
  }

  addCommit(commit: Omit<CommitRecord, 'id'>): string {
    return this.#add('commit', encodeCommit(commit));
  }

  /** Takes over what another batch holds. */
  join(other: ObjectBatch): void {
    for (const [hash, object] of other.#added) this.#added.set(hash, object);
  }

  async blob(hash: string): Promise<Uint8Array> {
    const added = this.#added.get(hash);
    return added?.type === 'blob' ? added.content : this.#store.blob(hash);
  }

  async tree(hash: string): Promise<readonly RawEntry[]> {
    const added = this.#added.get(hash);
    return added?.type === 'tree' ? parsedTree(added) : this.#store.tree(hash);
  }

  async commit(hash: string): Promise<CommitRecord> {
    const added = this.#added.get(hash);
    return added?.type === 'commit' ? parsedCommit(hash, added) : this.#store.commit(hash);
  }

  /** What is reachable from a commit of this batch, to be written. */
  stage(commit: string): Staged | undefined {
    const wanted = new Map<string, PackedObject & GitObject>();
    const visit = (hash: string): void => {
      const object = this.#added.get(hash);
      if (!object || wanted.has(hash)) return;
      wanted.set(hash, object);
      if (object.type === 'tree') for (const entry of parsedTree(object)) visit(entry.hash);
      if (object.type === 'commit') {
        const { tree, parents } = parsedCommit(hash, object);
        visit(tree);
        // Without recursion: a batch may be a chain of thousands of commits.
        chain.push(...parents);
      }
    };
    const chain = [commit];
    for (let next = chain.pop(); next !== undefined; next = chain.pop()) visit(next);
    return this.#store.stage([...wanted.values()]);
  }

  #add(type: ObjectType, content: Uint8Array, parsed?: readonly RawEntry[]): string {
    const hash = sha1(objectHead(type, content.length), content);
    if (!this.#added.has(hash)) {
      this.#added.set(hash, { hash, type, content, parsed });
      this.octets += content.length + OVERHEAD_OCTETS;
    }
    return hash;
  }
}

function parsedTree(object: GitObject): readonly RawEntry[] {
  object.parsed ??= parseTree(object.content);
  return object.parsed as readonly RawEntry[];
}

function parsedCommit(hash: string, object: GitObject): CommitRecord {
  object.parsed ??= parseCommit(hash, object.content);
  return object.parsed as CommitRecord;
}

function objectHead(type: ObjectType, length: number): Uint8Array {
  return Buffer.from(`${type} ${length}\0`);
}

function sha1(...parts: readonly Uint8Array[]): string {
  const hash = createHash('sha1');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}

function damaged(hash: string, why: string): DatabaseError {
  return new DatabaseError(
    'STORAGE',
    `object ${hash} of the database is damaged (${why}); 'git fsck' in it tells more`,
  );
}
