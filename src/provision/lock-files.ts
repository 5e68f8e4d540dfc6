/** The project's lock files, and how each is made anew from its recipe in the folder `vm`. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readRecipe, vmDirectory } from './image-recipe.ts';
import { type LockedPackage, type PackageLock, readLock, writeLock } from './package-lock.ts';
import { resolvePackages } from './package-resolver.ts';
import type { DebianArch, ProvisionProgress } from './port.ts';

export const lockNames = ['image', 'qemu', 'docker-cli'] as const;
export type LockName = (typeof lockNames)[number];

/** A change of a lock file, for people: `docker.io 26.1.5 -> 26.1.6 (amd64)`. */
export type LockChange = string;

/** Renews a lock file with the mirror's newest versions; tells what has changed. */
export async function renewLock(name: LockName, progress: ProvisionProgress): Promise<LockChange[]> {
  const path = join(vmDirectory, `${name}.lock.json`);
  const before = await readLock(path).catch(() => undefined);
  const { release, packages } = await wanted(name);
  const resolved: Partial<Record<DebianArch, LockedPackage[]>> = {};
  for (const [arch, names] of Object.entries(packages) as [DebianArch, readonly string[]][])
    resolved[arch] = await resolvePackages({ release, arch, packages: names, progress });
  await writeLock(path, { release, packages: resolved });
  return changes(before, resolved);
}

interface Wanted {
  readonly release: string;
  readonly packages: Readonly<Partial<Record<DebianArch, readonly string[]>>>;
}

async function wanted(name: LockName): Promise<Wanted> {
  if (name !== 'image') return JSON.parse(await readFile(join(vmDirectory, `${name}.json`), 'utf8')) as Wanted;
  const { release, kernel, packages } = await readRecipe();
  return {
    release,
    packages: { amd64: [...packages, kernel.amd64], arm64: [...packages, kernel.arm64] },
  };
}

function changes(before: PackageLock | undefined, after: PackageLock['packages']): LockChange[] {
  const found: LockChange[] = [];
  for (const [arch, packages] of Object.entries(after) as [DebianArch, readonly LockedPackage[]][]) {
    const old = new Map(before?.packages[arch]?.map((one) => [one.name, one.version]));
    for (const { name, version } of packages) {
      if (old.get(name) !== version) found.push(`${name} ${old.get(name) ?? '(new)'} -> ${version} (${arch})`);
      old.delete(name);
    }
    for (const name of old.keys()) found.push(`${name} is gone (${arch})`);
  }
  return found;
}
