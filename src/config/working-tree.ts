/**
 * A tree of files that can be changed: directories are read when first entered, files hold new octets until `store`
 * makes blobs and trees of them. Empty directories are remembered here and left out there, as git has none.
 *
 * Whatever has to be read is awaited first; a change and the forgetting of the hashes above it are one step, so that
 * operations may overlap.
 */

import { type Change, DatabaseError, type FileMode, type TreeEntry } from './database.ts';
import { DIRECTORY, EMPTY_TREE, kindOf, modeOf, type RawEntry } from './git-object.ts';
import type { Objects } from './objects.ts';
import { checkDepth, splitPath } from './path.ts';

interface FileNode {
  readonly mode: string;
  /** Known, or made from `content` when first asked for. */
  hash: string | undefined;
  readonly content: Uint8Array | undefined;
}

/** `entries` once it has been entered, `hash` while nothing below has changed. */
interface DirectoryNode {
  readonly mode: typeof DIRECTORY;
  hash: string | undefined;
  entries: Map<string, Node> | undefined;
}

type Node = FileNode | DirectoryNode;

const utf8 = new TextEncoder();

export class WorkingTree {
  readonly #objects: Objects;
  #root: DirectoryNode;

  constructor(objects: Objects, hash: string = EMPTY_TREE) {
    this.#objects = objects;
    this.#root = directory(hash);
  }

  /** Forgets everything for another tree. */
  reset(hash: string): void {
    this.#root = directory(hash);
  }

  async entry(path: string): Promise<TreeEntry | undefined> {
    const names = splitPath(path);
    const node = await this.#find(names);
    return node && this.#describe(names.at(-1) ?? '', node);
  }

  async list(path: string): Promise<readonly TreeEntry[] | undefined> {
    const node = await this.#find(splitPath(path));
    if (!node || !isDirectory(node)) return undefined;
    const names = [...(await this.#open(node)).entries()].sort(([a], [b]) => (a < b ? -1 : 1));
    return names.map(([name, child]) => this.#describe(name, child)).filter((entry) => entry !== undefined);
  }

  async read(path: string): Promise<Uint8Array | undefined> {
    const node = await this.#find(splitPath(path));
    if (!node || isDirectory(node) || kindOf(node.mode) === undefined) return undefined;
    return (node.content ?? (await this.#objects.blob(node.hash!))).slice();
  }

  async write(path: string, content: Uint8Array | string, mode?: FileMode): Promise<void> {
    const octets = typeof content === 'string' ? utf8.encode(content) : content.slice();
    await this.#change(path, true, (entries, name, there) => {
      if (there && isDirectory(there)) throw isA(path, 'a directory');
      entries.set(name, file(mode ? modeOf[mode] : (there?.mode ?? modeOf.normal), octets));
    });
  }

  async setMode(path: string, mode: FileMode): Promise<void> {
    await this.#change(path, false, (entries, name, there) => {
      if (!there) throw absent(path);
      if (isDirectory(there)) throw isA(path, 'a directory');
      entries.set(name, { ...there, mode: modeOf[mode] });
    });
  }

  async makeDirectory(path: string): Promise<void> {
    await this.#change(path, true, (entries, name, there) => {
      if (there) throw new DatabaseError('EXISTS', `'${path}' is there already`);
      entries.set(name, emptyDirectory());
    });
  }

  async remove(path: string): Promise<void> {
    await this.#change(path, false, (entries, name) => {
      if (!entries.delete(name)) throw absent(path);
    });
  }

  async rename(from: string, to: string): Promise<void> {
    if (to.startsWith(`${from}/`) || from === '') throw new DatabaseError('INVALID', `'${from}' cannot move there`);
    const node = await this.#find(splitPath(from));
    if (!node) throw absent(from);
    if (to === from) return;
    const over = await this.#find(splitPath(to));
    if (over && isDirectory(over) && !(isDirectory(node) && (await this.#open(over)).size === 0))
      throw isA(to, 'a directory');
    if (over && !isDirectory(over) && isDirectory(node)) throw isA(to, 'a file');
    await this.#change(to, false, (entries, name) => entries.set(name, node));
    await this.remove(from);
  }

  /** Applies changes; where a file stands in the way of a directory or the reverse, the change wins. */
  async apply(changes: readonly Change[]): Promise<void> {
    for (const { path, content, mode } of changes) {
      const node = await this.#find(splitPath(path));
      if (content === undefined) {
        if (node) await this.remove(path);
        continue;
      }
      if (node && isDirectory(node) && path !== '') await this.remove(path);
      await this.#clearWay(path);
      await this.write(path, content, mode);
    }
  }

  /** Makes the objects that are not there yet; the tree's hash. */
  store(): string {
    return this.#store(this.#root);
  }

  /** A directory that was moved may lie deeper than a path goes. */
  #store(node: DirectoryNode, depth = 0): string {
    if (node.hash !== undefined) return node.hash;
    checkDepth(depth);
    const entries: RawEntry[] = [];
    for (const [name, child] of node.entries!) {
      const hash = isDirectory(child) ? this.#store(child, depth + 1) : this.#blob(child);
      if (hash !== EMPTY_TREE) entries.push({ name, mode: child.mode, hash });
    }
    node.hash = entries.length === 0 ? EMPTY_TREE : this.#objects.addTree(entries);
    return node.hash;
  }

  #blob(node: FileNode): string {
    node.hash ??= this.#objects.addBlob(node.content!);
    return node.hash;
  }

  #describe(name: string, node: Node): TreeEntry | undefined {
    const kind = kindOf(node.mode);
    if (!kind) return undefined;
    const hash = (): string => (isDirectory(node) ? this.#store(node) : this.#blob(node));
    // Objects are made, and then kept, for who wants the hash: most only look what is there.
    return {
      name,
      kind,
      get hash() {
        return hash();
      },
    };
  }

  async #open(node: DirectoryNode): Promise<Map<string, Node>> {
    if (!node.entries) {
      const entries = node.hash === EMPTY_TREE ? [] : await this.#objects.tree(node.hash!);
      // Two readers may have come here at once: the first map is the one that writes go to.
      node.entries ??= new Map(
        entries.map(({ name, mode, hash }) => [
          name,
          mode === DIRECTORY ? directory(hash) : { mode, hash, content: undefined },
        ]),
      );
    }
    return node.entries;
  }

  async #find(names: readonly string[]): Promise<Node | undefined> {
    let node: Node = this.#root;
    for (const name of names) {
      if (!isDirectory(node)) return undefined;
      const next = (await this.#open(node)).get(name);
      if (!next) return undefined;
      node = next;
    }
    return node;
  }

  /** Changes the directory that `path` is in; `make`: and makes what is missing above. */
  async #change(
    path: string,
    make: boolean,
    edit: (entries: Map<string, Node>, name: string, there: Node | undefined) => void,
  ): Promise<void> {
    const names = splitPath(path);
    const name = names.pop();
    if (name === undefined) throw isA('the root', 'a directory');
    let last = this.#root;
    const way = [last];
    for (const step of names) {
      const entries = await this.#open(last);
      const next = entries.get(step) ?? (make ? emptyDirectory() : undefined);
      if (!next) throw absent(path);
      if (!isDirectory(next)) throw new DatabaseError('INVALID', `'${path}': '${step}' is a file`);
      entries.set(step, next);
      way.push(next);
      last = next;
    }
    const entries = await this.#open(last);
    edit(entries, name, entries.get(name));
    for (const node of way) node.hash = undefined;
  }

  async #clearWay(path: string): Promise<void> {
    const names = splitPath(path);
    for (let depth = 1; depth < names.length; depth++) {
      const node = await this.#find(names.slice(0, depth));
      if (!node) return;
      if (!isDirectory(node)) return this.remove(names.slice(0, depth).join('/'));
    }
  }
}

function directory(hash: string): DirectoryNode {
  return { mode: DIRECTORY, hash, entries: undefined };
}

function emptyDirectory(): DirectoryNode {
  return { mode: DIRECTORY, hash: EMPTY_TREE, entries: new Map() };
}

function file(mode: string, content: Uint8Array): FileNode {
  return { mode, hash: undefined, content };
}

function isDirectory(node: Node): node is DirectoryNode {
  return node.mode === DIRECTORY;
}

function absent(path: string): DatabaseError {
  return new DatabaseError('NO-OBJECT', `there is no '${path}'`);
}

function isA(path: string, what: string): DatabaseError {
  return new DatabaseError('INVALID', `'${path}' is ${what}`);
}
