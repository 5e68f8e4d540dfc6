/** Opening and making files, which every dialect spells in its own way. open(5), create(5). */

import type { Connection } from './connection.ts';
import type { Fid } from './fid-table.ts';
import { FileError } from './file-error.ts';
import type { FileNode, FsNode, OpenFile, OpenMode } from './node.ts';

/** A link as a client sees it that knows none: a file of its target. */
function linkFile(target: string): OpenFile {
  const octets = new TextEncoder().encode(target);
  return {
    read: (offset, count) => octets.subarray(offset, offset + count),
    write: () => {
      throw new FileError('EROFS');
    },
  };
}

async function openFile(connection: Connection, node: FsNode, mode: OpenMode): Promise<OpenFile | undefined> {
  if (node.kind === 'directory') {
    if (mode.write || mode.truncate) throw new FileError('EISDIR');
    return undefined;
  }
  if (node.kind === 'file') return node.open(mode);
  if (connection.dialect !== '9P2000') throw new FileError('ELOOP', 'a link is not opened but read');
  if (mode.write || mode.truncate) throw new FileError('EROFS');
  return linkFile(await node.target());
}

/** Prepares a fid for reading and writing. */
export async function open(connection: Connection, fid: Fid, mode: OpenMode): Promise<void> {
  if (fid.opened) throw new FileError('EBADF', 'fid is open');
  const { place } = fid;
  const file = await openFile(connection, place.node, mode);
  if (fid.opened || fid.clunked || fid.place !== place) {
    file?.close?.();
    throw new FileError('EBADF', 'fid was opened, walked or clunked');
  }
  fid.mode = mode;
  if (file) fid.file = file;
  else fid.directory = { entries: undefined, offset: 0, index: 0 };
}

/** Puts a fid that stood for a directory at what was made in it, and opens that. */
export async function enter(
  connection: Connection,
  fid: Fid,
  name: string,
  node: FsNode,
  mode: OpenMode,
): Promise<void> {
  if (fid.clunked || fid.opened) throw new FileError('EBADF', 'fid was clunked or opened');
  fid.place = { node, name, parent: fid.place, depth: fid.place.depth + 1 };
  if (node.kind !== 'link') await open(connection, fid, mode);
}

export async function createFile(
  connection: Connection,
  fid: Fid,
  name: string,
  permissions: number,
): Promise<FileNode> {
  const { node } = fid.place;
  if (node.kind !== 'directory') throw new FileError('ENOTDIR');
  if (fid.opened) throw new FileError('EBADF', 'fid is open');
  await connection.checkNew(node, name);
  if (!node.createFile) throw new FileError('EPERM');
  return node.createFile(name, permissions & 0o777);
}
