/**
 * The settings database as its users see it: the settings, the command line and the 9P server. It is a git repository
 * of branches, each a line of commits, each commit a tree of files. What it hands out is immutable and named by its
 * git hash (40 hexadecimal digits), except a `Transaction`, which is private to who opened it.
 *
 * Paths have no leading slash; the empty path is the root. A component may be any name that git takes in a tree: not
 * empty, `.`, `..` or `.git`, without `/` and NUL; a path has at most 128 of them and 4096 characters. Directories exist only through their files, but an open
 * transaction remembers empty ones.
 *
 * Whatever rejects does so with a `DatabaseError`; a failed write leaves everything as it was.
 */

import type { Observable } from 'rxjs';

export type FileMode = 'normal' | 'exec' | 'link';

export interface TreeEntry {
  readonly name: string;
  readonly kind: 'directory' | FileMode;
  /** Of the blob or, for a directory, the tree. */
  readonly hash: string;
}

/** An immutable tree of files. Objects read once are kept in memory, so reading a path again costs no I/O. */
export interface Tree {
  readonly hash: string;
  /** What is at `path`; undefined when nothing is. The root is a directory named ''. */
  entry(path: string): Promise<TreeEntry | undefined>;
  /** The entries of a directory, by name; undefined where there is none. */
  list(path: string): Promise<readonly TreeEntry[] | undefined>;
  /** The octets of a file (a link: its target); undefined where there is none. */
  read(path: string): Promise<Uint8Array | undefined>;
}

export interface CommitRecord {
  readonly id: string;
  readonly tree: string;
  readonly parents: readonly string[];
  /** As written, without the newline that ends it. */
  readonly message: string;
  readonly author: Author;
  /** Of the commit, in milliseconds since the epoch (git keeps seconds). */
  readonly timeMs: number;
}

export interface Author {
  readonly name: string;
  readonly email: string;
}

/** One file to write, or with `content` undefined to remove (a directory: with all below it; absent: no change). */
export interface Change {
  readonly path: string;
  readonly content: Uint8Array | string | undefined;
  /** Absent: that of the file which is there, else 'normal'. */
  readonly mode?: FileMode;
}

export interface CommitOptions {
  /** Empty: '(no commit message)'. */
  readonly message: string;
  readonly author?: Author;
}

export interface DiffLine {
  readonly kind: '+' | '-' | '*';
  readonly path: string;
}

/** What `watch` tells: the node at the watched path, undefined while nothing is there. */
export type WatchedNode = TreeEntry | undefined;

export type DatabaseErrorCode =
  /** A merge found paths that both sides changed; `conflicts` names them. */
  | 'CONFLICT'
  | 'NOT-FAST-FORWARD'
  /** The branch is not, or no longer, at the commit that was expected. */
  | 'CHANGED'
  | 'NO-BRANCH'
  | 'EXISTS'
  | 'NO-OBJECT'
  /** A branch name, path, hash or URL that cannot be one, or a directory in a file's place. */
  | 'INVALID'
  /** The transaction is closed or committed. */
  | 'CLOSED'
  /** The disk is full, a lock is stuck, a file is damaged: the message names cause and remedy. */
  | 'STORAGE';

export class DatabaseError extends Error {
  readonly code: DatabaseErrorCode;
  readonly conflicts: readonly string[];

  constructor(code: DatabaseErrorCode, message: string, conflicts: readonly string[] = []) {
    super(message);
    this.code = code;
    this.conflicts = conflicts;
  }
}

export interface Database {
  /** Names of the branches, sorted, as last seen (own writes at once, others' within milliseconds). No I/O. */
  readonly branches: readonly string[];
  /** The names now, then at each change. */
  readonly branchChanges: Observable<readonly string[]>;
  /** Commit that a branch is at; undefined: there is no such branch. No I/O. */
  head(branch: string): string | undefined;
  /** The head now, then at each move, whoever moved it; undefined: the branch is gone, or not yet there. */
  heads(branch: string): Observable<string | undefined>;
  /** The node at `path` of the branch now, then whenever it is another; newest only. Any path and branch may be watched. */
  watch(branch: string, path: string): Observable<WatchedNode>;

  /** Makes a branch at a commit; 'EXISTS'. Without a commit it is at a new commit of the empty tree. */
  createBranch(branch: string, commit?: string): Promise<void>;
  removeBranch(branch: string): Promise<void>;
  renameBranch(from: string, to: string): Promise<void>;
  /** Moves a branch to a descendant of its head (or makes it there); 'NOT-FAST-FORWARD'. */
  fastForward(branch: string, commit: string): Promise<void>;

  commitRecord(commit: string): Promise<CommitRecord>;
  /** The tree of that hash, or of the commit of that hash; 'NO-OBJECT'. */
  tree(hash: string): Promise<Tree>;
  /** The octets of a blob; 'NO-OBJECT'. */
  blob(hash: string): Promise<Uint8Array>;

  /**
   * Puts changes on top of a branch, wherever it is by then (made when absent). No commit is made when they change
   * nothing. Durable once resolved: objects, then ref, are synced. Returns the branch's head.
   */
  commit(branch: string, changes: readonly Change[], options: CommitOptions): Promise<string>;
  /**
   * Read, decide, write: `decide` gets the branch's tree and head and is asked again whenever another writer was first.
   * What it throws is what `update` rejects with.
   */
  update(
    branch: string,
    decide: (tree: Tree, head: string | undefined) => Promise<readonly Change[]> | readonly Change[],
    options: CommitOptions,
  ): Promise<string>;
  /** Merges a commit into a branch by the whole-file rule: fast forward, or a commit of two parents; 'CONFLICT'. */
  merge(branch: string, commit: string, options: CommitOptions): Promise<string>;
  /** Undoes on top of the branch what a commit changed against its first parent; 'CONFLICT' where later commits stand on it. */
  revert(branch: string, commit: string, options?: Partial<CommitOptions>): Promise<string>;
  /** Begins a transaction on a branch (absent: on nothing). */
  transaction(branch: string): Promise<Transaction>;

  /** The branch's or commit's history, newest first; with `path`, only the commits that changed it. */
  log(start: string, options?: { readonly path?: string; readonly limit?: number }): Promise<readonly CommitRecord[]>;
  /** From the first to the second commit or tree, sorted by path; undefined stands for the empty tree. */
  diff(from: string | undefined, to: string | undefined): Promise<readonly DiffLine[]>;

  /** What it takes on the disk, or as soon as it is more than `limit`, anything above that. */
  diskOctets(limit: number): Promise<number>;

  /** Other repositories to fetch from. A guest's view has none. */
  readonly remotes: Remotes;
  close(): Promise<void>;
}

/** A private working copy: reads see its own writes. It may be shared by nobody and lives until `commit` or `close`. */
export interface Transaction {
  readonly branch: string;
  /** The commit it began from; undefined where the branch was absent. */
  readonly origin: string | undefined;
  /** Of the commit to come; to begin with `origin`. May be set, DataKit's way; 'NO-OBJECT'. */
  readonly parents: readonly string[];
  setParents(commits: readonly string[]): Promise<void>;
  message: string;
  /** Octets of the objects made so far, of what is not committed yet. */
  readonly heldOctets: number;

  entry(path: string): Promise<TreeEntry | undefined>;
  list(path: string): Promise<readonly TreeEntry[] | undefined>;
  read(path: string): Promise<Uint8Array | undefined>;
  /** Writes a whole file, making the directories above it; 'INVALID' where a directory is. */
  write(path: string, content: Uint8Array | string, mode?: FileMode): Promise<void>;
  /** Changes a file's mode and keeps its octets. */
  setMode(path: string, mode: FileMode): Promise<void>;
  makeDirectory(path: string): Promise<void>;
  /** A file, or a directory with all below it. */
  remove(path: string): Promise<void>;
  /** A file replaces a file, as rename(2) does; 'INVALID' where it cannot. */
  rename(from: string, to: string): Promise<void>;
  /** Against a commit or tree, or `origin`'s. */
  diff(against?: string): Promise<readonly DiffLine[]>;

  /**
   * Merges a commit into the working copy, which becomes a parent. What conflicts is written as DataKit does
   * ('** Conflict **' and why) and named in `conflicts` until it is written or removed. May be called again.
   */
  merge(commit: string): Promise<void>;
  /** While a merge is under way, what it is of: the working copy before it, the commit's tree, their common ancestor's. */
  readonly merging: { readonly ours: Tree; readonly theirs: Tree; readonly base: Tree } | undefined;
  readonly conflicts: readonly string[];

  /**
   * Makes the commit and merges it into the branch's head. 'CONFLICT' (also while `conflicts` names any) leaves the
   * transaction open. Returns the branch's head.
   */
  commit(): Promise<string>;
  close(): void;
}

export interface Remotes {
  list(): Promise<readonly { readonly name: string; readonly url: string }[]>;
  /** Makes it or gives it another URL. */
  set(name: string, url: string): Promise<void>;
  remove(name: string): Promise<void>;
  /** Brings a branch of it (default `master`, as DataKit fetches) and all that it needs; its head. */
  fetch(name: string, branch?: string): Promise<string>;
  /** What was last fetched. */
  head(name: string): Promise<string | undefined>;
}
