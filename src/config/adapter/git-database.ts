/**
 * The settings database in a bare git repository on disk, which git commands may read and write beside us.
 * Reading: adapter/git-object-store.ts; branches: adapter/git-refs.ts; writing: adapter/branch-writer.ts.
 */

import fs from 'node:fs';
import { chmod, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  catchError,
  defer,
  distinctUntilChanged,
  EMPTY,
  filter,
  from,
  map,
  type Observable,
  startWith,
  switchMap,
} from 'rxjs';
import {
  type Author,
  type Change,
  type CommitOptions,
  type CommitRecord,
  type Database,
  DatabaseError,
  type DiffLine,
  type Remotes,
  type Transaction,
  type Tree,
  type WatchedNode,
} from '../database.ts';
import { diffTrees } from '../diff.ts';
import { EMPTY_TREE, isHash } from '../git-object.ts';
import { history } from '../history.ts';
import {
  createBranch,
  type Decide,
  fastForward,
  mergeCommit,
  type Operation,
  removeBranch,
  revertCommit,
  type Stamp,
  updateBranch,
} from '../operation.ts';
import { checkBranch, splitPath } from '../path.ts';
import { TreeView } from '../tree-view.ts';
import { WorkingTransaction } from '../working-transaction.ts';
import { BranchWriter } from './branch-writer.ts';
import { errorCode, replaceFile } from './durable-files.ts';
import { folderOctets } from './folder-octets.ts';
import { GitObjectStore, type ObjectBatch } from './git-object-store.ts';
import { GitPacking } from './git-packing.ts';
import { GitRefs } from './git-refs.ts';
import { GitRemotes } from './git-remotes.ts';

export interface GitDatabaseOptions {
  readonly directory: string;
  /** Of commits whose maker does not say. */
  readonly author: Author;
  /** Others' moves are noticed as they happen, and the repository is packed when it has grown. */
  readonly watching: boolean;
  readonly nowMs: () => number;
  readonly log: (line: string) => void;
}

/**
 * `sharedRepository` makes what a git command writes here the user's alone; `fsync` makes it last; `fsckObjects` keeps
 * malformed objects out. Packing is `GitPacking`'s.
 */
const CONFIG = `[core]
	repositoryformatversion = 0
	filemode = true
	bare = true
	sharedRepository = 0600
	fsync = committed,loose-object
[receive]
	fsckObjects = true
	autogc = false
[gc]
	auto = 0
`;

export class GitDatabase implements Database {
  readonly remotes: Remotes;
  readonly #options: GitDatabaseOptions;
  readonly #refs: GitRefs;
  readonly #store: GitObjectStore;
  readonly #writers = new Map<string, BranchWriter>();
  readonly #packing: GitPacking | undefined;

  private constructor(options: GitDatabaseOptions, refs: GitRefs) {
    this.#options = options;
    this.#refs = refs;
    this.#store = new GitObjectStore(options.directory);
    this.remotes = new GitRemotes(options.directory);
    if (options.watching) this.#packing = new GitPacking(options.directory, options.log);
  }

  /** Makes the repository when there is none. */
  static async open(options: GitDatabaseOptions): Promise<GitDatabase> {
    try {
      await provide(options.directory);
      const database = new GitDatabase(options, await GitRefs.open(options.directory, options.watching, options.log));
      void database.#packing?.consider();
      return database;
    } catch (error) {
      if (error instanceof DatabaseError) throw error;
      throw new DatabaseError('STORAGE', `cannot open ${options.directory}: ${(error as Error).message}`);
    }
  }

  get branches(): readonly string[] {
    return [...this.#refs.heads.keys()].sort();
  }

  get branchChanges(): Observable<readonly string[]> {
    return defer(() =>
      this.#refs.moves.pipe(
        startWith(undefined),
        map(() => this.branches),
        distinctUntilChanged((a, b) => a.length === b.length && a.every((name, i) => name === b[i])),
      ),
    );
  }

  head(branch: string): string | undefined {
    return this.#refs.heads.get(branch);
  }

  heads(branch: string): Observable<string | undefined> {
    checkBranch(branch);
    return defer(() =>
      this.#refs.moves.pipe(
        filter((move) => move.branch === branch),
        map(({ commit }) => commit),
        startWith(this.head(branch)),
        distinctUntilChanged(),
      ),
    );
  }

  watch(branch: string, path: string): Observable<WatchedNode> {
    splitPath(path);
    const look = async (head: string | undefined): Promise<WatchedNode> =>
      head === undefined ? undefined : (await this.tree(head)).entry(path);
    return this.heads(branch).pipe(
      switchMap((head) => from(look(head)).pipe(catchError(() => EMPTY))),
      distinctUntilChanged((a, b) => a?.hash === b?.hash && a?.kind === b?.kind),
    );
  }

  async createBranch(branch: string, commit?: string): Promise<void> {
    if (commit !== undefined) mustBeHash(commit);
    await this.#submit(branch, createBranch(commit, this.#stamp({ message: `Begin ${branch}` })));
  }

  async removeBranch(branch: string): Promise<void> {
    await this.#submit(branch, removeBranch());
  }

  async renameBranch(from: string, to: string): Promise<void> {
    checkBranch(to);
    const head = await this.#refs.read(from);
    if (head === undefined) throw new DatabaseError('NO-BRANCH', `there is no branch '${from}'`);
    await this.createBranch(to, head);
    await this.#submit(from, async (_objects, now) => {
      if (now !== head) throw new DatabaseError('CHANGED', `'${from}' has moved on; it stays, beside '${to}'`);
      return undefined;
    });
  }

  async fastForward(branch: string, commit: string): Promise<void> {
    mustBeHash(commit);
    await this.#submit(branch, fastForward(commit));
  }

  async commitRecord(commit: string): Promise<CommitRecord> {
    mustBeHash(commit);
    return this.#store.commit(commit);
  }

  async tree(hash: string): Promise<Tree> {
    return new TreeView(this.#store, await this.#treeOf(hash));
  }

  async blob(hash: string): Promise<Uint8Array> {
    mustBeHash(hash);
    return (await this.#store.blob(hash)).slice();
  }

  commit(branch: string, changes: readonly Change[], options: CommitOptions): Promise<string> {
    return this.update(branch, () => changes, options);
  }

  update(branch: string, decide: Decide, options: CommitOptions): Promise<string> {
    return this.#moved(branch, updateBranch(decide, this.#stamp(options)));
  }

  async merge(branch: string, commit: string, options: CommitOptions): Promise<string> {
    mustBeHash(commit);
    return this.#moved(branch, mergeCommit(commit, this.#stamp(options)));
  }

  async revert(branch: string, commit: string, options: Partial<CommitOptions> = {}): Promise<string> {
    const { message } = await this.commitRecord(commit);
    const subject = message.split('\n')[0];
    const stamp = this.#stamp({ message: `Revert "${subject}"\n\nThis reverts commit ${commit}.`, ...options });
    return this.#moved(branch, revertCommit(commit, stamp));
  }

  async transaction(branch: string): Promise<Transaction> {
    return WorkingTransaction.begin<ObjectBatch>({
      branch,
      origin: await this.#refs.read(branch),
      objects: this.#store.batch(),
      stamp: (message) => this.#stamp({ message }),
      submit: (objects, operation) => this.#moved(branch, operation, objects),
      heldOctets: (objects) => objects.octets,
      release: (objects) => objects.clear(),
    });
  }

  async log(start: string, options: { path?: string; limit?: number } = {}): Promise<readonly CommitRecord[]> {
    const { path, limit = Number.POSITIVE_INFINITY } = options;
    const first = isHash(start) ? start : await this.#refs.read(start);
    if (first === undefined) throw new DatabaseError('NO-BRANCH', `there is no branch or commit '${start}'`);
    const found: CommitRecord[] = [];
    if (limit <= 0) return found;
    for await (const commit of history(this.#store, first)) {
      if (path !== undefined && !(await this.#touches(commit, path))) continue;
      found.push(commit);
      if (found.length >= limit) break;
    }
    return found;
  }

  async diff(from: string | undefined, to: string | undefined): Promise<readonly DiffLine[]> {
    const [before, after] = await Promise.all([from, to].map((hash) => (hash ? this.#treeOf(hash) : EMPTY_TREE)));
    return diffTrees(this.#store, before!, after!);
  }

  diskOctets(limit: number): Promise<number> {
    return folderOctets(join(this.#options.directory, 'objects'), limit);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#writers.values()].map((writer) => writer.idle()));
    this.#refs.close();
    await this.#packing?.close();
  }

  async #touches(commit: CommitRecord, path: string): Promise<boolean> {
    const parents = commit.parents.length === 0 ? [undefined] : commit.parents;
    const after = await (await this.tree(commit.tree)).entry(path);
    for (const parent of parents) {
      const before = parent === undefined ? undefined : await (await this.tree(parent)).entry(path);
      if (before?.hash === after?.hash && before?.kind === after?.kind) return false;
    }
    return true;
  }

  async #treeOf(hash: string): Promise<string> {
    mustBeHash(hash);
    if ((await this.#store.typeOf(hash)) === 'commit') return (await this.#store.commit(hash)).tree;
    await this.#store.tree(hash);
    return hash;
  }

  #stamp({ message, author }: CommitOptions): Stamp {
    const { nowMs, author: byDefault } = this.#options;
    return { message: message.trim() || '(no commit message)', author: author ?? byDefault, timeMs: nowMs() };
  }

  async #moved(branch: string, operation: Operation, objects?: ObjectBatch): Promise<string> {
    return (await this.#submit(branch, operation, objects))!;
  }

  async #submit(branch: string, operation: Operation, objects?: ObjectBatch): Promise<string | undefined> {
    checkBranch(branch);
    let writer = this.#writers.get(branch);
    if (!writer) {
      writer = new BranchWriter(branch, this.#store, this.#refs, () => this.#writers.delete(branch));
      this.#writers.set(branch, writer);
    }
    const head = await writer.submit(operation, objects);
    this.#packing?.written();
    return head;
  }
}

async function provide(directory: string): Promise<void> {
  const entries = await readdir(directory).catch((error) => {
    if (errorCode(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (entries && entries.length > 0) {
    if (!['HEAD', 'objects', 'refs'].every((name) => entries.includes(name)))
      throw new DatabaseError('STORAGE', `${directory} is not a git repository; move it away, and a new one is made`);
    return;
  }
  // Made aside and renamed, so that it is there whole or not at all.
  const fresh = await mkdtemp(`${directory}.new-`);
  try {
    // Of use once in a repository's life, and long to load.
    const { init } = await import('isomorphic-git');
    await init({ fs, gitdir: fresh, bare: true, defaultBranch: 'user' });
    await replaceFile(join(fresh, 'config'), Buffer.from(CONFIG));
    for (const folder of ['objects/pack', 'pending']) await mkdir(join(fresh, folder), { recursive: true });
    for (const path of await readdir(fresh, { recursive: true, withFileTypes: true }))
      await chmod(join(path.parentPath, path.name), path.isDirectory() ? 0o700 : 0o600);
    await rename(fresh, directory);
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    // Another process made it at the same time.
    if (errorCode(error) !== 'ENOTEMPTY' && errorCode(error) !== 'EEXIST') throw error;
  }
}

function mustBeHash(text: string): void {
  if (!isHash(text)) throw new DatabaseError('INVALID', `'${text}' is not a hash of 40 hexadecimal digits`);
}
