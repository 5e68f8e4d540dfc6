/** The machine that measured, and the versions of what ran on it. */

import { execFileSync, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly kernel: string;
  readonly system: string;
  readonly node: string;
  readonly commit: string;
}

export function machine(): Machine {
  const osRelease = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  const git = spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: import.meta.dirname, encoding: 'utf8' });
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGb: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    system: /^PRETTY_NAME="?([^"\n]*)/m.exec(osRelease)?.[1] ?? process.platform,
    node: process.version,
    commit: git.status === 0 ? git.stdout.trim() : 'unknown',
  };
}

/** A program of `folder`/bin, of the path, or given as a path. */
export function findProgram(name: string, folder?: string): string | undefined {
  if (name.startsWith('/')) return existsSync(name) ? name : undefined;
  const folders = [...(folder ? [join(folder, 'bin'), folder] : []), ...(process.env.PATH ?? '').split(':')];
  return folders
    .map((one) => join(one, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** The programs behind the race's peers, with the option that makes each tell its version. */
const programs: Readonly<Record<string, readonly [string, string]>> = {
  passt: ['passt', '--version'],
  'passt-12': ['/usr/bin/passt', '--version'],
  pasta: ['pasta', '--version'],
  slirp4netns: ['slirp4netns', '--version'],
  gvproxy: ['gvproxy', '-version'],
  'qemu-slirp': ['qemu-system-x86_64', '--version'],
};

/** Version of a peer's program, by itself or by its Debian package; undefined: not installed here. */
export function peerVersion(peer: string, folder?: string): string | undefined {
  const [name, option] = programs[peer] ?? [];
  const path = name === undefined ? undefined : findProgram(name, folder);
  if (path === undefined || option === undefined) return;
  const { stdout = '' } = spawnSync(path, [option], { encoding: 'utf8', timeout: 5000 });
  const told = /\d+\.\d+[\w.~+-]*/.exec(stdout.split('\n')[0] ?? '')?.[0];
  return told ?? debianVersion(path);
}

function debianVersion(path: string): string {
  try {
    const owner = execFileSync('dpkg-query', ['-S', path], { encoding: 'utf8', stdio: 'pipe' }).split(':')[0]!;
    return execFileSync('dpkg-query', ['-W', '-f', `\${Version}`, owner], { encoding: 'utf8', stdio: 'pipe' });
  } catch {
    // Not installed but unpacked beside: the package's own change log has it.
    const changelog = join(dirname(path), '../root/usr/share/doc/passt/changelog.Debian.gz');
    if (!existsSync(changelog)) return 'of unknown version';
    return /\(([^)]*)\)/.exec(gunzipSync(readFileSync(changelog)).toString('latin1'))?.[1] ?? 'of unknown version';
  }
}
