/**
 * Keeps the repository small, in the background: packs that have gathered become one (pack-joining.ts); when many objects or
 * large packs have, `git gc` runs at the lowest priority. Without the git program that is left out, and all works.
 */

import type { ChildProcess } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { GitMissing, runGit } from './git-program.ts';
import { joinPacks, wasOvertaken } from './pack-joining.ts';

const LOOSE_AT_MOST = 4096;
const SMALL_PACKS_AT_MOST = 64;
const PACKS_AT_MOST = 88;
/** Writes between two looks. */
const WRITES = 64;
/** `git gc --auto` counts one of the 256 folders as well: hashes spread evenly. */
const SAMPLE = '17';

export class GitPacking {
  readonly #directory: string;
  readonly #log: (line: string) => void;
  #writes = 0;
  #child: ChildProcess | undefined;
  #running: Promise<void> | undefined;
  #gitMissing = false;
  #ended = false;

  constructor(directory: string, log: (line: string) => void) {
    this.#directory = directory;
    this.#log = log;
  }

  written(): void {
    if (++this.#writes >= WRITES) void this.consider();
  }

  /** Packs if it is time to; resolves when that is done. */
  async consider(): Promise<void> {
    this.#writes = 0;
    if (this.#ended) return;
    this.#running ??= this.#pack().finally(() => {
      this.#running = undefined;
    });
    await this.#running;
  }

  /** Resolves when no packing is under way; what is is ended, which does no harm. */
  async close(): Promise<void> {
    this.#ended = true;
    this.#child?.kill('SIGTERM');
    await this.#running;
  }

  async #pack(): Promise<void> {
    try {
      await joinPacks(this.#directory, SMALL_PACKS_AT_MOST);
      if (!this.#ended && !this.#gitMissing && (await this.#due())) await this.#collect();
    } catch (error) {
      if (error instanceof GitMissing) this.#gitMissing = true;
      else if (!this.#ended && !wasOvertaken(error)) this.#log(`settings database: ${(error as Error).message}`);
    }
  }

  async #collect(): Promise<void> {
    const { child, done } = runGit(this.#directory, ['gc', '--quiet']);
    this.#child = child;
    try {
      if (child.pid !== undefined) setPriority(child.pid, 19);
    } catch {
      // It has ended already.
    }
    try {
      await done;
    } finally {
      this.#child = undefined;
    }
  }

  async #due(): Promise<boolean> {
    const count = async (folder: string, concerns: (name: string) => boolean): Promise<number> =>
      (await readdir(join(this.#directory, 'objects', folder)).catch(() => [])).filter(concerns).length;
    if ((await count('pack', (name) => name.endsWith('.idx'))) > PACKS_AT_MOST) return true;
    return (await count(SAMPLE, () => true)) * 256 > LOOSE_AT_MOST;
  }
}
