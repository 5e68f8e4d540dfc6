/** The initramfs: one program, and the modules that it loads to mount the root (vm/guest/initramfs.c). */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { type CpioEntry, cpio } from './cpio.ts';
import type { GuestPrograms } from './guest-programs.ts';
import { run } from './host-tools.ts';
import { type ImageRecipe, moduleNames } from './image-recipe.ts';
import { type KernelModules, moduleName, withoutSignature } from './kernel-modules.ts';
import type { DebianArch } from './port.ts';

export interface InitramfsContext {
  readonly recipe: ImageRecipe;
  readonly arch: DebianArch;
  readonly version: string;
  readonly modules: KernelModules;
  readonly unpacked: string;
  readonly programs: GuestPrograms;
}

export async function makeInitramfs(context: InitramfsContext): Promise<Buffer> {
  const { recipe, arch, version, modules, unpacked, programs } = context;
  const paths = modules.closure(moduleNames(recipe.modules.initramfs, arch));
  const list = paths.map((path) => `/modules/${moduleName(path)}.ko\n`).join('');
  const folders = ['dev', 'modules', 'proc', 'root', 'rw', 'sys'];
  const entries: CpioEntry[] = folders.map((path) => ({ path, kind: 'folder', mode: 0o755 }));
  entries.push({ path: 'dev/console', kind: 'device', mode: 0o600, major: 5, minor: 1 });
  for (const [name, path] of Object.entries(programs.initramfs))
    entries.push({ path: name, kind: 'file', mode: 0o755, content: await readFile(path) });
  entries.push({ path: 'modules/list', kind: 'file', mode: 0o644, content: Buffer.from(list) });
  for (const path of paths) {
    const content = withoutSignature(await moduleContent(join(unpacked, 'usr/lib/modules', version, path)));
    entries.push({ path: `modules/${moduleName(path)}.ko`, kind: 'file', mode: 0o644, content });
  }
  return promisify(gzip)(cpio(entries), { level: 9 });
}

async function moduleContent(path: string): Promise<Buffer> {
  if (path.endsWith('.xz')) return run('xz', ['-dc', path]);
  if (path.endsWith('.zst')) return run('zstd', ['-dc', path]);
  return readFile(path);
}
