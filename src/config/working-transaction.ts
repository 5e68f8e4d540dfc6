/** A transaction: a working tree, the commits it stands on, and the merges made into it (DataKit's `transactions/T`). */

import {
  DatabaseError,
  type DiffLine,
  type FileMode,
  type Transaction,
  type Tree,
  type TreeEntry,
} from './database.ts';
import { diffTrees } from './diff.ts';
import { EMPTY_TREE } from './git-object.ts';
import { baseTree } from './history.ts';
import { mergeTrees } from './merge.ts';
import type { Objects } from './objects.ts';
import { mergeCommit, type Operation, type Stamp } from './operation.ts';
import { TreeView } from './tree-view.ts';
import { WorkingTree } from './working-tree.ts';

export interface TransactionParts<O extends Objects> {
  readonly branch: string;
  readonly origin: string | undefined;
  /** Where what it makes is kept meanwhile. */
  readonly objects: O;
  readonly stamp: (message: string) => Stamp;
  /** Runs an operation on the branch, with the objects at hand; the branch's head. */
  readonly submit: (objects: O, operation: Operation) => Promise<string>;
  /** Octets of the objects that it keeps. */
  readonly heldOctets: (objects: O) => number;
  /** Lets go of them: it has ended. */
  readonly release: (objects: O) => void;
}

export class WorkingTransaction<O extends Objects> implements Transaction {
  readonly branch: string;
  readonly origin: string | undefined;
  message = '';
  readonly #parts: TransactionParts<O>;
  readonly #work: WorkingTree;
  readonly #conflicts = new Set<string>();
  #parents: readonly string[];
  #merging: Transaction['merging'];
  #closed = false;
  #committing = false;

  static async begin<O extends Objects>(parts: TransactionParts<O>): Promise<WorkingTransaction<O>> {
    const { origin, objects } = parts;
    return new WorkingTransaction(parts, origin === undefined ? EMPTY_TREE : (await objects.commit(origin)).tree);
  }

  private constructor(parts: TransactionParts<O>, tree: string) {
    this.#parts = parts;
    this.branch = parts.branch;
    this.origin = parts.origin;
    this.#parents = parts.origin === undefined ? [] : [parts.origin];
    this.#work = new WorkingTree(parts.objects, tree);
  }

  get heldOctets(): number {
    return this.#parts.heldOctets(this.#parts.objects);
  }

  get parents(): readonly string[] {
    return this.#parents;
  }

  get merging(): Transaction['merging'] {
    return this.#merging;
  }

  get conflicts(): readonly string[] {
    return [...this.#conflicts].sort();
  }

  async setParents(commits: readonly string[]): Promise<void> {
    for (const commit of commits) await this.#open().commit(commit);
    this.#parents = [...commits];
  }

  entry(path: string): Promise<TreeEntry | undefined> {
    this.#open();
    return this.#work.entry(path);
  }

  list(path: string): Promise<readonly TreeEntry[] | undefined> {
    this.#open();
    return this.#work.list(path);
  }

  read(path: string): Promise<Uint8Array | undefined> {
    this.#open();
    return this.#work.read(path);
  }

  async write(path: string, content: Uint8Array | string, mode?: FileMode): Promise<void> {
    this.#open();
    await this.#work.write(path, content, mode);
    this.#conflicts.delete(path);
  }

  async setMode(path: string, mode: FileMode): Promise<void> {
    this.#open();
    await this.#work.setMode(path, mode);
  }

  async makeDirectory(path: string): Promise<void> {
    this.#open();
    await this.#work.makeDirectory(path);
  }

  async remove(path: string): Promise<void> {
    this.#open();
    await this.#work.remove(path);
    this.#settle(path);
  }

  async rename(from: string, to: string): Promise<void> {
    this.#open();
    await this.#work.rename(from, to);
    this.#settle(from);
    this.#settle(to);
  }

  async diff(against?: string): Promise<readonly DiffLine[]> {
    const objects = this.#open();
    const from = against ?? this.origin;
    const tree = from === undefined ? EMPTY_TREE : await treeOf(objects, from);
    return diffTrees(objects, tree, this.#work.store());
  }

  async merge(commit: string): Promise<void> {
    const objects = this.#open();
    const theirs = await objects.commit(commit);
    const ours = this.#work.store();
    let base = EMPTY_TREE;
    const [first] = this.#parents;
    if (first !== undefined) base = await baseTree(objects, first, commit);
    const merged = await mergeTrees(objects, base, ours, theirs.tree);
    this.#work.reset(merged.tree);
    if (!this.#parents.includes(commit)) this.#parents = [...this.#parents, commit];
    const view = (hash: string): Tree => new TreeView(objects, hash);
    this.#merging = { ours: view(ours), theirs: view(theirs.tree), base: view(base) };
    for (const path of merged.conflicts) this.#conflicts.add(path);
  }

  async commit(): Promise<string> {
    const objects = this.#open();
    if (this.#conflicts.size > 0)
      throw new DatabaseError('CONFLICT', `conflicts file is not empty: ${this.conflicts.join(', ')}`, this.conflicts);
    const stamp = this.#parts.stamp(this.message);
    const commit = objects.addCommit({ ...stamp, tree: this.#work.store(), parents: this.#parents });
    const merge = mergeCommit(commit, { ...stamp, message: `Merge: ${stamp.message}` });
    this.#committing = true;
    try {
      const head = await this.#parts.submit(objects, merge);
      this.#closed = true;
      return head;
    } finally {
      this.#committing = false;
      if (this.#closed) this.close();
    }
  }

  /** Whoever still has it holds no content by it. */
  close(): void {
    this.#closed = true;
    if (this.#committing) return;
    this.#work.reset(EMPTY_TREE);
    this.#parts.release(this.#parts.objects);
  }

  #open(): O {
    if (this.#closed) throw new DatabaseError('CLOSED', 'the transaction is closed');
    return this.#parts.objects;
  }

  /** Whoever removes or moves what conflicts has decided. */
  #settle(path: string): void {
    for (const conflict of this.#conflicts)
      if (conflict === path || conflict.startsWith(`${path}/`)) this.#conflicts.delete(conflict);
  }
}

async function treeOf(objects: Objects, hash: string): Promise<string> {
  try {
    return (await objects.commit(hash)).tree;
  } catch (error) {
    if (!(error instanceof DatabaseError) || error.code !== 'NO-OBJECT') throw error;
    await objects.tree(hash);
    return hash;
  }
}
