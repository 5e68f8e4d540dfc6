/**
 * Git's lock on a ref: the file REF.lock, which only one writer can make, holds the value to come and becomes REF by
 * rename(2). Git makes it with O_EXCL; here it is a hard link, exclusive as well, to a file that is complete and synced
 * and whose name says whose it is. So a lock that a killed process of ours left behind is known for that, by its
 * inode, and is taken over; one of git's own is waited for and then reported.
 */

import { randomBytes } from 'node:crypto';
import { linkSync, readFileSync, rmSync } from 'node:fs';
import { readdir, rename, rm, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { DatabaseError } from '../database.ts';
import { errorCode, makeFolders, writeNew } from './durable-files.ts';

const PATIENCE_MS = 2000;
/** Between looks at a lock of another's: from the first to the last of these, at random. */
const PAUSE_MS = [1, 15] as const;

export interface RefLock {
  /** REF.lock, to be renamed to REF or removed. */
  readonly path: string;
  /** To be called when it has been. */
  release(): void;
}

/**
 * Holds `REF.lock` of the file `ref` with `content`, once `before` is done, which is done meanwhile. `pending`: a folder of
 * the repository for files under way.
 */
export async function lockRef(ref: string, content: string, pending: string, before?: Promise<void>): Promise<RefLock> {
  const path = `${ref}.lock`;
  const fresh = join(pending, `${self()}-${randomBytes(8).toString('hex')}`);
  const octets = Buffer.from(content);
  const write = writeNew(fresh, octets).catch(async (error) => {
    if (errorCode(error) !== 'ENOENT') throw error;
    await makeFolders(pending);
    await writeNew(fresh, octets);
  });
  const release = (): void => rmSync(fresh, { force: true });
  try {
    for (const { reason } of (await Promise.allSettled([before, write])) as { reason?: unknown }[])
      if (reason !== undefined) throw reason;
    await take(path, fresh, octets, pending);
  } catch (error) {
    release();
    throw error;
  }
  return { path, release };
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
    const ours = join(pending, `${self()}-${randomBytes(8).toString('hex')}`);
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

/** Removes what killed processes left that is no lock any more. */
export async function sweepPending(pending: string): Promise<void> {
  for (const name of await readdir(pending).catch(() => [])) {
    if (isAlive(name)) continue;
    const file = await stat(join(pending, name)).catch(() => undefined);
    if (file?.nlink === 1) await rm(join(pending, name), { force: true });
  }
}

let selfName: string | undefined;

/** Process and when it started, as a process id alone is given again. */
function self(): string {
  selfName ??= `${process.pid}-${startOf(process.pid) ?? 0}`;
  return selfName;
}

function isAlive(name: string): boolean {
  const [pid = 0, start] = name.split('-').map(Number);
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (errorCode(error) === 'ESRCH') return false;
  }
  return (startOf(pid) ?? start) === start;
}

/** In clock ticks since boot; undefined where there is no /proc. */
function startOf(pid: number): number | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return Number(fields.slice(fields.lastIndexOf(')') + 2).split(' ')[19]);
  } catch {
    return undefined;
  }
}
