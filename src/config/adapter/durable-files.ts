/**
 * Files written so that they are there whole or not at all, whatever ends the process or the machine.
 *
 * Syncs are waited for; the calls that only touch the kernel's memory are made at once, as a few microseconds each are
 * less than handing them to another thread costs.
 */

import { randomBytes } from 'node:crypto';
import { closeSync, fsync, openSync, renameSync, rmSync, writeFile, writeFileSync } from 'node:fs';
import { mkdir, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const sync = promisify(fsync);
const write = promisify(writeFile);

/** What is written in one go; more would hold up the event loop. */
const AT_ONCE_OCTETS = 64 * 1024;

export function errorCode(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

/** Writes and syncs a new file. */
export async function writeNew(path: string, octets: Uint8Array): Promise<void> {
  const file = openSync(path, 'wx', 0o600);
  try {
    if (octets.length <= AT_ONCE_OCTETS) writeFileSync(file, octets);
    else await write(file, octets);
    await sync(file);
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  } finally {
    closeSync(file);
  }
}

/** Writes and syncs a new file of a name of its own in `folder`; its path. */
export async function writeFresh(folder: string, prefix: string, octets: Uint8Array): Promise<string> {
  const path = join(folder, `${prefix}${process.pid}-${randomBytes(8).toString('hex')}`);
  await writeNew(path, octets);
  return path;
}

/** Gives a fresh file its name, making the folder when need be. One of the same name and content may be there. */
export async function publish(fresh: string, path: string): Promise<void> {
  try {
    renameSync(fresh, path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
    await makeFolders(dirname(path));
    renameSync(fresh, path);
  }
}

/** File systems whose journal is one log: a sync of anything makes every name given before it last. By statfs(2)'s type. */
const ONE_LOG = new Set([0xef53 /* ext4 */, 0x58465342 /* XFS */, 0x01021994 /* tmpfs, where nothing lasts */]);

/** Whether `syncFolder` of each folder may be left to a later sync in `folder`'s file system. */
export async function hasOneLog(folder: string): Promise<boolean> {
  return ONE_LOG.has((await statfs(folder)).type);
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
  const fresh = await writeFresh(folder, '.new-', content);
  try {
    renameSync(fresh, path);
  } catch (error) {
    rmSync(fresh, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

/** With its parents, for the user alone. */
export async function makeFolders(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
}
