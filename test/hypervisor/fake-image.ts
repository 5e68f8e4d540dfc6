/** A guest image's folder for tests that boot nothing: right by its manifest, empty of meaning. */

import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export function writeFakeImage(directory: string): string {
  mkdirSync(directory, { recursive: true });
  const files: Record<string, string> = {};
  for (const name of ['vmlinux', 'initramfs', 'root.erofs']) {
    const octets = Buffer.from(`the ${name} of a fake`);
    writeFileSync(join(directory, name), octets);
    files[name] = createHash('sha256').update(octets).digest('hex');
  }
  const manifest = { id: 'fake', arch: 'amd64', kernel: '6.12', docker: '26.1', files };
  writeFileSync(join(directory, 'manifest.json'), JSON.stringify(manifest));
  return directory;
}
