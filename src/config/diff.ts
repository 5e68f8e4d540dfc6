/** What differs between two trees, file by file; a changed mode counts. */

import type { DiffLine } from './database.ts';
import { DIRECTORY, EMPTY_TREE, type RawEntry } from './git-object.ts';
import type { ObjectReader } from './objects.ts';

export async function diffTrees(objects: ObjectReader, from: string, to: string): Promise<DiffLine[]> {
  const lines: DiffLine[] = [];

  async function directories(path: string, from: string, to: string): Promise<void> {
    if (from === to) return;
    const [a, b] = await Promise.all([entries(from), entries(to)]);
    for (const name of new Set([...a.keys(), ...b.keys()])) {
      const below = path === '' ? name : `${path}/${name}`;
      const [before, after] = [a.get(name), b.get(name)];
      const [wasFile, isFile] = [before, after].map((entry) => entry !== undefined && entry.mode !== DIRECTORY);
      if (wasFile && isFile) {
        if (before!.hash !== after!.hash || before!.mode !== after!.mode) lines.push({ kind: '*', path: below });
      } else if (wasFile) lines.push({ kind: '-', path: below });
      else if (isFile) lines.push({ kind: '+', path: below });
      await directories(below, treeOf(before), treeOf(after));
    }
  }

  async function entries(hash: string): Promise<Map<string, RawEntry>> {
    const list = hash === EMPTY_TREE ? [] : await objects.tree(hash);
    return new Map(list.map((entry) => [entry.name, entry]));
  }

  await directories('', from, to);
  return lines.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

function treeOf(entry: RawEntry | undefined): string {
  return entry?.mode === DIRECTORY ? entry.hash : EMPTY_TREE;
}
