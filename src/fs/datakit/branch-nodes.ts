/**
 * `/branch`: a directory for each branch, in folders where a name has slashes (git lets no branch have the name of a
 * folder). `mkdir` begins a branch, which is in this server's memory only until a commit is put on it; DataKit's 9p.md.
 */

import type { Database } from '../../config/database.ts';
import type { Cancellation } from '../ninep/cancellation.ts';
import { FileError } from '../ninep/file-error.ts';
import { childId, type DirectoryNode } from '../ninep/node.ts';
import { commandFile, directoryAttributes, fixedDirectory, textFile } from '../ninep/static-nodes.ts';
import { diffDirectory } from './commit-nodes.ts';
import { headLive, type LiveFiles, reflog, watchDirectory } from './live-nodes.ts';
import type { Transactions } from './transaction-nodes.ts';
import { treeDirectory } from './tree-nodes.ts';

/** Branches begun that have no commit yet. */
const PENDING_BRANCHES = 1_000;

/** What the connections of a server share of branches. */
export class Branches {
  readonly database: Database;
  readonly #writable: (branch: string) => boolean;
  /** Folders that are there without a branch in them. */
  readonly #folders: readonly string[];
  readonly #limit: number;
  readonly #pending = new Set<string>();

  /** `limit`: branches that may be written, beyond which none is made. */
  constructor(database: Database, folders: readonly string[], writable: (branch: string) => boolean, limit: number) {
    this.database = database;
    this.#folders = folders;
    this.#writable = writable;
    this.#limit = limit;
  }

  /** Sorted, those begun among them. */
  names(): string[] {
    for (const name of this.#pending) if (this.database.head(name) !== undefined) this.#pending.delete(name);
    return [...new Set([...this.database.branches, ...this.#pending])].sort();
  }

  has(branch: string): boolean {
    return this.database.head(branch) !== undefined || this.#pending.has(branch);
  }

  isFolder(name: string): boolean {
    return this.#folders.includes(name) || this.names().some((branch) => branch.startsWith(`${name}/`));
  }

  folders(): string[] {
    return [...this.#folders];
  }

  writable(branch: string): boolean {
    return this.#writable(branch);
  }

  begin(branch: string): void {
    this.check(branch);
    if (this.#pending.size >= PENDING_BRANCHES) throw new FileError('ENOSPC', 'too many branches have no commit');
    if (this.names().filter((name) => this.#writable(name)).length >= this.#limit)
      throw new FileError('ENOSPC', 'there are too many branches');
    // The database refuses what git takes for no name.
    this.database.heads(branch);
    const folder = branch.split('/').slice(0, -1).join('/');
    if (folder !== '' && this.has(folder)) throw new FileError('EEXIST', `'${folder}' is a branch`);
    this.#pending.add(branch);
  }

  /** A commit is on the branch. */
  begun(branch: string): void {
    this.#pending.delete(branch);
  }

  async remove(branch: string): Promise<void> {
    this.check(branch);
    const wasPending = this.#pending.delete(branch);
    if (this.database.head(branch) !== undefined) await this.database.removeBranch(branch);
    else if (!wasPending) throw new FileError('ENOENT');
  }

  async rename(from: string, to: string): Promise<void> {
    this.check(from);
    this.check(to);
    if (this.has(to) || this.isFolder(to)) throw new FileError('EEXIST');
    if (this.database.head(from) !== undefined) await this.database.renameBranch(from, to);
    else if (this.#pending.has(from)) this.#renamePending(from, to);
    else throw new FileError('ENOENT');
  }

  #renamePending(from: string, to: string): void {
    this.#pending.delete(from);
    try {
      this.begin(to);
    } catch (error) {
      this.#pending.add(from);
      throw error;
    }
  }

  check(branch: string): void {
    if (!this.#writable(branch)) throw new FileError('EROFS');
  }
}

/** What is a connection's own. */
export interface OwnFiles {
  readonly transactions: Transactions;
  readonly live: LiveFiles;
}

/** `/branch`, or a folder in it: `prefix` ends with a slash. */
export class BranchFolder implements DirectoryNode {
  readonly kind = 'directory';
  readonly id: bigint;
  readonly #branches: Branches;
  readonly #own: OwnFiles;
  readonly #prefix: string;

  constructor(id: bigint, branches: Branches, own: OwnFiles, prefix = '') {
    this.id = id;
    this.#branches = branches;
    this.#own = own;
    this.#prefix = prefix;
  }

  attributes() {
    return directoryAttributes();
  }

  change(): void {}

  lookup(name: string): DirectoryNode | undefined {
    const full = this.#prefix + name;
    const id = childId(this.id, name);
    if (this.#branches.has(full)) return branchDirectory(id, full, this.#branches, this.#own);
    if (!this.#branches.isFolder(full)) return undefined;
    return new BranchFolder(id, this.#branches, this.#own, `${full}/`);
  }

  list() {
    const below = [...this.#branches.names(), ...this.#branches.folders().map((folder) => `${folder}/`)]
      .filter((branch) => branch.startsWith(this.#prefix))
      .map((branch) => branch.slice(this.#prefix.length).split('/')[0]!)
      .filter((name) => name !== '');
    return [...new Set(below)].sort().flatMap((name) => {
      const node = this.lookup(name);
      return node ? [{ name, node }] : [];
    });
  }

  createDirectory(name: string): DirectoryNode {
    this.#branches.begin(this.#prefix + name);
    return this.lookup(name)!;
  }

  async remove(name: string): Promise<void> {
    const full = this.#prefix + name;
    if (!this.#branches.has(full) && this.#branches.isFolder(full)) throw new FileError('ENOTEMPTY');
    await this.#branches.remove(full);
  }

  async rename(name: string, to: DirectoryNode, newName: string): Promise<void> {
    if (!(to instanceof BranchFolder)) throw new FileError('EXDEV');
    await this.#branches.rename(this.#prefix + name, to.#prefix + newName);
  }
}

function branchDirectory(id: bigint, name: string, branches: Branches, own: OwnFiles): DirectoryNode {
  const { database } = branches;
  const head = (): string => {
    if (!branches.has(name)) throw new FileError('ENOENT');
    return database.head(name) ?? '';
  };
  const tree = async () => {
    const commit = head();
    if (commit === '') return undefined;
    const { timeMs } = await database.commitRecord(commit);
    return { tree: await database.tree(commit), timeMs };
  };
  const fastForward = async (commit: string, _cancellation: Cancellation): Promise<string> => {
    branches.check(name);
    await database.fastForward(name, commit);
    branches.begun(name);
    return '';
  };
  return fixedDirectory(id, {
    head: (id) => textFile(id, () => `${head()}\n`),
    'head.live': (id) => headLive(id, database, name, own.live),
    reflog: (id) => reflog(id, database, name, own.live),
    'fast-forward': (id) => commandFile(id, fastForward),
    ro: (id) => treeDirectory(id, tree),
    transactions: (id) => own.transactions.directory(id, name, branches.writable(name), () => branches.begun(name)),
    watch: (id) => watchDirectory(id, database, name, own.live),
    diff: (id) => diffDirectory(id, (commit) => database.diff(commit, head() || undefined)),
  });
}
