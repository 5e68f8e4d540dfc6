/** A writable tree in memory, for tests of the 9P server. */

import { FileError } from '../../../src/fs/ninep/file-error.ts';
import { LineStream } from '../../../src/fs/ninep/line-stream.ts';
import {
  childId,
  type DirectoryNode,
  type FileNode,
  type FsNode,
  type LinkNode,
  rootId,
} from '../../../src/fs/ninep/node.ts';

export class MemoryFile implements FileNode {
  readonly kind = 'file';
  readonly id: bigint;
  content: Uint8Array = new Uint8Array(0);
  mode: number;
  opens = 0;

  constructor(id: bigint, mode: number) {
    this.id = id;
    this.mode = mode;
  }

  get text(): string {
    return new TextDecoder().decode(this.content);
  }

  attributes() {
    return { mode: this.mode, sizeOctets: this.content.length, modifiedMs: 1_700_000_000_500, version: 7 };
  }

  change(change: { mode?: number; sizeOctets?: number }): void {
    if (change.mode !== undefined) this.mode = change.mode;
    if (change.sizeOctets !== undefined) this.#resize(change.sizeOctets);
  }

  #resize(octets: number): void {
    const content = new Uint8Array(octets);
    content.set(this.content.subarray(0, octets));
    this.content = content;
  }

  open({ truncate }: { truncate: boolean }) {
    if (truncate) this.#resize(0);
    this.opens++;
    return {
      read: (offset: number, count: number) => this.content.subarray(offset, offset + count),
      write: async (offset: number, data: Uint8Array) => {
        await undefined;
        if (offset + data.length > 1_000_000) throw new FileError('EFBIG');
        if (offset + data.length > this.content.length) this.#resize(offset + data.length);
        this.content.set(data, offset);
        return data.length;
      },
      close: () => {
        this.opens--;
      },
    };
  }
}

/** A file whose reads wait until `publish`. */
export class MemoryStream implements FileNode {
  readonly kind = 'file';
  readonly id: bigint;
  readonly open_ = new Set<LineStream>();

  constructor(id: bigint) {
    this.id = id;
  }

  attributes() {
    return { mode: 0o444, sizeOctets: 0, modifiedMs: 0, version: 0 };
  }

  open(): LineStream {
    const stream: LineStream = new LineStream('all', () => this.open_.delete(stream));
    this.open_.add(stream);
    return stream;
  }

  publish(line: string): void {
    for (const stream of this.open_) stream.publish(line);
  }
}

export class MemoryLink implements LinkNode {
  readonly kind = 'link';
  readonly id: bigint;
  readonly #target: string;

  constructor(id: bigint, target: string) {
    this.id = id;
    this.#target = target;
  }

  attributes() {
    return { mode: 0o777, sizeOctets: this.#target.length, modifiedMs: 0, version: 0 };
  }

  target(): string {
    return this.#target;
  }
}

export class MemoryDirectory implements DirectoryNode {
  readonly kind = 'directory';
  readonly id: bigint;
  readonly children = new Map<string, FsNode>();

  constructor(id: bigint = rootId) {
    this.id = id;
  }

  attributes() {
    return { mode: 0o755, sizeOctets: 0, modifiedMs: 0, version: 0 };
  }

  async lookup(name: string): Promise<FsNode | undefined> {
    await undefined;
    return this.children.get(name);
  }

  list() {
    return [...this.children].map(([name, node]) => ({ name, node }));
  }

  add<N extends FsNode>(name: string, make: (id: bigint) => N): N {
    const node = make(childId(this.id, `${name}#${this.children.size}`));
    this.children.set(name, node);
    return node;
  }

  createFile(name: string, mode: number): MemoryFile {
    return this.add(name, (id) => new MemoryFile(id, mode));
  }

  createDirectory(name: string): MemoryDirectory {
    return this.add(name, (id) => new MemoryDirectory(id));
  }

  createLink(name: string, target: string): MemoryLink {
    return this.add(name, (id) => new MemoryLink(id, target));
  }

  remove(name: string): void {
    const node = this.children.get(name);
    if (!node) throw new FileError('ENOENT');
    if (node instanceof MemoryDirectory && node.children.size > 0) throw new FileError('ENOTEMPTY');
    this.children.delete(name);
  }

  rename(name: string, to: DirectoryNode, newName: string): void {
    const node = this.children.get(name);
    if (!node || !(to instanceof MemoryDirectory)) throw new FileError('ENOENT');
    this.children.delete(name);
    to.children.set(newName, node);
  }
}
