/**
 * Fetches the packages of a lock file, unprivileged, into `~/.cache/slipway/packages`, and unpacks them.
 *
 * A file is believed by its SHA-256 alone, so apt's lists are not needed and the mirror is not trusted: apt's own
 * downloader is given each file's address in the pool. A file in the cache is checked at each use and fetched anew
 * when it is damaged. A version that left the mirror is reported with its remedy.
 */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { cacheDirectory, demandSpace, makeCacheFolder } from './cache-directory.ts';
import { type DebianMirror, findMirror } from './debian-mirror.ts';
import { run, tryRun } from './host-tools.ts';
import type { LockedPackage } from './package-lock.ts';
import type { ProvisionProgress } from './port.ts';

const MIB = 1 << 20;
const PROGRESS_MS = 200;

export interface FetchOptions {
  readonly packages: readonly LockedPackage[];
  readonly progress: ProvisionProgress;
  /** What makes a new lock of these packages, for the message about a version that is gone. */
  readonly relock: string;
  readonly cache?: string;
  readonly mirror?: DebianMirror;
}

/** The packages' files, in the order of `packages`. */
export async function fetchPackages(options: FetchOptions): Promise<string[]> {
  const { packages, relock } = options;
  const directory = join(options.cache ?? cacheDirectory(), 'packages');
  await makeCacheFolder(directory);
  const path = (one: LockedPackage): string => join(directory, `${one.sha256.slice(0, 16)}-${basename(one.file)}`);
  const missing = await unverified(packages, path);
  if (missing.length > 0) {
    const octets = missing.reduce((sum, one) => sum + one.octets, 0);
    await demandSpace(directory, octets + 16 * MIB, 'fetching Debian packages');
    const mirror = options.mirror ?? (await findMirror());
    const scratch = await mkdtemp(join(directory, '.fetch-'));
    try {
      await options.progress.step(`Fetching ${missing.length} Debian packages, ${toMib(octets)} MiB`, () =>
        withSizes(scratch, missing, octets, options.progress, () => download(missing, scratch, mirror, relock)),
      );
      for (const one of missing) await rename(join(scratch, basename(one.file)), path(one));
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  }
  return packages.map(path);
}

/** Unpacks packages' files below `directory`, without their maintainer scripts. */
export async function unpackPackages(
  files: readonly string[],
  directory: string,
  progress: ProvisionProgress,
): Promise<void> {
  await mkdir(directory, { recursive: true });
  for (const file of files) {
    progress.detail(basename(file).replace(/^[0-9a-f]{16}-|_.*$/g, ''));
    await run('dpkg-deb', ['-x', file, directory]);
  }
}

export async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: MIB }), hash);
  return hash.digest('hex');
}

const toMib = (octets: number): number => Math.max(1, Math.round(octets / MIB));

async function unverified(
  packages: readonly LockedPackage[],
  path: (one: LockedPackage) => string,
): Promise<LockedPackage[]> {
  const missing: LockedPackage[] = [];
  for (const one of packages) if (!(await verified(path(one), one))) missing.push(one);
  return missing;
}

async function verified(path: string, { octets, sha256: expected }: LockedPackage): Promise<boolean> {
  const size = await stat(path).then(
    (found) => found.size,
    () => undefined,
  );
  return size === octets && (await sha256(path)) === expected;
}

/** Tries the archive, then the security archive, whose packages enter the former at the next point release. */
async function download(
  packages: readonly LockedPackage[],
  scratch: string,
  { main, security }: DebianMirror,
  relock: string,
): Promise<void> {
  const bases = [`${main}/pool/main`, ...(security === undefined ? [] : [`${security}/pool/updates/main`])];
  const failures: string[] = [];
  let wanted = packages;
  for (const base of bases) {
    const triples = wanted.flatMap((one) => [
      `${base}/${one.file.replaceAll('+', '%2b').replaceAll('~', '%7e')}`,
      join(scratch, basename(one.file)),
      `SHA256:${one.sha256}`,
    ]);
    const options = ['-oAPT::Sandbox::User=root', '-oAcquire::Retries=2', 'download-file'];
    const { stderr } = await tryRun('/usr/lib/apt/apt-helper', [...options, ...triples]);
    failures.push(
      ...[...stderr.matchAll(/^E: (Failed to fetch .*|(?!Download Failed).*)$/gm)].map(([, line]) => line!),
    );
    wanted = await unverified(wanted, (one) => join(scratch, basename(one.file)));
    if (wanted.length === 0) return;
  }
  const names = wanted.map(({ name, version }) => `${name} ${version}`).join(', ');
  if (failures.length > 0 && failures.every((line) => / 404 /.test(line)))
    throw new Error(`the Debian mirror has no longer ${names}, which the lock file names; lock newer ones: ${relock}`);
  const reason = failures.find((line) => !/ 404 /.test(line)) ?? 'what came is not what the lock file names';
  throw new Error(`cannot fetch ${names} from the Debian mirror: ${reason.replace(/\p{C}/gu, ' ').slice(0, 300)}`);
}

/** Shows how much has come, while `work` goes on. */
async function withSizes<T>(
  directory: string,
  packages: readonly LockedPackage[],
  octets: number,
  progress: ProvisionProgress,
  work: () => Promise<T>,
): Promise<T> {
  const measure = async (): Promise<void> => {
    let come = 0;
    for (const { file } of packages)
      come += await stat(join(directory, basename(file))).then(
        ({ size }) => size,
        () => 0,
      );
    progress.detail(`${Math.min(100, Math.floor((come / octets) * 100))} % of ${toMib(octets)} MiB`);
  };
  const timer = setInterval(() => void measure(), PROGRESS_MS);
  try {
    return await work();
  } finally {
    clearInterval(timer);
  }
}
