/**
 * Many small packs made one, as every group of commits makes a pack of its own. Entries are copied as they are, checked by
 * their sums; then the packs that they come from are removed, the index first, which is how git itself does it: whoever has
 * looked an object up in one of them looks again. Two may do so at once, and git beside them: each removes only what lies
 * in a pack that it has made itself.
 */

import { readFileSync } from 'node:fs';
import { readdir, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { crc32 } from 'node:zlib';
import { errorCode, FreshFiles, syncFolder } from './durable-files.ts';
import { PackIndex } from './git-pack-index.ts';
import { type PackedEntry, packOf } from './git-pack-writer.ts';
import { pendingPath } from './pending-files.ts';

/** Larger packs are left to git. */
const SMALL_OCTETS = 512 * 1024;
/** What is joined in one go, on the thread that moves frames: a few milliseconds. */
const AT_ONCE_OCTETS = 2 * 1024 * 1024;
/** Of the packs' own ends: the sum of all before it. */
const CHECKSUM_OCTETS = 20;
const DELTA_BY_OFFSET = 6;

/** Joins small packs of the bare repository `directory`, when there are more than `most`. */
export async function joinPacks(directory: string, most: number): Promise<void> {
  const folder = join(directory, 'objects', 'pack');
  const small = await smallPacks(folder);
  if (small.length <= most) return;
  const entries = new Map<string, PackedEntry>();
  const joined: string[] = [];
  let octets = 0;
  for (const { name, sizeOctets } of small) {
    octets += sizeOctets;
    if (octets > AT_ONCE_OCTETS) break;
    // Read here, as another thread takes longer to be asked than to read so little; commits come between.
    await nextTurn();
    const found = entriesOf(join(folder, name));
    if (!found) continue;
    for (const entry of found) entries.set(entry.hash, entry);
    joined.push(name);
  }
  if (joined.length < 2) return;
  const made = packOf([...entries.values()]);
  const name = `pack-${made.name}`;
  const files = new FreshFiles();
  const pending = join(directory, 'pending');
  const [pack, index] = [pendingPath(pending), pendingPath(pending)];
  files.add(pack, made.pack);
  files.add(index, made.index);
  await files.write();
  try {
    await rename(pack, join(folder, `${name}.pack`));
    await rename(index, join(folder, `${name}.idx`));
    await syncFolder(folder);
  } finally {
    files.remove();
  }
  for (const old of joined) {
    if (old === name) continue;
    // Handed to another thread: freeing a file may take the file system a millisecond.
    await unlink(join(folder, `${old}.idx`)).catch(unlessGone);
    await unlink(join(folder, `${old}.pack`)).catch(unlessGone);
  }
}

/** The smallest first; none that git has more to say of (`.keep`, `.mtimes`, `.promisor`). */
async function smallPacks(folder: string): Promise<{ name: string; sizeOctets: number }[]> {
  const kinds = new Map<string, Set<string>>();
  for (const file of await readdir(folder)) {
    const [, name, kind] = /^(pack-[0-9a-f]+)\.(.*)$/.exec(file) ?? [];
    if (name !== undefined && kind !== undefined) kinds.set(name, (kinds.get(name) ?? new Set()).add(kind));
  }
  const names = [...kinds].filter(([, of]) => of.size === 2 && of.has('pack') && of.has('idx')).map(([name]) => name);
  const sizes = await Promise.all(names.map((name) => stat(join(folder, `${name}.pack`)).then(({ size }) => size)));
  return names
    .map((name, i) => ({ name, sizeOctets: sizes[i]! }))
    .filter(({ sizeOctets }) => sizeOctets <= SMALL_OCTETS)
    .sort((a, b) => a.sizeOctets - b.sizeOctets);
}

/** Undefined: it cannot be taken apart. */
function entriesOf(path: string): PackedEntry[] | undefined {
  const pack = readFileSync(`${path}.pack`);
  const rows = PackIndex.open(`${path}.idx`)
    .rows()
    .sort((a, b) => a.offset - b.offset);
  const entries = rows.map(({ hash, offset, crc }, i) => {
    const end = rows[i + 1]?.offset ?? pack.length - CHECKSUM_OCTETS;
    return { hash, octets: pack.subarray(offset, end), crc };
  });
  const good = ({ octets, crc }: PackedEntry): boolean =>
    octets.length > 0 && ((octets[0]! >> 4) & 7) !== DELTA_BY_OFFSET && crc32(octets) === crc;
  return entries.every(good) ? entries : undefined;
}

function unlessGone(error: unknown): void {
  if (!wasOvertaken(error)) throw error;
}

/** Whether it is of what another one has removed meanwhile. */
export function wasOvertaken(error: unknown): boolean {
  return errorCode(error) === 'ENOENT';
}
