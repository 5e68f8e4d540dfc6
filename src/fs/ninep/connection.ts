/** What the operations of one connection share: its dialect, its fids, and the tree they are in. */

import type { Cancellation } from './cancellation.ts';
import { type Dialect, HEADER_OCTETS, IO_HEADER_OCTETS, type Qid, QTDIR, QTFILE, QTSYMLINK } from './dialect.ts';
import { type Fid, FidTable, type Place } from './fid-table.ts';
import { FileError } from './file-error.ts';
import type { NinepLimits } from './limits.ts';
import type { LockTable } from './lock-table.ts';
import type { MessageOf, Reply, RequestKind } from './message.ts';
import type { DirectoryNode, Eventually, FsNode } from './node.ts';

/** Who a connection says it is; nothing is believed of it, as the socket's permissions are what guards it. */
export interface Identity {
  readonly uname: string;
  readonly uid: number | undefined;
  /** Which tree is wanted; '' for the one there is. */
  readonly aname: string;
}

/** To whom all files belong. */
export interface Owner {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** What one connection sees. */
export interface ConnectedTree {
  /** The root, for one attach; throws a FileError when it is refused. */
  attach(identity: Identity): Eventually<DirectoryNode>;
  /** The connection has ended, or begins anew. */
  close?(): void;
}

export interface Export {
  readonly owner: Owner;
  connect(): ConnectedTree;
  /** Tells what the tree's own errors mean. */
  explain?(thrown: unknown): FileError | undefined;
}

export type Handler<K extends RequestKind> = (
  connection: Connection,
  request: MessageOf<K>,
  cancellation: Cancellation,
) => Eventually<Reply>;
export type Handlers = { readonly [K in RequestKind]?: Handler<K> };

const NAME_OCTETS = 255;
const encoder = new TextEncoder();

export class Connection {
  readonly dialect: Dialect;
  readonly msize: number;
  readonly fids: FidTable;
  readonly locks: LockTable;
  readonly tree: ConnectedTree;
  readonly owner: Owner;
  readonly limits: NinepLimits;
  /** Directory entries that fids hold while they are read. */
  heldEntries = 0;

  constructor(served: Export, locks: LockTable, limits: NinepLimits, dialect: Dialect, msize: number) {
    this.tree = served.connect();
    this.owner = served.owner;
    this.locks = locks;
    this.limits = limits;
    this.dialect = dialect;
    this.msize = msize;
    this.fids = new FidTable(limits.fids);
  }

  /** The most data in one Rread or Twrite. */
  get iounit(): number {
    return this.msize - IO_HEADER_OCTETS;
  }

  /** How much of a read of `count` octets fits into a reply. */
  readCount(count: number): number {
    return Math.min(count, this.msize - HEADER_OCTETS - 4);
  }

  /** Links are plain files to a client that knows none. */
  qid(node: FsNode, version = 0): Qid {
    const link = node.kind === 'link' && this.dialect !== '9P2000';
    return { type: node.kind === 'directory' ? QTDIR : link ? QTSYMLINK : QTFILE, version, path: node.id };
  }

  directory(number: number): DirectoryNode {
    const { node } = this.fids.get(number).place;
    if (node.kind !== 'directory') throw new FileError('ENOTDIR');
    return node;
  }

  /** A name for something new. */
  checkName(name: string): void {
    if (name === '' || name === '.' || name === '..') throw new FileError('EINVAL', 'invalid file name');
    if (name.includes('/') || name.includes('\0')) throw new FileError('EINVAL', 'invalid file name');
    if (encoder.encode(name).length > NAME_OCTETS) throw new FileError('ENAMETOOLONG');
  }

  async checkNew(directory: DirectoryNode, name: string): Promise<void> {
    this.checkName(name);
    if ((await directory.lookup(name)) !== undefined) throw new FileError('EEXIST');
  }

  /** Ends a fid: its file is closed, its locks go, and what was to be removed with it is. */
  async clunk(number: number): Promise<Fid> {
    const fid = this.fids.remove(number);
    this.locks.release(fid.place.node.id, fid);
    this.heldEntries -= fid.directory?.entries?.length ?? 0;
    fid.file?.close?.();
    if (fid.removeOnClunk) await this.remove(fid.place);
    return fid;
  }

  async remove({ name, parent }: Place): Promise<void> {
    const directory = parent?.node;
    if (directory?.kind !== 'directory') throw new FileError('EBUSY', 'the root cannot be removed');
    if (!directory.remove) throw new FileError('EROFS');
    await directory.remove(name);
  }

  /** Renames, and lets the fids that are at the place or below it find it under its new name. */
  async rename(from: DirectoryNode, name: string, to: Place, newName: string): Promise<void> {
    const directory = to.node;
    if (directory.kind !== 'directory') throw new FileError('ENOTDIR');
    this.checkName(name);
    this.checkName(newName);
    if (!from.rename) throw new FileError('EROFS');
    await from.rename(name, directory, newName);
    const moved = [...this.fids.places()].filter(
      (place) => place.name === name && place.parent !== undefined && place.parent.node.id === from.id,
    );
    for (const place of moved) {
      place.parent = to;
      place.name = newName;
    }
    await this.#findAgain(moved);
  }

  async #findAgain(changed: readonly Place[]): Promise<void> {
    let level = new Set(changed);
    // A fid whose place went away may stand, by its old way, below what was moved into it.
    const seen = new Set(changed);
    const places = this.fids.places();
    while (level.size > 0) {
      for (const place of level) {
        const parent = place.parent?.node;
        const found = parent?.kind === 'directory' ? await parent.lookup(place.name) : undefined;
        if (found) place.node = found;
      }
      const above = level;
      level = new Set([...places].filter((place) => place.parent && above.has(place.parent) && !seen.has(place)));
      for (const place of level) seen.add(place);
    }
  }

  /** Ends all fids, as a new Tversion or the end of the connection does. */
  close(): void {
    for (const number of this.fids.numbers()) void this.clunk(number).catch(() => undefined);
    this.tree.close?.();
  }
}
