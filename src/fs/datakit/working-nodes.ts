/** A transaction's `rw`: its working copy as directories and files to write. */

import type { FileMode, Transaction, TreeEntry } from '../../config/database.ts';
import { FileError } from '../ninep/file-error.ts';
import {
  type AttributeChange,
  childId,
  type DirectoryNode,
  type Eventually,
  type FileNode,
  type FsNode,
  type LinkNode,
  type OpenMode,
} from '../ninep/node.ts';
import { ifThere } from './database-refusal.ts';
import { joinPath } from './tree-nodes.ts';

const decoder = new TextDecoder();
/** What a file or directory costs in memory beside its content. */
const ENTRY_OCTETS = 256;

export interface WorkingLimits {
  readonly fileOctets: number;
  /** All that the open transactions of one connection hold: what was written, and the objects made of it. */
  readonly writtenOctets: number;
}

/** What the nodes of one transaction share. */
export class WorkingCopy {
  readonly transaction: Transaction;
  readonly #limits: WorkingLimits;
  readonly #heldByAll: () => number;
  #written = 0;
  /** Files whose whole content is counted: what is changed of one that was there before is kept whole as well. */
  readonly #counted = new Set<string>();

  /** `heldByAll`: what this and the connection's other transactions hold. */
  constructor(transaction: Transaction, limits: WorkingLimits, heldByAll: () => number) {
    this.transaction = transaction;
    this.#limits = limits;
    this.#heldByAll = heldByAll;
  }

  get heldOctets(): number {
    return this.#written + this.transaction.heldOctets;
  }

  /** Before more is kept. */
  checkRoom(added = 0): void {
    if (this.#heldByAll() + added > this.#limits.writtenOctets)
      throw new FileError('ENOSPC', 'the transaction has had too much written to it');
  }

  root(id: bigint): DirectoryNode {
    return new WorkingDirectory(this, id, '');
  }

  node(id: bigint, path: string, kind: TreeEntry['kind']): FsNode {
    if (kind === 'directory') return new WorkingDirectory(this, id, path);
    return kind === 'link' ? new WorkingLink(this, id, path) : new WorkingFile(this, id, path);
  }

  async entry(path: string): Promise<TreeEntry> {
    const entry = await ifThere(this.transaction.entry(path));
    if (!entry) throw new FileError('ENOENT');
    return entry;
  }

  async octets(path: string): Promise<Uint8Array> {
    const octets = await ifThere(this.transaction.read(path));
    if (!octets) throw new FileError('ENOENT');
    return octets;
  }

  async write(path: string, octets: Uint8Array | string, added: number, mode?: FileMode): Promise<void> {
    if (octets.length > this.#limits.fileOctets) throw new FileError('EFBIG');
    const more = this.#counted.has(path) ? added : ENTRY_OCTETS + path.length + octets.length;
    this.checkRoom(more);
    await this.transaction.write(path, octets, mode);
    this.#counted.add(path);
    this.#written += more;
  }

  async makeDirectory(path: string, added: number): Promise<void> {
    this.checkRoom(added);
    await this.transaction.makeDirectory(path);
    this.#written += added;
  }

  async resize(path: string, sizeOctets: number): Promise<void> {
    if (sizeOctets > this.#limits.fileOctets) throw new FileError('EFBIG');
    const old = await this.octets(path);
    const whole = new Uint8Array(sizeOctets);
    whole.set(old.subarray(0, sizeOctets));
    await this.write(path, whole, Math.max(0, sizeOctets - old.length));
  }
}

class WorkingDirectory implements DirectoryNode {
  readonly kind = 'directory';
  readonly id: bigint;
  readonly #copy: WorkingCopy;
  readonly #path: string;

  constructor(copy: WorkingCopy, id: bigint, path: string) {
    this.#copy = copy;
    this.id = id;
    this.#path = path;
  }

  #child(name: string, kind: TreeEntry['kind']): FsNode {
    return this.#copy.node(childId(this.id, name), joinPath(this.#path, name), kind);
  }

  async attributes() {
    if (this.#path !== '') await this.#copy.entry(this.#path);
    return { mode: 0o755, sizeOctets: 0, modifiedMs: 0, version: 0 };
  }

  /** Directories have no modes in git: what cp and tar set is let pass. */
  change(): void {}

  async lookup(name: string): Promise<FsNode | undefined> {
    const entry = await ifThere(this.#copy.transaction.entry(joinPath(this.#path, name)));
    return entry && this.#child(name, entry.kind);
  }

  async list() {
    const entries = await ifThere(this.#copy.transaction.list(this.#path));
    if (!entries) throw new FileError('ENOENT');
    return entries.map(({ name, kind }) => ({ name, node: this.#child(name, kind) }));
  }

  async createFile(name: string, mode: number): Promise<FileNode> {
    const added = ENTRY_OCTETS + name.length;
    await this.#copy.write(joinPath(this.#path, name), '', added, (mode & 0o111) === 0 ? 'normal' : 'exec');
    return this.#child(name, 'normal') as FileNode;
  }

  async createDirectory(name: string): Promise<DirectoryNode> {
    await this.#copy.makeDirectory(joinPath(this.#path, name), ENTRY_OCTETS + name.length);
    return this.#child(name, 'directory') as DirectoryNode;
  }

  async createLink(name: string, target: string): Promise<LinkNode> {
    await this.#copy.write(joinPath(this.#path, name), target, ENTRY_OCTETS + target.length, 'link');
    return this.#child(name, 'link') as LinkNode;
  }

  async remove(name: string): Promise<void> {
    const path = joinPath(this.#path, name);
    const entry = await this.#copy.entry(path);
    if (entry.kind === 'directory' && ((await this.#copy.transaction.list(path)) ?? []).length > 0)
      throw new FileError('ENOTEMPTY');
    await this.#copy.transaction.remove(path);
  }

  async rename(name: string, to: DirectoryNode, newName: string): Promise<void> {
    if (!(to instanceof WorkingDirectory) || to.#copy !== this.#copy) throw new FileError('EXDEV');
    await this.#copy.transaction.rename(joinPath(this.#path, name), joinPath(to.#path, newName));
  }
}

/** What has octets: a file, or a link, whose octets are its target. */
class WorkingContent {
  readonly id: bigint;
  protected readonly copy: WorkingCopy;
  protected readonly path: string;

  constructor(copy: WorkingCopy, id: bigint, path: string) {
    this.copy = copy;
    this.id = id;
    this.path = path;
  }

  protected octets(): Promise<Uint8Array> {
    return this.copy.octets(this.path);
  }
}

class WorkingFile extends WorkingContent implements FileNode {
  readonly kind = 'file';

  async attributes() {
    const { kind } = await this.copy.entry(this.path);
    const { length } = await this.octets();
    return { mode: kind === 'exec' ? 0o755 : 0o644, sizeOctets: length, modifiedMs: 0, version: 0 };
  }

  async change({ mode, sizeOctets }: AttributeChange): Promise<void> {
    if (sizeOctets !== undefined) await this.copy.resize(this.path, sizeOctets);
    if (mode === undefined) return;
    const wanted: FileMode = (mode & 0o111) === 0 ? 'normal' : 'exec';
    if ((await this.copy.entry(this.path)).kind !== wanted) await this.copy.transaction.setMode(this.path, wanted);
  }

  async open({ truncate }: OpenMode) {
    if (truncate) await this.copy.resize(this.path, 0);
    return {
      read: async (offset: number, count: number) => (await this.octets()).subarray(offset, offset + count),
      write: (offset: number, data: Uint8Array) => this.#write(offset, data),
    };
  }

  async #write(offset: number, data: Uint8Array): Promise<number> {
    const old = await this.octets();
    const end = offset + data.length;
    if (end > old.length) {
      // Refused before it is made.
      if (end > 2 ** 30) throw new FileError('EFBIG');
      const whole = new Uint8Array(end);
      whole.set(old);
      whole.set(data, offset);
      await this.copy.write(this.path, whole, end - old.length);
      return data.length;
    }
    old.set(data, offset);
    await this.copy.write(this.path, old, 0);
    return data.length;
  }
}

class WorkingLink extends WorkingContent implements LinkNode {
  readonly kind = 'link';

  async attributes() {
    return { mode: 0o777, sizeOctets: (await this.octets()).length, modifiedMs: 0, version: 0 };
  }

  change(): Eventually<void> {}

  async target(): Promise<string> {
    return decoder.decode(await this.octets());
  }
}
