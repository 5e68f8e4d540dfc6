/**
 * A lock file of Debian packages: for each architecture the exact files, by version and SHA-256, so that the same
 * lock gives the same octets whenever and wherever it is used.
 */

import { readFile, writeFile } from 'node:fs/promises';
import type { DebianArch } from './port.ts';

export interface LockedPackage {
  readonly name: string;
  readonly version: string;
  /** The archive's file, below the pool of its section: `d/docker.io/docker.io_26.1.5_amd64.deb`. */
  readonly file: string;
  readonly octets: number;
  readonly sha256: string;
}

export interface PackageLock {
  /** Debian's release: `trixie`. */
  readonly release: string;
  readonly packages: Readonly<Partial<Record<DebianArch, readonly LockedPackage[]>>>;
}

export async function readLock(path: string): Promise<PackageLock> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new Error(`the lock file ${path} cannot be read: ${(error as NodeJS.ErrnoException).code}`);
  }
  try {
    return parseLock(text);
  } catch (error) {
    throw new Error(`the lock file ${path} is damaged: ${(error as Error).message}`);
  }
}

/** Throws an Error that says what is wrong. */
export function parseLock(text: string): PackageLock {
  const lock: unknown = JSON.parse(text);
  if (!isRecord(lock) || typeof lock.release !== 'string' || !/^[a-z]+$/.test(lock.release))
    throw new Error('it names no release');
  if (!isRecord(lock.packages)) throw new Error('it has no packages');
  for (const [arch, list] of Object.entries(lock.packages)) {
    if (arch !== 'amd64' && arch !== 'arm64') throw new Error(`${arch} is no architecture known here`);
    if (!Array.isArray(list)) throw new Error(`the packages of ${arch} are no list`);
    for (const entry of list as unknown[]) checkEntry(entry);
  }
  return lock as unknown as PackageLock;
}

export async function writeLock(path: string, lock: PackageLock): Promise<void> {
  try {
    await writeFile(path, `${JSON.stringify(lock, undefined, 2)}\n`);
  } catch (error) {
    throw new Error(`the lock file ${path} cannot be written: ${(error as NodeJS.ErrnoException).code}`);
  }
}

/** The packages locked for an architecture. */
export function lockedFor(lock: PackageLock, arch: DebianArch): readonly LockedPackage[] {
  const packages = lock.packages[arch];
  if (!packages || packages.length === 0) throw new Error(`the lock file names no packages for ${arch}`);
  return packages;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function checkEntry(entry: unknown): void {
  if (!isRecord(entry) || typeof entry.name !== 'string' || !/^[a-z0-9][a-z0-9.+-]+$/.test(entry.name))
    throw new Error('a package has no name');
  const { name, version, file, octets, sha256 } = entry;
  if (typeof version !== 'string' || !/^[A-Za-z0-9.+:~-]+$/.test(version)) throw new Error(`${name} has no version`);
  if (typeof file !== 'string' || !/^[a-z0-9]+\/[a-z0-9.+-]+\/[A-Za-z0-9.+_~%-]+\.deb$/.test(file))
    throw new Error(`${name} has no file`);
  if (!Number.isSafeInteger(octets) || (octets as number) <= 0) throw new Error(`${name} has no size`);
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) throw new Error(`${name} has no SHA-256`);
}
