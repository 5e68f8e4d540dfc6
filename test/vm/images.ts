/**
 * The image that the tests' containers run: Debian's static busybox and the test peer (peer.c), imported once per VM.
 * Nothing comes from a registry outside.
 */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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

export function busyboxTarball(): Buffer {
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
    file('bin/peer', compilePeer(), 0o755),
    file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\n'),
    file('www/index.html', page),
    ...applets
      .filter((name) => name !== 'busybox')
      .map((name) => ({ path: `bin/${name}`, mode: 0o777, linkTo: 'busybox' })),
  ];
  return tar(entries);
}

function compilePeer(): Buffer {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-peer-'));
  try {
    const program = join(folder, 'peer');
    const argv = ['-static', '-O2', '-s', '-Wall', '-Werror', '-x', 'c', '-o', program, '-'];
    execFileSync('gcc', argv, { input: peerSource, stdio: ['pipe', 'inherit', 'inherit'] });
    return readFileSync(program);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
