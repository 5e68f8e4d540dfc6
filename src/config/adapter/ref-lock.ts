/**
 * Git's lock on a ref: the file REF.lock, which only one writer can make, holds the value to come and becomes REF by
 * rename(2). Git makes it with O_EXCL; here it is a hard link, exclusive as well, to a file that is complete and synced
 * and whose name says whose it is. So a lock that a killed process of ours left behind is known for that, by its
 * inode, and is taken over; one of git's own is waited for and then reported.
 */

import { linkSync } from 'node:fs';
import { readdir, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { DatabaseError } from '../database.ts';
import { errorCode, makeFolders, removeIfThere, writeNew } from './durable-files.ts';
import { isAlive, pendingPath } from './pending-files.ts';

const PATIENCE_MS = 2000;
/** Between looks at a lock of another's: from the first to the last of these, at random. */
const PAUSE_MS = [1, 15] as const;

export interface RefLock {
  /** REF.lock, to be renamed to REF or removed. */
  readonly path: string;
  /** To be called when it has been. */
  release(): void;
}

/** What has to last before a ref is moved to it. */
export interface Staged {
  /** Makes it last, where nobody sees it. */
  write(): Promise<void>;
  /** And then its names. */
  publish(): Promise<void>;
}

/**
 * Holds `REF.lock` of the file `ref` with `content`; `before` lasts by then, its names synced while the lock's file is.
 * `pending`: a folder of the repository for files under way.
 */
export async function lockRef(ref: string, content: string, pending: string, before?: Staged): Promise<RefLock> {
  const path = `${ref}.lock`;
  const fresh = pendingPath(pending);
  const octets = Buffer.from(content);
  await before?.write();
  try {
    await Promise.all([before?.publish(), writeNew(fresh, octets)]);
    await take(path, fresh, octets, pending);
  } catch (error) {
    removeIfThere(fresh);
    throw error;
  }
  return { path, release: () => removeIfThere(fresh) };
}

async function take(path: string, fresh: string, content: Uint8Array, pending: string): Promise<void> {
  const deadlineMs = performance.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await linkOrCreate(path, fresh, content);
    } catch (error) {
      const code = errorCode(error);
      if (code === 'EEXIST') await takeOver(path, pending);
      else if (code === 'ENOENT') {
        // Not there yet, or git has removed folders that had become empty.
        await makeFolders(dirname(path));
        continue;
      } else throw error;
    }
    if (performance.now() > deadlineMs)
      throw new DatabaseError(
        'STORAGE',
        `${path} has been held for ${PATIENCE_MS / 1000} s; if no git command is at work there, one was killed: remove the file`,
      );
    await pause(PAUSE_MS[0] + Math.random() * (PAUSE_MS[1] - PAUSE_MS[0]));
  }
}

async function linkOrCreate(path: string, fresh: string, content: Uint8Array): Promise<void> {
  try {
    linkSync(fresh, path);
  } catch (error) {
    if (!['EPERM', 'ENOTSUP', 'ENOSYS'].includes(errorCode(error) ?? '')) throw error;
    await writeNew(path, content);
  }
}

/** Removes a lock whose owner, one of us, is dead. Renaming its file to be ours first makes that one taker's business. */
async function takeOver(path: string, pending: string): Promise<void> {
  const lock = await stat(path).catch(() => undefined);
  if (!lock || lock.nlink < 2) return;
  for (const name of await readdir(pending)) {
    if (isAlive(name)) continue;
    const file = await stat(join(pending, name)).catch(() => undefined);
    if (file?.ino !== lock.ino) continue;
    const ours = pendingPath(pending);
    try {
      await rename(join(pending, name), ours);
    } catch {
      return;
    }
    await unlink(path).catch(() => undefined);
    await unlink(ours);
    return;
  }
}
