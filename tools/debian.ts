/**
 * Debian packages that a command needs: installs what is missing when root on Debian, otherwise fails with a message
 * that names the packages. What is there is known by its files, so that a second run costs milliseconds.
 */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

export interface DebianPackage {
  readonly name: string;
  /** A file whose presence proves the package, or a program looked up on PATH. */
  readonly proof: string;
}

const path = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];

function present(proof: string): boolean {
  return proof.startsWith('/') ? existsSync(proof) : path.some((folder) => existsSync(`${folder}/${proof}`));
}

function apt(...argv: string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const done = spawnSync('apt-get', ['-qq', '-oDpkg::Use-Pty=0', ...argv], { env, encoding: 'utf8' });
  if (done.status !== 0) process.stderr.write(done.stdout + done.stderr);
  return done.status === 0;
}

/** Makes sure that `packages` are there; throws an Error that names what is missing and how to get it. */
export function ensureDebianPackages(packages: readonly DebianPackage[]): void {
  const missing = [...new Set(packages.filter(({ proof }) => !present(proof)).map(({ name }) => name))];
  if (missing.length === 0) return;
  const command = `apt-get install ${missing.join(' ')}`;
  if (process.getuid?.() !== 0 || !present('apt-get'))
    throw new Error(`missing: ${missing.join(', ')}. Install them first, on Debian as root: ${command}`);
  console.log(`Installing Debian packages: ${missing.join(' ')} ...`);
  const started = Date.now();
  if (!apt('update') || !apt('install', '-y', '--no-install-recommends', ...missing))
    throw new Error(`apt-get could not install ${missing.join(', ')}: see its words above`);
  console.log(`Debian packages installed in ${Math.round((Date.now() - started) / 1000)} s.`);
}
