/**
 * Makes a lock file anew: the newest versions that the mirror has of a recipe's packages, as apt sees them.
 *
 * apt runs with state of its own below the cache, never the machine's: its sources are the mirror's archives of the
 * release, its installed packages none, its architecture whichever is asked for. Signatures are checked with Debian's
 * keyring.
 */

import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
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
  /** Names of packages; for a metapackage of a kernel, the kernel it depends on. */
  readonly packages: readonly string[];
  /** Whether the packages that these depend on are wanted too. */
  readonly closure: boolean;
  readonly without?: readonly string[];
  readonly progress: ProvisionProgress;
  readonly cache?: string;
  readonly mirror?: DebianMirror;
}

export async function resolvePackages(options: ResolveOptions): Promise<LockedPackage[]> {
  const { release, arch, packages, closure, without = [], progress } = options;
  const state = join(options.cache ?? cacheDirectory(), 'apt', `${release}-${arch}`);
  await makeCacheFolder(state);
  const apt = await aptOptions(state, release, arch, options.mirror ?? (await findMirror()));
  await progress.step(`Reading Debian's list of packages (${release}, ${arch})`, () =>
    run('apt-get', [...apt, 'update', '-qq']),
  );
  let names = [...packages];
  if (closure) {
    const plan = await run('apt-get', [...apt, 'install', '--no-install-recommends', '-s', '-qq', ...packages]);
    names = [...plan.toString().matchAll(/^Inst (\S+)/gm)].map((match) => match[1]!);
  }
  names = names.filter((name) => !without.includes(name)).map((name) => name.replace(/:.*$/, ''));
  const shown = await run('apt-cache', [...apt, 'show', '--no-all-versions', ...names]);
  const locked = parseStanzas(shown.toString());
  const found: LockedPackage[] = [];
  for (const name of [...new Set(names)].sort()) {
    const one = locked.get(name);
    if (!one) throw new Error(`Debian ${release} has no package ${name} for ${arch}`);
    found.push(one);
  }
  return found;
}

/** The kernel package that a metapackage such as linux-image-amd64 stands for. */
export async function resolveKernel(
  options: Omit<ResolveOptions, 'packages' | 'closure'>,
  meta: string,
): Promise<string> {
  const state = join(options.cache ?? cacheDirectory(), 'apt', `${options.release}-${options.arch}`);
  const apt = await aptOptions(state, options.release, options.arch, options.mirror ?? (await findMirror()));
  const shown = (await run('apt-cache', [...apt, 'show', '--no-all-versions', meta])).toString();
  const name = /^Depends:.*?\b(linux-image-\d[^\s,(]*)/m.exec(shown)?.[1];
  if (!name) throw new Error(`${meta} names no kernel`);
  return name;
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
