/** A git tree as an immutable tree of files. */

import type { Tree, TreeEntry } from './database.ts';
import { DIRECTORY, kindOf, type RawEntry } from './git-object.ts';
import type { ObjectReader } from './objects.ts';
import { splitPath } from './path.ts';

export class TreeView implements Tree {
  readonly hash: string;
  readonly #objects: ObjectReader;

  constructor(objects: ObjectReader, hash: string) {
    this.#objects = objects;
    this.hash = hash;
  }

  async entry(path: string): Promise<TreeEntry | undefined> {
    const found = await this.#find(path);
    return found && visible(found);
  }

  async list(path: string): Promise<readonly TreeEntry[] | undefined> {
    const found = await this.#find(path);
    if (found?.mode !== DIRECTORY) return undefined;
    const entries = (await this.#objects.tree(found.hash)).map(visible);
    return entries.filter((entry) => entry !== undefined).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async read(path: string): Promise<Uint8Array | undefined> {
    const entry = await this.entry(path);
    if (!entry || entry.kind === 'directory') return undefined;
    return (await this.#objects.blob(entry.hash)).slice();
  }

  async #find(path: string): Promise<RawEntry | undefined> {
    let found: RawEntry = { name: '', mode: DIRECTORY, hash: this.hash };
    for (const name of splitPath(path)) {
      if (found.mode !== DIRECTORY) return undefined;
      const entries = await this.#objects.tree(found.hash);
      const next = entries.find((entry) => entry.name === name);
      if (!next) return undefined;
      found = next;
    }
    return found;
  }
}

function visible({ name, mode, hash }: RawEntry): TreeEntry | undefined {
  const kind = kindOf(mode);
  return kind && { name, kind, hash };
}
