/**
 * Branches of a git repository on disk: `refs/heads/NAME` or a line of `packed-refs`, moved by git's own protocol
 * (adapter/ref-lock.ts), so that git commands may write beside us. A branch that anyone moves is noticed by watching the
 * folders; what was moved here is known at once.
 *
 * Reading a branch looks for its own file first and then into packed-refs: git, when it packs, writes the latter
 * before it removes the former. A folder is watched before it is read, so nothing falls between.
 */

import { close, type FSWatcher, openSync, readFileSync, renameSync, unlinkSync, watch } from 'node:fs';
import { readdir, readFile, rmdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Observable, Subject } from 'rxjs';
import { DatabaseError } from '../database.ts';
import { isHash } from '../git-object.ts';
import { checkBranch } from '../path.ts';
import { errorCode, removeIfThere, syncFolder } from './durable-files.ts';
import { sweepPending } from './pending-files.ts';
import { lockRef, type Staged } from './ref-lock.ts';

export interface RefMove {
  readonly branch: string;
  readonly commit: string | undefined;
}

const PREFIX = 'refs/heads/';
/** How often branches are looked at where folders cannot be watched. */
const LOOK_MS = 1000;

export class GitRefs {
  readonly #directory: string;
  readonly #log: (line: string) => void;
  readonly #heads = new Map<string, string>();
  readonly #moves = new Subject<RefMove>();
  readonly #watchers = new Map<string, FSWatcher>();
  /** Branches moved here since the look under way began, which therefore does not speak for them. */
  readonly #moved = new Set<string>();
  /** Branches to look at. */
  readonly #touched = new Set<string>();
  /** Who waits for a look at all of them. */
  #waiting: (() => void)[] = [];
  #watching = false;
  #looking: NodeJS.Timeout | undefined;
  #atWork = false;

  private constructor(directory: string, log: (line: string) => void) {
    this.#directory = directory;
    this.#log = log;
  }

  /** `watching`: others' moves are told as they happen, until `close`. */
  static async open(directory: string, watching: boolean, log: (line: string) => void): Promise<GitRefs> {
    const refs = new GitRefs(directory, log);
    refs.#watching = watching;
    if (watching) await sweepPending(refs.#pending);
    refs.#atWork = true;
    await refs.#lookAtAll().catch((error) => {
      refs.close();
      throw error;
    });
    refs.#atWork = false;
    void refs.#lookOn();
    return refs;
  }

  /** As last seen. */
  get heads(): ReadonlyMap<string, string> {
    return this.#heads;
  }

  get moves(): Observable<RefMove> {
    return this.#moves;
  }

  /** Looks at everything anew; told moves come before this resolves. */
  refresh(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      void this.#lookOn();
    });
  }

  /** What a branch is at now, on disk. */
  async read(branch: string): Promise<string | undefined> {
    checkBranch(branch);
    return this.#readLoose(branch) ?? (await this.#readPacked()).get(branch);
  }

  /**
   * Moves a branch from one commit (undefined: is not there) to another (undefined: is removed), unless it is not where
   * it is said to be. It lasts when this resolves with true. `objects`: the commit, which is made to last first.
   */
  async move(branch: string, from: string | undefined, to: string | undefined, objects?: Staged): Promise<boolean> {
    checkBranch(branch);
    const ref = join(this.#directory, PREFIX, branch);
    if (from === undefined) await this.#mustFit(branch);
    const lock = await lockRef(ref, to === undefined ? '' : `${to}\n`, this.#pending, objects);
    let held = true;
    const before = openIfThere(ref);
    try {
      if ((this.#readLoose(branch, before) ?? (await this.#readPacked()).get(branch)) !== from) return false;
      if (to === undefined) {
        await this.#removePacked(branch);
        removeIfThere(ref);
        unlinkSync(lock.path);
      } else {
        try {
          renameSync(lock.path, ref);
        } catch (error) {
          // Where a branch is to be, git may have left folders.
          if (!['EISDIR', 'ENOTEMPTY', 'EEXIST'].includes(errorCode(error) ?? '')) throw error;
          await removeEmptyFolders(ref);
          renameSync(lock.path, ref);
        }
      }
      held = false;
      // In the same tick as the rename: what a scan read before it arrives later, and is left aside.
      this.#note(branch, to);
    } finally {
      // Whoever lets go of a file last frees it, which may take longer than all the rest: that is another thread.
      if (before !== undefined) close(before, () => undefined);
      if (held) removeIfThere(lock.path);
      lock.release();
      if (!held) await syncFolder(dirname(ref));
    }
    if (to === undefined) await removeEmptyParents(dirname(ref), join(this.#directory, PREFIX));
    return true;
  }

  close(): void {
    this.#watching = false;
    clearInterval(this.#looking);
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
    this.#moves.complete();
  }

  get #pending(): string {
    return join(this.#directory, 'pending');
  }

  #note(branch: string, commit: string | undefined): void {
    this.#moved.add(branch);
    this.#set(branch, commit);
  }

  #touch(branch: string): void {
    this.#touched.add(branch);
    void this.#lookOn();
  }

  #set(branch: string, commit: string | undefined): void {
    if (this.#heads.get(branch) === commit) return;
    if (commit === undefined) this.#heads.delete(branch);
    else this.#heads.set(branch, commit);
    this.#moves.next({ branch, commit });
  }

  /** Looks at what was asked for, one after another, so that an older look never overtakes a newer one. */
  async #lookOn(): Promise<void> {
    if (this.#atWork) return;
    this.#atWork = true;
    while (this.#waiting.length > 0 || this.#touched.size > 0) {
      this.#moved.clear();
      const waiting = this.#waiting;
      const touched = [...this.#touched];
      this.#waiting = [];
      this.#touched.clear();
      // A repository that cannot be read for the moment stays as it was last seen.
      await (waiting.length > 0 ? this.#lookAtAll() : this.#lookAt(touched)).catch(() => undefined);
      for (const resolve of waiting) resolve();
      if (this.#watching) for (const branch of this.#moved) this.#touched.add(branch);
    }
    this.#atWork = false;
  }

  async #lookAtAll(): Promise<void> {
    if (this.#watching) this.#watch(this.#directory, '', (name) => name === 'packed-refs');
    const loose = new Map<string, string>();
    await this.#scan('', loose);
    const seen = new Map([...(await this.#readPacked()), ...loose]);
    for (const branch of new Set([...this.#heads.keys(), ...seen.keys()]))
      if (!this.#moved.has(branch)) this.#set(branch, seen.get(branch));
  }

  async #lookAt(branches: readonly string[]): Promise<void> {
    for (const branch of branches) {
      let seen = this.#readLooseIfGood(branch);
      if (seen === undefined) {
        const isFolder = await stat(join(this.#directory, PREFIX, branch)).then(
          (found) => found.isDirectory(),
          () => [...this.#heads.keys()].some((name) => name.startsWith(`${branch}/`)),
        );
        if (isFolder) return this.#lookAtAll();
        seen = await this.read(branch).catch(() => this.#heads.get(branch));
      }
      if (!this.#moved.has(branch)) this.#set(branch, seen);
    }
  }

  /** Adds the branches below `prefix` ('' or ending in a slash). */
  async #scan(prefix: string, found: Map<string, string>): Promise<void> {
    const folder = join(this.#directory, PREFIX, prefix);
    if (this.#watching) this.#watch(folder, prefix, (name) => !name.endsWith('.lock'));
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      const name = prefix + entry.name;
      if (entry.isDirectory()) await this.#scan(`${name}/`, found);
      else if (!name.endsWith('.lock')) {
        const commit = this.#readLooseIfGood(name);
        if (commit !== undefined) found.set(name, commit);
      }
    }
  }

  /** `prefix`: of the branches that lie in `folder`; in the repository's own folder lies `packed-refs`. */
  #watch(folder: string, prefix: string, concerns: (name: string) => boolean): void {
    if (this.#watchers.has(folder)) return;
    const forget = (): void => {
      watcher.close();
      if (this.#watchers.get(folder) === watcher) this.#watchers.delete(folder);
    };
    let watcher: FSWatcher;
    try {
      watcher = watch(folder, (event, name) => {
        // A folder that was removed tells so by its own name; one of the same name may come back.
        if (event === 'rename' && name !== null && folder.endsWith(`/${name}`)) forget();
        if (!this.#watching || (name !== null && !concerns(name))) return;
        if (name === null || folder === this.#directory) void this.refresh();
        else this.#touch(prefix + name);
      });
    } catch (error) {
      // The system's watches may have run out; a folder that has just gone needs none.
      if (errorCode(error) !== 'ENOENT') this.#lookInstead(errorCode(error));
      return;
    }
    watcher.on('error', forget);
    this.#watchers.set(folder, watcher);
  }

  #lookInstead(why: string | undefined): void {
    if (this.#looking) return;
    this.#log(`settings database: cannot watch ${this.#directory} (${why}); looking at it every ${LOOK_MS} ms`);
    this.#looking = setInterval(() => void this.refresh(), LOOK_MS);
  }

  /** `file`: when it is open already. */
  #readLoose(branch: string, file?: number): string | undefined {
    const path = join(this.#directory, PREFIX, branch);
    let text: string;
    try {
      text = readFileSync(file ?? path, 'latin1').trim();
    } catch (error) {
      if (['ENOENT', 'ENOTDIR', 'EISDIR'].includes(errorCode(error) ?? '')) return undefined;
      throw new DatabaseError('STORAGE', `cannot read ${path}: ${errorCode(error)}`);
    }
    if (!isHash(text)) throw new DatabaseError('STORAGE', `${path} holds no commit; remove it or mend it`);
    return text;
  }

  #readLooseIfGood(branch: string): string | undefined {
    try {
      return this.#readLoose(branch);
    } catch {
      return undefined;
    }
  }

  async #readPacked(): Promise<Map<string, string>> {
    const path = join(this.#directory, 'packed-refs');
    const text = await readFile(path, 'utf8').catch((error) => {
      if (errorCode(error) === 'ENOENT') return '';
      throw new DatabaseError('STORAGE', `cannot read ${path}: ${errorCode(error)}`);
    });
    const found = new Map<string, string>();
    for (const line of text.split('\n')) {
      const [hash = '', name = ''] = line.split(' ');
      if (isHash(hash) && name.startsWith(PREFIX)) found.set(name.slice(PREFIX.length), hash);
    }
    return found;
  }

  async #removePacked(branch: string): Promise<void> {
    const path = join(this.#directory, 'packed-refs');
    if (!(await this.#readPacked()).has(branch)) return;
    const lock = await lockRef(path, '', this.#pending);
    try {
      const lines = readFileSync(path, 'utf8').split('\n');
      const at = lines.findIndex((line) => line.endsWith(` ${PREFIX}${branch}`));
      if (at >= 0) lines.splice(at, lines[at + 1]?.startsWith('^') ? 2 : 1);
      const rest = await lockRef(`${path}.new`, lines.join('\n'), this.#pending);
      renameSync(rest.path, path);
      rest.release();
      await syncFolder(this.#directory);
    } finally {
      removeIfThere(lock.path);
      lock.release();
    }
  }

  /** Git has no branch `a` beside a branch `a/b`. */
  async #mustFit(branch: string): Promise<void> {
    await this.refresh();
    for (const other of this.#heads.keys())
      if (other.startsWith(`${branch}/`) || branch.startsWith(`${other}/`))
        throw new DatabaseError('EXISTS', `a branch '${branch}' cannot be while there is '${other}'`);
  }
}

function openIfThere(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

async function removeEmptyFolders(path: string): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => undefined);
  if (!entries) return;
  for (const entry of entries) if (entry.isDirectory()) await removeEmptyFolders(join(path, entry.name));
  await rmdir(path);
}

async function removeEmptyParents(path: string, root: string): Promise<void> {
  for (let at = path; `${at}/`.length > root.length; at = dirname(at)) {
    try {
      await rmdir(at);
    } catch {
      return;
    }
  }
}
