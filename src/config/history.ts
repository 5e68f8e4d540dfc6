/** The graph of commits: common ancestors, and history in order. */

import type { CommitRecord } from './database.ts';
import { EMPTY_TREE } from './git-object.ts';
import { mergeTrees } from './merge.ts';
import type { ObjectReader, Objects } from './objects.ts';

const OURS = 1;
const THEIRS = 2;
const STALE = 4;

/** The best common ancestors of two commits: those that are no ancestor of another one. */
export async function mergeBases(objects: ObjectReader, ours: string, theirs: string): Promise<string[]> {
  if (ours === theirs) return [ours];
  const marks = new Map<string, number>();
  const queue: CommitRecord[] = [];
  const mark = async (id: string, flags: number): Promise<void> => {
    const before = marks.get(id) ?? 0;
    if ((before | flags) === before) return;
    marks.set(id, before | flags);
    insert(queue, await objects.commit(id));
  };
  await mark(ours, OURS);
  await mark(theirs, THEIRS);
  const found = new Set<string>();
  while (queue.some(({ id }) => (marks.get(id)! & STALE) === 0)) {
    const commit = queue.pop()!;
    let flags = marks.get(commit.id)!;
    if ((flags & (OURS | THEIRS)) === (OURS | THEIRS)) {
      if ((flags & STALE) === 0) found.add(commit.id);
      flags |= STALE;
    }
    for (const parent of commit.parents) await mark(parent, flags);
  }
  const best = (): string[] => [...found].filter((id) => (marks.get(id)! & STALE) === 0);
  if (best().length < 2) return best();
  // Clocks that ran backwards may have left one that is an ancestor of another: that is told to all of the rest.
  for (let commit = queue.pop(); commit; commit = queue.pop())
    for (const parent of commit.parents) await mark(parent, marks.get(commit.id)!);
  return best();
}

export async function isAncestor(objects: ObjectReader, ancestor: string, descendant: string): Promise<boolean> {
  return (await mergeBases(objects, ancestor, descendant)).includes(ancestor);
}

/**
 * The tree to merge two commits against; where they have several best ancestors, those merged in turn, as git does.
 * `known`: by both commits, as the ways through a history that crosses itself again and again are too many.
 */
export async function baseTree(
  objects: Objects,
  ours: string,
  theirs: string,
  known = new Map<string, string>(),
): Promise<string> {
  const key = `${ours} ${theirs}`;
  const before = known.get(key);
  if (before !== undefined) return before;
  const [first, ...more] = await mergeBases(objects, ours, theirs);
  if (first === undefined) return EMPTY_TREE;
  let tree = (await objects.commit(first)).tree;
  for (const other of more) {
    const base = await baseTree(objects, first, other, known);
    tree = (await mergeTrees(objects, base, tree, (await objects.commit(other)).tree)).tree;
  }
  known.set(key, tree);
  return tree;
}

/** A commit and all before it, newest first. */
export async function* history(objects: ObjectReader, start: string): AsyncGenerator<CommitRecord> {
  const seen = new Set([start]);
  const queue = [await objects.commit(start)];
  while (queue.length > 0) {
    const commit = queue.pop()!;
    yield commit;
    for (const parent of commit.parents) {
      if (seen.has(parent)) continue;
      seen.add(parent);
      insert(queue, await objects.commit(parent));
    }
  }
}

/** Keeps `queue` in order of time, the newest last. */
function insert(queue: CommitRecord[], commit: CommitRecord): void {
  if (queue.includes(commit)) return;
  const at = queue.findLastIndex(({ timeMs }) => timeMs < commit.timeMs);
  queue.splice(at + 1, 0, commit);
}
