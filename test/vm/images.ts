/**
 * The image that the tests' containers run: Debian's static busybox and the test peer (peer.c), imported once per VM.
 * Nothing comes from a registry outside.
 */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { type TarEntry, tar } from '../../src/cli/tar.ts';
import type { Instance } from './instance.ts';

const peerSource = readFileSync(join(import.meta.dirname, 'peer.c'));
/** Named by its own part, so that a VM with an older one imports it anew. */
export const busybox = `slipway-test/busybox:${createHash('sha256').update(peerSource).digest('hex').slice(0, 12)}`;
export const page = 'a page from a container\n';

/** Imports the image unless this VM has it. */
export async function importBusybox(instance: Instance): Promise<void> {
  if ((await instance.tryDocker(['image', 'inspect', busybox])).status === 0) return;
  const { status, stderr } = await instance.tryDocker(['import', '-', busybox], busyboxTarball());
  if (status !== 0) throw new Error(`docker import: exit ${status}: ${stderr}`);
}

const resolveSource = readFileSync(join(import.meta.dirname, 'resolve.c'));
/** The same with resolvers: `resolve-musl` and `resolve-glibc` (resolve.c), glibc's getent, and dig. */
export const resolvers = busybox.replace('busybox', 'resolvers');

/** Imports that image unless this VM has it. */
export async function importResolvers(instance: Instance): Promise<void> {
  if ((await instance.tryDocker(['image', 'inspect', resolvers])).status === 0) return;
  const { status, stderr } = await instance.tryDocker(['import', '-', resolvers], busyboxTarball(resolverEntries()));
  if (status !== 0) throw new Error(`docker import: exit ${status}: ${stderr}`);
}

function resolverEntries(): TarEntry[] {
  const musl = compile('musl-gcc', resolveSource, '-static');
  const glibc = compile('gcc', resolveSource);
  const programs = ['getent', 'dig'].map((name) => execFileSync('which', [name], { encoding: 'utf8' }).trim());
  const libraries = new Set(programs.flatMap(librariesOf));
  const executable = (path: string, content: Buffer): TarEntry => ({ path, mode: 0o755, content });
  return [
    executable('bin/resolve-musl', musl),
    executable('bin/resolve-glibc', glibc),
    ...programs.map((path) => executable(`bin/${basename(path)}`, readFileSync(path))),
    ...[...libraries].map((path) => executable(path.slice(1), readFileSync(path))),
    { path: 'etc/nsswitch.conf', mode: 0o644, content: Buffer.from('hosts: files dns\n') },
  ];
}

/** The shared libraries that a program loads, the loader among them. */
function librariesOf(program: string): string[] {
  const lines = execFileSync('ldd', [program], { encoding: 'utf8' });
  return [...lines.matchAll(/(?:=> |^\s+)(\/\S+) \(/gm)].map(([, path]) => path!);
}

export function busyboxTarball(more: readonly TarEntry[] = []): Buffer {
  const applets = execFileSync('/bin/busybox', ['--list'], { encoding: 'utf8' }).trim().split('\n');
  const folders = ['bin', 'etc', 'proc', 'sys', 'dev', 'tmp', 'root', 'www'];
  const file = (path: string, content: string | Buffer, mode = 0o644): TarEntry => ({
    path,
    mode,
    content: Buffer.from(content),
  });
  const entries: TarEntry[] = [
    ...folders.map((path) => ({ path: `${path}/`, mode: path === 'tmp' ? 0o1777 : 0o755 })),
    file('bin/busybox', readFileSync('/bin/busybox'), 0o755),
    file('bin/peer', compile('gcc', peerSource, '-static'), 0o755),
    file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\n'),
    file('www/index.html', page),
    ...applets
      .filter((name) => !more.some(({ path }) => path === `bin/${name}`) && name !== 'busybox')
      .map((name) => ({ path: `bin/${name}`, mode: 0o777, linkTo: 'busybox' })),
    ...more,
  ];
  return tar(entries);
}

function compile(compiler: string, source: Buffer, ...options: string[]): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-peer-'));
  try {
    const program = join(folder, 'program');
    const argv = [...options, '-O2', '-s', '-Wall', '-Werror', '-x', 'c', '-o', program, '-'];
    execFileSync(compiler, argv, { input: source, stdio: ['pipe', 'inherit', 'inherit'] });
    return readFileSync(program);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
