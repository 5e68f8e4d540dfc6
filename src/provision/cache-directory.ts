/** Where what can be made anew is kept: `$XDG_CACHE_HOME/slipway`, else `~/.cache/slipway`. */

import { mkdir, statfs } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

const MIB = 1 << 20;

export function cacheDirectory(env: NodeJS.ProcessEnv = process.env): string {
  const { XDG_CACHE_HOME: cache } = env;
  return join(cache && isAbsolute(cache) ? cache : join(homedir(), '.cache'), 'slipway');
}

/** Makes a folder of the cache, the user's alone. */
export async function makeCacheFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new Error(`cannot make ${path}: ${code ?? message}; set XDG_CACHE_HOME to a folder of yours`);
  }
}

/** Rejects unless the file system of `directory` has room for `octets` more. */
export async function demandSpace(directory: string, octets: number, purpose: string): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const mib = (value: number): number => Math.ceil(value / MIB);
  if (bavail * bsize < octets)
    throw new Error(
      `${purpose} needs ${mib(octets)} MiB in ${directory}, which has ${mib(bavail * bsize)} MiB left; ` +
        'free some, or set XDG_CACHE_HOME to a folder with room',
    );
}
