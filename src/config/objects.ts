/** Git's objects by their hash, as the database's own logic uses them: read from anywhere, added to what is to be written. */

import type { CommitRecord } from './database.ts';
import type { RawEntry } from './git-object.ts';

export interface ObjectReader {
  /** Each rejects with 'NO-OBJECT' where there is none of that hash and type. What they return must not be changed. */
  blob(hash: string): Promise<Uint8Array>;
  tree(hash: string): Promise<readonly RawEntry[]>;
  commit(hash: string): Promise<CommitRecord>;
}

/** Adds stay in memory until whoever made this writes them. */
export interface Objects extends ObjectReader {
  addBlob(content: Uint8Array): string;
  addTree(entries: readonly RawEntry[]): string;
  addCommit(commit: Omit<CommitRecord, 'id'>): string;
}
