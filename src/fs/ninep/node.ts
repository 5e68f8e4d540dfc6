/**
 * What a file tree offers the 9P server: directories, files and links, answering at once or by a promise. A refusal is a
 * thrown `FileError`. What is optional and absent is refused by the server: a directory without `createFile` takes none.
 *
 * A tree is shared by all connections unless `attach` makes one for each. Nodes are cheap handles: they name a place and
 * look at it when asked, so one whose place is gone answers ENOENT.
 */

import type { Cancellation } from './cancellation.ts';

export type Eventually<T> = T | Promise<T>;

export interface Attributes {
  /** Permissions: the lower nine bits. */
  readonly mode: number;
  /** Of a live stream, 0. */
  readonly sizeOctets: number;
  readonly modifiedMs: number;
  /** Another whenever the content is another; 0: not to be cached. */
  readonly version: number;
}

export interface AttributeChange {
  readonly mode?: number;
  readonly sizeOctets?: number;
}

interface Place {
  /** The file's own for as long as it exists: see `childId`. */
  readonly id: bigint;
  attributes(): Eventually<Attributes>;
  change?(change: AttributeChange): Eventually<void>;
}

export interface Entry {
  readonly name: string;
  readonly node: FsNode;
}

export interface DirectoryNode extends Place {
  readonly kind: 'directory';
  lookup(name: string): Eventually<FsNode | undefined>;
  list(): Eventually<readonly Entry[]>;
  /** The name is free when these are called, as far as `lookup` knew. */
  createFile?(name: string, mode: number): Eventually<FileNode>;
  createDirectory?(name: string, mode: number): Eventually<DirectoryNode>;
  createLink?(name: string, target: string): Eventually<LinkNode>;
  remove?(name: string): Eventually<void>;
  /** `to` is a directory of the same tree. */
  rename?(name: string, to: DirectoryNode, newName: string): Eventually<void>;
}

export interface OpenMode {
  readonly read: boolean;
  readonly write: boolean;
  readonly truncate: boolean;
}

export interface FileNode extends Place {
  readonly kind: 'file';
  open(mode: OpenMode): Eventually<OpenFile>;
}

export interface OpenFile {
  /**
   * At most `count` octets from `offset`; none: the end. It may wait until there are some, and then rejects (EINTR) once
   * `cancellation` says so.
   */
  read(offset: number, count: number, cancellation: Cancellation): Eventually<Uint8Array>;
  /** The octets taken. `data` are the callee's to keep. */
  write(offset: number, data: Uint8Array, cancellation: Cancellation): Eventually<number>;
  close?(): void;
}

export interface LinkNode extends Place {
  readonly kind: 'link';
  target(): Eventually<string>;
}

export type FsNode = DirectoryNode | FileNode | LinkNode;

const FNV_PRIME = 0x100000001b3n;
const MASK = 0xffffffffffffffffn;
const encoder = new TextEncoder();

/** An id for `name` within the directory of id `parent`: FNV-1a over the whole path, so that the same place has the same. */
export function childId(parent: bigint, name: string): bigint {
  let hash = (parent * FNV_PRIME) & MASK;
  for (const octet of encoder.encode(name)) hash = ((hash ^ BigInt(octet)) * FNV_PRIME) & MASK;
  return hash;
}

export const rootId = 0xcbf29ce484222325n;
