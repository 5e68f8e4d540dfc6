/** Files written so that they are there whole or not at all, whatever ends the process or the machine. */

import { randomBytes } from 'node:crypto';
import { mkdir, open, rename, rm, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export function errorCode(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}

/** Writes and syncs a new file of a name of its own in `folder`; its path. */
export async function writeFresh(folder: string, prefix: string, parts: readonly Uint8Array[]): Promise<string> {
  const path = join(folder, `${prefix}${process.pid}-${randomBytes(8).toString('hex')}`);
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writev(parts as Uint8Array[]);
    await file.sync();
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  return path;
}

/** Gives a fresh file its name, making the folder when need be. One of the same name and content may be there. */
export async function publish(fresh: string, path: string): Promise<void> {
  try {
    await rename(fresh, path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
    await makeFolders(dirname(path));
    await rename(fresh, path);
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
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } catch (error) {
    if (errorCode(error) !== 'EINVAL') throw error;
  } finally {
    await folder.close();
  }
}

/** Replaces a file by one of this content. */
export async function replaceFile(path: string, content: Uint8Array): Promise<void> {
  const folder = dirname(path);
  const fresh = await writeFresh(folder, '.new-', [content]);
  try {
    await rename(fresh, path);
  } catch (error) {
    await rm(fresh, { force: true });
    throw error;
  }
  await syncFolder(folder);
}

/** With its parents, for the user alone. */
export async function makeFolders(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 });
}
