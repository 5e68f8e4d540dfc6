/** Compiles the guest's C programs: static, so that they run in the initramfs and in the root alike. */

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { hostArch } from './host-arch.ts';
import { run } from './host-tools.ts';
import { type ImageRecipe, vmDirectory } from './image-recipe.ts';
import type { DebianArch } from './port.ts';

const FLAGS = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', '-static', '-s', '-Wl,--build-id=none'];

export interface GuestPrograms {
  /** Name to compiled file. */
  readonly initramfs: Readonly<Record<string, string>>;
  readonly root: Readonly<Record<string, string>>;
}

export async function compileGuestPrograms(
  { programs }: ImageRecipe,
  arch: DebianArch,
  directory: string,
): Promise<GuestPrograms> {
  const place = async (where: 'initramfs' | 'root'): Promise<Record<string, string>> => {
    const folder = join(directory, where);
    await mkdir(folder, { recursive: true });
    const compiled = Object.entries(programs[where]).map(async ([name, sources]) => {
      await compile(arch, sources, join(folder, name));
      return [name, join(folder, name)] as const;
    });
    return Object.fromEntries(await Promise.all(compiled));
  };
  return { initramfs: await place('initramfs'), root: await place('root') };
}

async function compile(arch: DebianArch, sources: readonly string[], out: string): Promise<void> {
  const prefix = arch === hostArch() ? '' : arch === 'arm64' ? 'aarch64-linux-gnu-' : 'x86_64-linux-gnu-';
  await run(`${prefix}gcc`, [...FLAGS, '-o', out, ...sources], { cwd: join(vmDirectory, 'guest') });
}
