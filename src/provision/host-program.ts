/**
 * A Debian 13 program run on this host beside the host's own libraries: its packages are unpacked, never installed,
 * into `~/.cache/slipway/NAME/ID`, and it is started through its own dynamic linker with its own libraries.
 */

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheDirectory, demandSpace, makeCacheFolder } from './cache-directory.ts';
import { fetchPackages, unpackPackages } from './debian-packages.ts';
import { vmDirectory } from './image-recipe.ts';
import { type LockedPackage, lockedFor, readLock } from './package-lock.ts';
import type { DebianArch, ProvisionProgress } from './port.ts';

/** Unpacked octets per packed octet, at most. */
const GROWTH = 6;

export interface HostProgramOptions {
  /** Names the lock file, `vm/NAME.lock.json`, and the folder in the cache. */
  readonly name: string;
  readonly arch: DebianArch;
  readonly progress: ProvisionProgress;
  readonly cache?: string;
}

export interface HostProgram {
  /** The folder with the packages' files. */
  readonly folder: string;
  /** The packages' versions. */
  version(name: string): string;
  /** What starts the program at `path` below the folder; its arguments follow. */
  command(path: string): readonly string[];
}

/** The program, fetched and unpacked if need be. */
export async function provideHostProgram(options: HostProgramOptions): Promise<HostProgram> {
  const { name, progress } = options;
  const found = await place(options);
  if (!existsSync(found.folder)) {
    const parent = join(found.folder, '..');
    await makeCacheFolder(parent);
    const packed = found.packages.reduce((sum, one) => sum + one.octets, 0);
    await demandSpace(parent, packed * GROWTH, `unpacking ${name}`);
    const cache = options.cache === undefined ? {} : { cache: options.cache };
    const files = await fetchPackages({ packages: found.packages, progress, relock: 'slipway image lock', ...cache });
    const scratch = await mkdtemp(join(parent, '.unpack-'));
    try {
      await progress.step(`Unpacking ${name}`, () => unpackPackages(files, scratch, progress));
      // Somebody else may have been faster with the same.
      await rename(scratch, found.folder).catch((error: Error) => {
        if (!existsSync(found.folder)) throw error;
      });
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  }
  return open(found.folder, found.packages);
}

/** The program if it is there already. */
export async function findHostProgram(options: Omit<HostProgramOptions, 'progress'>): Promise<HostProgram | undefined> {
  const { folder, packages } = await place(options);
  return existsSync(folder) ? open(folder, packages) : undefined;
}

async function place({
  name,
  arch,
  cache,
}: Omit<HostProgramOptions, 'progress'>): Promise<{ folder: string; packages: readonly LockedPackage[] }> {
  const packages = lockedFor(await readLock(join(vmDirectory, `${name}.lock.json`)), arch);
  const hash = createHash('sha256').update(packages.map((one) => one.sha256).join());
  return { folder: join(cache ?? cacheDirectory(), name, hash.digest('hex').slice(0, 32)), packages };
}

async function open(folder: string, packages: readonly LockedPackage[]): Promise<HostProgram> {
  const libraries = join(folder, 'usr/lib');
  const triplet = (await readdir(libraries)).find((entry) => entry.endsWith('-linux-gnu'));
  const own = triplet === undefined ? [] : (await readdir(join(libraries, triplet))).filter(isLinker);
  const linker = triplet === undefined || own[0] === undefined ? undefined : join(libraries, triplet, own[0]);
  return {
    folder,
    version: (name) => /^(?:\d+:)?([\d.]+)/.exec(packages.find((one) => one.name === name)?.version ?? '')?.[1] ?? '',
    command: (path) =>
      linker === undefined
        ? [join(folder, path)]
        : [linker, '--library-path', join(libraries, triplet!), join(folder, path)],
  };
}

const isLinker = (name: string): boolean => /^ld-linux-.*\.so\.\d+$/.test(name);
