/** A read-only, compressed file system image of a folder: the same octets for the same files. */

import { run } from './host-tools.ts';

/** `id` (32 hexadecimal digits) becomes the file system's UUID. Owners and dates of the files do not matter. */
export async function makeErofs(folder: string, out: string, id: string): Promise<void> {
  const uuid = id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  await run('mkfs.erofs', ['-zlz4hc', '-C16384', '-T1', `-U${uuid}`, '--all-root', '-x-1', '--quiet', out, folder]);
}
