/**
 * DataKit's merge of two trees against their common ancestor: per path, of whole files. What one side alone changed
 * is taken, equal changes are one, a file that both changed differently is a conflict (octets and mode are looked at
 * apart). A file and a directory of one name that both want to stay are a conflict as well. Git's merge without
 * renames agrees wherever it would not splice lines.
 */

import { DIRECTORY, EMPTY_TREE, modeOf, type RawEntry } from './git-object.ts';
import type { ObjectReader, Objects } from './objects.ts';

export interface Merged {
  /** With the conflicts written out in their place. */
  readonly tree: string;
  /** Paths, sorted. */
  readonly conflicts: readonly string[];
}

type File = Pick<RawEntry, 'mode' | 'hash'> | undefined;

const BOTH_CHANGED = '** Conflict **\nChanged on both branches\n';
const FILE_AND_DIRECTORY = '** Conflict **\nFile vs dir\n';

export async function mergeTrees(objects: Objects, base: string, ours: string, theirs: string): Promise<Merged> {
  const conflicts: string[] = [];
  const conflict = (path: string, why: string): File => {
    conflicts.push(path);
    return { mode: modeOf.normal, hash: objects.addBlob(new TextEncoder().encode(why)) };
  };

  async function directories(path: string, base: string, ours: string, theirs: string): Promise<string> {
    if (ours === theirs || base === theirs) return ours;
    if (base === ours) return theirs;
    const [b, o, t] = await Promise.all([base, ours, theirs].map((hash) => load(objects, hash)));
    const merged: RawEntry[] = [];
    for (const name of new Set([...o!.keys(), ...t!.keys()])) {
      const below = path === '' ? name : `${path}/${name}`;
      const sides = [b!.get(name), o!.get(name), t!.get(name)] as const;
      const [baseTree, ourTree, theirTree] = sides.map(treeOf) as [string, string, string];
      let file = mergeFile(...(sides.map(fileOf) as [File, File, File]));
      const noted = conflicts.length;
      const tree = await directories(below, baseTree, ourTree, theirTree);
      if (file !== undefined && tree !== EMPTY_TREE) {
        conflicts.length = noted;
        file = conflict(below, FILE_AND_DIRECTORY);
      } else if (file === 'conflict') file = conflict(below, BOTH_CHANGED);
      if (file !== undefined) merged.push({ name, ...(file as NonNullable<File>) });
      else if (tree !== EMPTY_TREE) merged.push({ name, mode: DIRECTORY, hash: tree });
    }
    return merged.length === 0 ? EMPTY_TREE : objects.addTree(merged);
  }

  const tree = await directories('', base, ours, theirs);
  return { tree, conflicts: conflicts.sort() };
}

function mergeFile(base: File, ours: File, theirs: File): File | 'conflict' {
  if (same(ours, theirs) || same(base, theirs)) return ours;
  if (same(base, ours)) return theirs;
  if (!ours || !theirs) return 'conflict';
  const mode = choose(base?.mode, ours.mode, theirs.mode);
  const hash = choose(base?.hash, ours.hash, theirs.hash);
  return mode !== undefined && hash !== undefined ? { mode, hash } : 'conflict';
}

function choose(base: string | undefined, ours: string, theirs: string): string | undefined {
  if (ours === theirs || base === theirs) return ours;
  return base === ours ? theirs : undefined;
}

function same(a: File, b: File): boolean {
  return a?.hash === b?.hash && a?.mode === b?.mode;
}

function fileOf(entry: RawEntry | undefined): File {
  return entry && entry.mode !== DIRECTORY ? { mode: entry.mode, hash: entry.hash } : undefined;
}

function treeOf(entry: RawEntry | undefined): string {
  return entry?.mode === DIRECTORY ? entry.hash : EMPTY_TREE;
}

async function load(objects: ObjectReader, hash: string): Promise<Map<string, RawEntry>> {
  const entries = hash === EMPTY_TREE ? [] : await objects.tree(hash);
  return new Map(entries.map((entry) => [entry.name, entry]));
}
