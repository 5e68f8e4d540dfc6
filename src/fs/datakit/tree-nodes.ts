/** An immutable tree of the database as read-only directories: `ro`, snapshots, `/trees`, and a merge's sides. */

import type { Tree, TreeEntry } from '../../config/database.ts';
import { FileError } from '../ninep/file-error.ts';
import {
  childId,
  type DirectoryNode,
  type FileNode,
  type FsNode,
  type LinkNode,
  type OpenFile,
} from '../ninep/node.ts';
import { ifThere } from './database-refusal.ts';

/** What `ro` shows now; undefined: nothing, an empty directory. */
export type TreeSource = () => Promise<{ readonly tree: Tree; readonly timeMs: number } | undefined>;

export const joinPath = (path: string, name: string): string => (path === '' ? name : `${path}/${name}`);

const decoder = new TextDecoder();

/** A qid's version for content of that hash. */
const versionOf = (hash: string): number => Number.parseInt(hash.slice(0, 8), 16) || 1;

export function fixedOctets(octets: Uint8Array): OpenFile {
  return {
    read: (offset, count) => octets.subarray(offset, offset + count),
    write: () => {
      throw new FileError('EROFS');
    },
  };
}

class TreeNodes {
  readonly #source: TreeSource;

  constructor(source: TreeSource) {
    this.#source = source;
  }

  async #entry(path: string): Promise<{ entry: TreeEntry; tree: Tree; timeMs: number }> {
    const source = await this.#source();
    const entry = source && (await ifThere(source.tree.entry(path)));
    if (!source || !entry) throw new FileError('ENOENT');
    return { entry, ...source };
  }

  async #octets(path: string): Promise<Uint8Array> {
    const octets = await (await this.#source())?.tree.read(path);
    if (!octets) throw new FileError('ENOENT');
    return octets;
  }

  node(id: bigint, path: string, kind: TreeEntry['kind']): FsNode {
    if (kind === 'directory') return this.directory(id, path);
    return kind === 'link' ? this.#link(id, path) : this.#file(id, path);
  }

  directory(id: bigint, path: string): DirectoryNode {
    return {
      kind: 'directory',
      id,
      attributes: async () => {
        const timeMs = path === '' ? ((await this.#source())?.timeMs ?? 0) : (await this.#entry(path)).timeMs;
        return { mode: 0o555, sizeOctets: 0, modifiedMs: timeMs, version: 0 };
      },
      lookup: async (name) => {
        const source = await this.#source();
        const entry = source && (await ifThere(source.tree.entry(joinPath(path, name))));
        return entry && this.node(childId(id, name), joinPath(path, name), entry.kind);
      },
      list: async () => {
        const entries = await (await this.#source())?.tree.list(path);
        if (!entries && path !== '') throw new FileError('ENOENT');
        return (entries ?? []).map(({ name, kind }) => ({
          name,
          node: this.node(childId(id, name), joinPath(path, name), kind),
        }));
      },
    };
  }

  #file(id: bigint, path: string): FileNode {
    return {
      kind: 'file',
      id,
      attributes: async () => {
        const { entry, timeMs } = await this.#entry(path);
        const { length } = await this.#octets(path);
        const mode = entry.kind === 'exec' ? 0o555 : 0o444;
        return { mode, sizeOctets: length, modifiedMs: timeMs, version: versionOf(entry.hash) };
      },
      open: async ({ write, truncate }) => {
        if (write || truncate) throw new FileError('EROFS');
        return fixedOctets(await this.#octets(path));
      },
    };
  }

  #link(id: bigint, path: string): LinkNode {
    return {
      kind: 'link',
      id,
      attributes: async () => {
        const { timeMs, entry } = await this.#entry(path);
        const { length } = await this.#octets(path);
        return { mode: 0o777, sizeOctets: length, modifiedMs: timeMs, version: versionOf(entry.hash) };
      },
      target: async () => decoder.decode(await this.#octets(path)),
    };
  }
}

/** A live view of a tree. */
export function treeDirectory(id: bigint, source: TreeSource): DirectoryNode {
  return new TreeNodes(source).directory(id, '');
}

export function fixedTree(id: bigint, tree: Tree, timeMs = 0): DirectoryNode {
  return treeDirectory(id, async () => ({ tree, timeMs }));
}
