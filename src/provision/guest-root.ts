/**
 * The guest's root file system: what the recipe keeps of the packages, the kernel's modules uncompressed (the root as a
 * whole is compressed), lists of those that are loaded at boot, our programs, and the files of vm/root.
 */

import { chmod, copyFile, cp, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { run } from './host-tools.ts';
import { moduleLists, moduleNames, pathMatcher, vmDirectory } from './image-recipe.ts';
import type { InitramfsContext } from './initramfs.ts';
import { indexModules, withoutSignature } from './kernel-modules.ts';

/** Where our own things are in the guest. */
const OWN = 'usr/lib/slipway';

export async function makeRoot(context: InitramfsContext, root: string): Promise<void> {
  const { recipe, unpacked, programs } = context;
  for (const folder of recipe.folders) await mkdir(join(root, folder), { recursive: true });
  await keep(unpacked, root, pathMatcher(recipe.keep));
  for (const [path, target] of Object.entries(recipe.links)) await link(target, join(root, path));
  for (const name of recipe.applets.split(' ')) await link('busybox', join(root, 'usr/bin', name)).catch(existsAlready);
  await bundleCertificates(unpacked, root);
  await addModules(context, root);
  await mkdir(join(root, OWN), { recursive: true });
  for (const [name, path] of Object.entries(programs.root)) await copyFile(path, join(root, OWN, name));
  await cp(join(vmDirectory, 'root'), root, { recursive: true });
  await settleModes(root);
}

async function link(target: string, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await symlink(target, path);
}

function existsAlready(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}

async function keep(from: string, to: string, wanted: (path: string) => boolean): Promise<void> {
  for (const entry of await readdir(from, { recursive: true, withFileTypes: true })) {
    const path = relative(from, join(entry.parentPath, entry.name));
    if (entry.isDirectory() || !wanted(path)) continue;
    await mkdir(dirname(join(to, path)), { recursive: true });
    await rename(join(from, path), join(to, path));
  }
}

/** One file of all certificate authorities, as ca-certificates' own script would make it. */
async function bundleCertificates(unpacked: string, root: string): Promise<void> {
  const folder = join(unpacked, 'usr/share/ca-certificates/mozilla');
  const names = (await readdir(folder)).filter((name) => name.endsWith('.crt')).sort();
  const texts = await Promise.all(names.map((name) => readFile(join(folder, name), 'utf8')));
  await mkdir(join(root, 'etc/ssl/certs'), { recursive: true });
  await writeFile(join(root, 'etc/ssl/certs/ca-certificates.crt'), texts.map((text) => `${text.trim()}\n`).join(''));
}

async function addModules({ recipe, arch, version, modules, unpacked }: InitramfsContext, root: string): Promise<void> {
  const folder = join('lib/modules', version);
  const uncompressed = (path: string): string => path.replace(/\.(xz|zst)$/, '');
  const present = modules.paths.filter(pathMatcher(recipe.modules.present));
  const lists = moduleLists.map((name) => [name, modules.closure(moduleNames(recipe.modules[name], arch))] as const);
  const wanted = new Set([
    ...present.flatMap((path) => modules.withNeeded(path)),
    ...lists.flatMap(([, paths]) => paths),
  ]);
  for (const path of wanted) {
    await mkdir(dirname(join(root, folder, path)), { recursive: true });
    await rename(join(unpacked, 'usr', folder, path), join(root, folder, path));
  }
  for (const [ending, program] of [
    ['.xz', 'xz'],
    ['.zst', 'zstd'],
  ] as const) {
    const packed = [...wanted].filter((path) => path.endsWith(ending));
    if (packed.length > 0)
      await run(program, ['-dq', ...(program === 'zstd' ? ['--rm'] : []), ...packed], { cwd: join(root, folder) });
  }
  for (const path of wanted) {
    const file = join(root, folder, uncompressed(path));
    await writeFile(file, withoutSignature(await readFile(file)));
  }
  for (const name of ['modules.builtin', 'modules.builtin.modinfo', 'modules.order'])
    await copyFile(join(unpacked, 'usr', folder, name), join(root, folder, name));
  await indexModules(root, version);
  // busybox's modprobe reads the texts.
  for (const name of await readdir(join(root, folder)))
    if (/\.bin$|^modules\.(order|builtin\.modinfo|devname)$/.test(name)) await rm(join(root, folder, name));
  await mkdir(join(root, OWN, 'modules'), { recursive: true });
  for (const [name, paths] of lists)
    if (name !== 'initramfs')
      await writeFile(
        join(root, OWN, 'modules', name),
        paths.map((path) => `/${folder}/${uncompressed(path)}\n`).join(''),
      );
}

/** The same permissions whatever the umask and the host's copies had. */
async function settleModes(root: string): Promise<void> {
  await chmod(root, 0o755);
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const relativePath = relative(root, path);
    if (entry.isDirectory())
      await chmod(path, relativePath === 'tmp' ? 0o1777 : relativePath === 'root' ? 0o700 : 0o755);
    else if (entry.isFile()) await chmod(path, isProgram(relativePath) ? 0o755 : 0o644);
  }
}

function isProgram(path: string): boolean {
  return /^usr\/(s?bin|lib\/slipway)\/[^/]+$/.test(path) || /^usr\/lib(64)?\/(.*\/)?ld-linux[^/]*$/.test(path);
}
