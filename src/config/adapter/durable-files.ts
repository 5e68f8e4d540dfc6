/**
 * Files written so that they are there whole or not at all, whatever ends the process or the machine.
 *
 * Syncs are waited for; the calls that only touch the kernel's memory are made at once, as a few microseconds each are
 * less than handing them to another thread costs.
 */

import { randomUUID } from 'node:crypto';
import { closeSync, fsync, mkdirSync, openSync, renameSync, unlinkSync, writeFile, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const sync = promisify(fsync);
const write = promisify(writeFile);

/** What is written in one go; more would hold up the event loop. */
const AT_ONCE_OCTETS = 64 * 1024;

export function errorCode(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

/** New files that are to last together. */
export class FreshFiles {
  readonly #files: { readonly path: string; readonly octets: Uint8Array }[] = [];

  /** Nothing may be at `path`. */
  add(path: string, octets: Uint8Array): void {
    this.#files.push({ path, octets });
  }

  /**
   * Makes all of them, or none. A sync under way holds up whoever makes a file, by the journals of ext4 and XFS: so all
   * are made and written before the first is synced.
   */
  async write(): Promise<void> {
    const open: number[] = [];
    try {
      for (const { path, octets } of this.#files) {
        const file = create(path);
        open.push(file);
        if (octets.length <= AT_ONCE_OCTETS) writeFileSync(file, octets);
        else await write(file, octets);
      }
      const syncs = await Promise.allSettled(open.map((file) => sync(file)));
      for (const ended of syncs) if (ended.status === 'rejected') throw ended.reason;
    } catch (error) {
      for (const { path } of this.#files.slice(0, open.length)) removeIfThere(path);
      throw error;
    } finally {
      for (const file of open) closeSync(file);
    }
  }

  /** Those of them that have not been renamed. */
  remove(): void {
    for (const { path } of this.#files) removeIfThere(path);
  }
}

function create(path: string): number {
  try {
    return openSync(path, 'wx', 0o600);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    return openSync(path, 'wx', 0o600);
  }
}

/** Writes and syncs a new file. */
export async function writeNew(path: string, octets: Uint8Array): Promise<void> {
  const files = new FreshFiles();
  files.add(path, octets);
  await files.write();
}

export function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}

/** Makes the names in a folder last. */
export async function syncFolder(path: string): Promise<void> {
  const folder = openSync(path, 'r');
  try {
    await sync(folder);
  } catch (error) {
    if (errorCode(error) !== 'EINVAL') throw error;
  } finally {
    closeSync(folder);
  }
}

/** Replaces a file by one of this content. */
export async function replaceFile(path: string, content: Uint8Array): Promise<void> {
  const folder = dirname(path);
  const fresh = join(folder, `.new-${randomUUID()}`);
  await writeNew(fresh, content);
  try {
    renameSync(fresh, path);
  } catch (error) {
    removeIfThere(fresh);
    throw error;
  }
  await syncFolder(folder);
}

/** With its parents, for the user alone. */
export async function makeFolders(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
}
