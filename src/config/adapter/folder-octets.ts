/** What a folder takes on the disk. */

import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Of a file, however small. */
const BLOCK_OCTETS = 4096;

/** With all below it; once it is more than `limit`, no more is looked at. What goes meanwhile is not counted. */
export async function folderOctets(folder: string, limit: number): Promise<number> {
  let octets = 0;
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) octets += await folderOctets(path, limit - octets);
    else
      octets += await stat(path).then(
        ({ size }) => Math.max(size, BLOCK_OCTETS),
        () => 0,
      );
    if (octets > limit) break;
  }
  return octets;
}
