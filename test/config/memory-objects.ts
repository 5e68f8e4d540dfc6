/** Git objects in memory, hashed as git does: what the database's own logic is tested on. */

import { createHash } from 'node:crypto';
import { type CommitRecord, DatabaseError } from '../../src/config/database.ts';
import {
  EMPTY_TREE,
  encodeCommit,
  encodeTree,
  inGitOrder,
  parseCommit,
  parseTree,
  type RawEntry,
} from '../../src/config/git-object.ts';
import type { Objects } from '../../src/config/objects.ts';

export class MemoryObjects implements Objects {
  readonly stored = new Map<string, { type: string; content: Uint8Array }>([
    [EMPTY_TREE, { type: 'tree', content: new Uint8Array() }],
  ]);

  addBlob(content: Uint8Array): string {
    return this.#add('blob', content);
  }

  addTree(entries: readonly RawEntry[]): string {
    return this.#add('tree', encodeTree(inGitOrder(entries)));
  }

  addCommit(commit: Omit<CommitRecord, 'id'>): string {
    return this.#add('commit', encodeCommit(commit));
  }

  async blob(hash: string): Promise<Uint8Array> {
    return this.#get('blob', hash);
  }

  async tree(hash: string): Promise<readonly RawEntry[]> {
    return parseTree(this.#get('tree', hash));
  }

  async commit(hash: string): Promise<CommitRecord> {
    return parseCommit(hash, this.#get('commit', hash));
  }

  #add(type: string, content: Uint8Array): string {
    const hash = createHash('sha1').update(`${type} ${content.length}\0`).update(content).digest('hex');
    this.stored.set(hash, { type, content });
    return hash;
  }

  #get(type: string, hash: string): Uint8Array {
    const found = this.stored.get(hash);
    if (found?.type !== type) throw new DatabaseError('NO-OBJECT', `there is no ${type} ${hash}`);
    return found.content;
  }
}
