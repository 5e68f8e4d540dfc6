/** What is known by its hash: `/snapshots/COMMIT`, `/commits/COMMIT`, `/trees/{D,F,X,L}-HASH`, and `diff/COMMIT`. */

import type { Database, DiffLine } from '../../config/database.ts';
import type { DirectoryNode, FileNode, FsNode, LinkNode } from '../ninep/node.ts';
import { fixedDirectory, hiddenDirectory, textFile } from '../ninep/static-nodes.ts';
import { ifThere } from './database-refusal.ts';
import { fixedTree } from './tree-nodes.ts';

const HASH = /^[0-9a-f]{40}$/;

export const lines = (items: readonly string[]): string => items.map((item) => `${item}\n`).join('');

const diffText = (changes: readonly DiffLine[]): string => lines(changes.map(({ kind, path }) => `${kind} ${path}`));

/** `diff`: lists nothing, and has a file for each commit. */
export function diffDirectory(id: bigint, diff: (commit: string) => Promise<readonly DiffLine[]>): DirectoryNode {
  return hiddenDirectory(id, async (commit, childId) => {
    if (!HASH.test(commit)) return undefined;
    const changes = await ifThere(diff(commit));
    return changes && textFile(childId, async () => diffText(await diff(commit)));
  });
}

export function snapshots(id: bigint, database: Database): DirectoryNode {
  return hiddenDirectory(id, async (commit, childId) => {
    const record = HASH.test(commit) ? await ifThere(database.commitRecord(commit)) : undefined;
    if (!record) return undefined;
    const tree = await database.tree(record.tree);
    return fixedDirectory(childId, {
      ro: (id) => fixedTree(id, tree, record.timeMs),
      hash: (id) => textFile(id, () => `${commit}\n`),
      msg: (id) => textFile(id, () => `${record.message}\n`),
      parents: (id) => textFile(id, () => lines(record.parents)),
      diff: (id) => diffDirectory(id, (from) => database.diff(from, commit)),
    });
  });
}

export function commits(id: bigint, database: Database): DirectoryNode {
  return hiddenDirectory(id, async (commit, childId) => {
    const record = HASH.test(commit) ? await ifThere(database.commitRecord(commit)) : undefined;
    return record && textFile(childId, () => `${JSON.stringify(record)}\n`);
  });
}

export function trees(id: bigint, database: Database): DirectoryNode {
  return hiddenDirectory(id, async (name, childId) => {
    const [, letter, hash = ''] = /^([DFXL])-([0-9a-f]{40})$/.exec(name) ?? [];
    if (letter === 'D') {
      const tree = await ifThere(database.tree(hash));
      return tree && fixedTree(childId, tree);
    }
    const octets = letter === undefined ? undefined : await ifThere(database.blob(hash));
    return octets && blobNode(childId, octets, letter!);
  });
}

function blobNode(id: bigint, octets: Uint8Array, letter: string): FsNode {
  const attributes = (mode: number) => () => ({ mode, sizeOctets: octets.length, modifiedMs: 0, version: 1 });
  if (letter === 'L')
    return {
      kind: 'link',
      id,
      attributes: attributes(0o777),
      target: () => new TextDecoder().decode(octets),
    } satisfies LinkNode;
  const file = textFile(id, () => octets);
  return {
    ...file,
    attributes: attributes(letter === 'X' ? 0o555 : 0o444),
    open: (mode) => file.open(mode),
  } satisfies FileNode;
}
