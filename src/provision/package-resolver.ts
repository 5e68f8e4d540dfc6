/**
 * Makes a lock file anew: the newest versions that the mirror has of a recipe's packages, as apt sees them.
 *
 * apt runs with state of its own, thrown away afterwards, never the machine's: its sources are the mirror's archives of the
 * release, its installed packages none, its architecture whichever is asked for. Signatures are checked with Debian's
 * keyring.
 */

import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cacheDirectory, makeCacheFolder } from './cache-directory.ts';
import { type DebianMirror, findMirror } from './debian-mirror.ts';
import { run } from './host-tools.ts';
import type { LockedPackage } from './package-lock.ts';
import type { DebianArch, ProvisionProgress } from './port.ts';

const KEYRINGS = ['/usr/share/keyrings/debian-archive-keyring.gpg', '/usr/share/keyrings/debian-archive-keyring.pgp'];

export interface ResolveOptions {
  readonly release: string;
  readonly arch: DebianArch;
  /** Names of packages; the metapackage of a kernel stands for the kernel that it depends on. */
  readonly packages: readonly string[];
  readonly progress: ProvisionProgress;
  readonly cache?: string;
  readonly mirror?: DebianMirror;
}

export async function resolvePackages(options: ResolveOptions): Promise<LockedPackage[]> {
  const { release, arch, packages, progress } = options;
  const parent = options.cache ?? cacheDirectory();
  await makeCacheFolder(parent);
  const state = await mkdtemp(join(parent, '.apt-'));
  try {
    const apt = await aptOptions(state, release, arch, options.mirror ?? (await findMirror()));
    await progress.step(`Reading Debian's list of packages (${release}, ${arch})`, () =>
      run('apt-get', [...apt, 'update', '-qq', '-oAPT::Update::Error-Mode=any']),
    );
    const show = async (names: readonly string[]): Promise<string> =>
      (await run('apt-cache', [...apt, 'show', '--no-all-versions', ...names])).toString();
    const names = await Promise.all(
      packages.map(async (name) => (isKernelMetapackage(name) ? kernelOf(name, await show([name])) : name)),
    );
    const known = parseStanzas(await show(names));
    return [...new Set(names)].sort().map((name) => {
      const found = known.get(name);
      if (!found) throw new Error(`Debian ${release} has no package ${name} for ${arch}`);
      return found;
    });
  } finally {
    await rm(state, { recursive: true, force: true });
  }
}

const isKernelMetapackage = (name: string): boolean => /^linux-image-(?!\d)/.test(name);

function kernelOf(name: string, stanza: string): string {
  const kernel = /^Depends:.*?\b(linux-image-\d[^\s,(]*)/m.exec(stanza)?.[1];
  if (!kernel) throw new Error(`${name} names no kernel`);
  return kernel;
}

function parseStanzas(text: string): Map<string, LockedPackage> {
  const found = new Map<string, LockedPackage>();
  for (const stanza of text.split('\n\n')) {
    const field = (name: string): string => new RegExp(`^${name}: (.*)$`, 'm').exec(stanza)?.[1] ?? '';
    const name = field('Package');
    const file = field('Filename').replace(/^pool\/(updates\/)?main\//, '');
    if (name)
      found.set(name, {
        name,
        version: field('Version'),
        file,
        octets: Number(field('Size')),
        sha256: field('SHA256'),
      });
  }
  return found;
}

async function aptOptions(state: string, release: string, arch: DebianArch, mirror: DebianMirror): Promise<string[]> {
  const keyring = KEYRINGS.find((path) => existsSync(path));
  if (!keyring) throw new Error("Debian's keys are missing; install them (apt-get install debian-archive-keyring)");
  const source = (uri: string, suites: string): string =>
    `Types: deb\nURIs: ${uri}\nSuites: ${suites}\nComponents: main\nSigned-By: ${keyring}\n`;
  const sources = [source(mirror.main, `${release} ${release}-updates`)];
  if (mirror.security !== undefined) sources.push(source(mirror.security, `${release}-security`));
  const at = (name: string): string => join(state, name);
  await mkdir(at('lists/partial'), { recursive: true });
  await mkdir(at('archives/partial'), { recursive: true });
  await writeFile(at('debian.sources'), sources.join('\n'));
  await writeFile(at('status'), '');
  const settings = {
    'Dir::Etc::SourceList': at('debian.sources'),
    'Dir::Etc::SourceParts': '/dev/null',
    'Dir::Etc::Preferences': '/dev/null',
    'Dir::Etc::PreferencesParts': '/dev/null',
    'Dir::State::Lists': at('lists'),
    'Dir::State::Status': at('status'),
    'Dir::State::extended_states': at('extended_states'),
    'Dir::Cache::Archives': at('archives'),
    'Dir::Cache::PkgCache': at('packages.bin'),
    'Dir::Cache::SrcPkgCache': '',
    'APT::Sandbox::User': 'root',
    'APT::Architecture': arch,
    'APT::Architectures': arch,
    'Acquire::Languages': 'none',
  };
  return Object.entries(settings).map(([name, value]) => `-o${name}=${value}`);
}
