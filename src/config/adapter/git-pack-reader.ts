/**
 * Objects from packs, through isomorphic-git (indexes, deltas and all). It asks the file system for the list of packs
 * and for a loose object before each read; here the list is kept, and a loose object has been looked for already.
 */

import fs from 'node:fs';
import { basename, dirname } from 'node:path';
import { readObject } from 'isomorphic-git';
import type { ObjectType } from '../git-object.ts';
import { errorCode } from './durable-files.ts';

export class GitPackReader {
  readonly #directory: string;
  readonly #files: { promises: typeof fs.promises };
  /** Names in objects/pack; undefined: to be read anew. */
  #names: string[] | undefined;
  /** What isomorphic-git keeps of each pack that it has read. */
  #kept: object = {};

  /** `directory`: of the bare repository. */
  constructor(directory: string) {
    this.#directory = directory;
    const readFile = async (path: string, options: object): Promise<Buffer | string> => {
      if (basename(dirname(path)).length === 2) throw Object.assign(new Error('no loose object'), { code: 'ENOENT' });
      return fs.promises.readFile(path, options);
    };
    const readdir = async (path: string): Promise<string[]> => {
      this.#names ??= await fs.promises.readdir(path);
      return this.#names;
    };
    this.#files = { promises: { ...fs.promises, readFile, readdir } as unknown as typeof fs.promises };
  }

  /** Undefined: no pack has it. Rejects when a pack is damaged. */
  async read(hash: string): Promise<{ type: ObjectType; content: Uint8Array } | undefined> {
    for (let attempt = 0; ; attempt++) {
      const before = this.#names;
      try {
        const { promises } = this.#files;
        const options = { fs: { promises }, gitdir: this.#directory, oid: hash, cache: this.#kept };
        const found = await readObject({ ...options, format: 'content' });
        return { type: found.type as ObjectType, content: found.object as Uint8Array };
      } catch (error) {
        const absent = errorCode(error) === 'NotFoundError';
        this.listAnew();
        if (absent) {
          // Packs are named by what they hold: only one that is new may have it.
          const now = await fs.promises.readdir(`${this.#directory}/objects/pack`);
          if (before && now.every((name) => before.includes(name))) return undefined;
          if (!before) return undefined;
        } else if (attempt < 3) this.#kept = {};
        else throw error;
      }
    }
  }

  /** To be told that packs have come. */
  listAnew(): void {
    this.#names = undefined;
  }

  /** To be told that packs have gone as well. */
  forget(): void {
    this.#names = undefined;
    this.#kept = {};
  }
}
