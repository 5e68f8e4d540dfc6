/**
 * The guest image: vmlinux, initramfs, root.erofs and manifest.json (vm/README.md), found in the cache or built there.
 *
 * An image's id is the SHA-256 of all that it is made of: the locked packages, the recipe, the files of vm/root, the C
 * sources and this builder's own version. The same id is the same image; the same toolchain makes the same octets of it.
 * An image is built in a folder of its own and then renamed to `~/.cache/slipway/image/ID`, so that what is there is
 * whole; it is checked against its manifest whenever it is asked for, and built anew when it is damaged.
 */

import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheDirectory, demandSpace, makeCacheFolder } from './cache-directory.ts';
import { fetchPackages, sha256, unpackPackages } from './debian-packages.ts';
import { makeErofs } from './erofs.ts';
import { compileGuestPrograms } from './guest-programs.ts';
import { makeRoot } from './guest-root.ts';
import { hostArch } from './host-arch.ts';
import { type ImageRecipe, readRecipe, vmDirectory } from './image-recipe.ts';
import { makeInitramfs } from './initramfs.ts';
import { uncompressedKernel } from './kernel-image.ts';
import { indexModules } from './kernel-modules.ts';
import { type LockedPackage, lockedFor, readLock } from './package-lock.ts';
import type { DebianArch, ProvisionProgress } from './port.ts';

/** Counted up when the builder makes something else of the same sources. */
const BUILDER = 2;
/** Images that stay in the cache. */
const KEPT_IMAGES = 4;
/** What unpacking, building and the result take at most. */
const BUILD_OCTETS = 1 << 30;

export const imageLock: string = join(vmDirectory, 'image.lock.json');

export interface GuestImageOptions {
  readonly progress: ProvisionProgress;
  readonly arch?: DebianArch;
  readonly cache?: string;
  /** Builds even when the cache has it. */
  readonly anew?: boolean;
}

interface Sources {
  readonly recipe: ImageRecipe;
  readonly packages: readonly LockedPackage[];
  readonly arch: DebianArch;
  readonly id: string;
}

/** The folder of the image, built if need be. */
export async function provideGuestImage(options: GuestImageOptions): Promise<string> {
  const sources = await readSources(options.arch ?? hostArch());
  const images = join(options.cache ?? cacheDirectory(), 'image');
  const folder = join(images, sources.id);
  if (!options.anew && (await isWhole(folder))) return folder;
  await makeCacheFolder(images);
  await build(sources, images, folder, options);
  await removeOldImages(images);
  return folder;
}

/** Leaves the newest few: another checkout or version may use them. */
async function removeOldImages(images: string): Promise<void> {
  const names = (await readdir(images)).filter((name) => /^[0-9a-f]{32}$/.test(name));
  const aged = await Promise.all(names.map(async (name) => ({ name, ms: (await stat(join(images, name))).mtimeMs })));
  for (const { name } of aged.sort((one, other) => other.ms - one.ms).slice(KEPT_IMAGES))
    await rm(join(images, name), { recursive: true, force: true });
}

/** The folder of the image if it has been built, without a look at its files' content. */
export async function findGuestImage({
  arch,
  cache,
}: Pick<GuestImageOptions, 'arch' | 'cache'> = {}): Promise<string | undefined> {
  const { id } = await readSources(arch ?? hostArch());
  const folder = join(cache ?? cacheDirectory(), 'image', id);
  return (await readManifest(folder)) ? folder : undefined;
}

async function readSources(arch: DebianArch): Promise<Sources> {
  const recipe = await readRecipe();
  const packages = lockedFor(await readLock(imageLock), arch);
  const hash = createHash('sha256');
  hash.update(JSON.stringify([BUILDER, arch, recipe, packages.map((one) => one.sha256)]));
  for (const folder of ['guest', 'root'])
    for (const name of (await readdir(join(vmDirectory, folder), { recursive: true, withFileTypes: true }))
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .sort()) {
      const content = await readFile(name);
      hash.update(`${name.slice(vmDirectory.length)} ${content.length}\n`).update(content);
    }
  return { recipe, packages, arch, id: hash.digest('hex').slice(0, 32) };
}

interface Manifest {
  readonly id: string;
  readonly files: Readonly<Record<string, string>>;
}

async function readManifest(folder: string): Promise<Manifest | undefined> {
  try {
    const manifest = JSON.parse(await readFile(join(folder, 'manifest.json'), 'utf8')) as Manifest;
    return typeof manifest.files === 'object' && manifest.files !== null ? manifest : undefined;
  } catch {
    return undefined;
  }
}

/** Whether every file that the image's manifest names is there, octet for octet. */
export async function isWhole(folder: string): Promise<boolean> {
  const manifest = await readManifest(folder);
  if (!manifest) return false;
  const checks = Object.entries(manifest.files).map(async ([name, expected]) => {
    const actual = await sha256(join(folder, name)).catch(() => undefined);
    return actual === expected;
  });
  return (await Promise.all(checks)).every(Boolean);
}

async function build(sources: Sources, images: string, folder: string, options: GuestImageOptions): Promise<void> {
  const { recipe, packages, arch, id } = sources;
  const { progress } = options;
  const files = await fetchPackages({
    packages,
    progress,
    relock: 'slipway image lock',
    ...(options.cache !== undefined && { cache: options.cache }),
  });
  await demandSpace(images, BUILD_OCTETS, 'building the guest image');
  const scratch = await mkdtemp(join(images, '.build-'));
  try {
    const out = join(scratch, 'out');
    const unpacked = join(scratch, 'packages');
    await mkdir(out, { mode: 0o700 });
    await progress.step('Unpacking the packages', () => unpackPackages(files, unpacked, progress));
    const [version] = await readdir(join(unpacked, 'usr/lib/modules'));
    if (version === undefined) throw new Error('the kernel package has no modules');
    const kernel = arch === 'amd64' ? 'vmlinux' : 'Image';
    await progress.step('Building the guest image', async () => {
      progress.detail('programs');
      const programs = await compileGuestPrograms(recipe, arch, join(scratch, 'programs'));
      progress.detail('kernel');
      const vmlinuz = await readFile(join(unpacked, `boot/vmlinuz-${version}`));
      await writeFile(join(out, kernel), await uncompressedKernel(vmlinuz));
      const modules = await indexModules(join(unpacked, 'usr'), version);
      const context = { recipe, arch, version, modules, unpacked, programs, progress };
      progress.detail('initramfs');
      await writeFile(join(out, 'initramfs'), await makeInitramfs(context));
      progress.detail('root');
      const root = join(scratch, 'root');
      await makeRoot(context, root);
      progress.detail('compressing the root');
      await makeErofs(root, join(out, 'root.erofs'), id);
      await writeManifest(out, sources, version, [kernel, 'initramfs', 'root.erofs']);
    });
    await rm(folder, { recursive: true, force: true });
    await rename(out, folder).catch(async (error: NodeJS.ErrnoException) => {
      // Another build of the same image was faster.
      if (!(await isWhole(folder))) throw error;
    });
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function writeManifest(out: string, sources: Sources, kernel: string, names: readonly string[]): Promise<void> {
  const docker = sources.packages.find(({ name }) => name === 'docker.io')?.version.replace(/\+.*$/, '') ?? '';
  const files = Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await sha256(join(out, name))] as const)),
  );
  const manifest = { id: sources.id, arch: sources.arch, kernel, docker, files };
  await writeFile(join(out, 'manifest.json'), `${JSON.stringify(manifest, undefined, 2)}\n`);
}
