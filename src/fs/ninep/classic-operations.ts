/** Opening, making and changing files as 9P2000 and 9P2000.u spell it. open(5), create(5), stat(5); the 9P2000.u draft. */

import type { Connection, Handlers } from './connection.ts';
import { DMDIR, DMSPECIAL, DMSYMLINK } from './dialect.ts';
import { statOf } from './directory-reading.ts';
import type { Fid } from './fid-table.ts';
import { FileError } from './file-error.ts';
import type { FsNode, OpenMode } from './node.ts';
import { createFile, enter, open } from './opening.ts';
import { untouched } from './stat-record.ts';

const OWRITE = 1;
const ORDWR = 2;
const OTRUNC = 0x10;
const ORCLOSE = 0x40;

function openMode(mode: number): OpenMode {
  const access = mode & 3;
  const write = access === OWRITE || access === ORDWR;
  return { read: access !== OWRITE, write, truncate: (mode & OTRUNC) !== 0 };
}

async function create(
  connection: Connection,
  fid: Fid,
  name: string,
  perm: number,
  extension: string,
): Promise<FsNode> {
  const link = (perm & DMSYMLINK) !== 0 && connection.dialect === '9P2000.u';
  if ((perm & DMSPECIAL) !== 0) throw new FileError('EPERM', 'only files, directories and links can be made');
  if ((perm & DMDIR) === 0 && !link) return createFile(connection, fid, name, perm);
  const { node } = fid.place;
  if (node.kind !== 'directory') throw new FileError('ENOTDIR');
  await connection.checkNew(node, name);
  const made = link ? node.createLink?.(name, extension) : node.createDirectory?.(name, perm & 0o777);
  if (!made) throw new FileError('EPERM');
  return made;
}

/** Owners are not changed. Who changed it last (muid) is not for a client to say, but the Linux client says it. */
function checkOwners(connection: Connection, stat: typeof untouched): void {
  const { name, uid, gid } = connection.owner;
  const texts = [stat.uid, stat.gid].every((text) => text === '' || text === name);
  const numbers =
    (stat.nUid === untouched.nUid || stat.nUid === uid) && (stat.nGid === untouched.nGid || stat.nGid === gid);
  if (!texts || !numbers) throw new FileError('EPERM', 'files have the owner they have');
}

export const classicOperations: Handlers = {
  Topen: async (connection, { fid: number, mode }) => {
    const fid = connection.fids.get(number);
    await open(connection, fid, openMode(mode));
    fid.removeOnClunk = (mode & ORCLOSE) !== 0;
    return { kind: 'Ropen', qid: connection.qid(fid.place.node), iounit: connection.iounit };
  },

  Tcreate: async (connection, { fid: number, name, perm, mode, extension }) => {
    const fid = connection.fids.get(number);
    if (fid.opened) throw new FileError('EBADF', 'fid is open');
    const node = await create(connection, fid, name, perm, extension);
    await enter(connection, fid, name, node, { ...openMode(mode), truncate: false });
    fid.removeOnClunk = (mode & ORCLOSE) !== 0;
    return { kind: 'Rcreate', qid: connection.qid(node), iounit: connection.iounit };
  },

  Tstat: async (connection, { fid: number }) => {
    const { place } = connection.fids.get(number);
    return { kind: 'Rstat', stat: await statOf(connection, place.name, place.node) };
  },

  /** All fields or none, stat(5): so two changes that could fail apart are not taken in one message. */
  Twstat: async (connection, { fid: number, stat }) => {
    const { place } = connection.fids.get(number);
    const { node, parent } = place;
    const rename = stat.name !== '' && stat.name !== place.name;
    const mode = stat.mode !== untouched.mode;
    const truncate = stat.length !== untouched.length && !(node.kind === 'directory' && stat.length === 0n);
    checkOwners(connection, stat);
    if (mode && ((stat.mode & DMDIR) !== 0) !== (node.kind === 'directory'))
      throw new FileError('EPERM', 'a file stays a file, a directory a directory');
    if (Number(rename) + Number(mode) + Number(truncate) > 1)
      throw new FileError('EINVAL', 'rename, mode and length are changed one at a time');
    if (rename) {
      if (parent?.node.kind !== 'directory') throw new FileError('EBUSY', 'the root has no name');
      if ((await parent.node.lookup(stat.name)) !== undefined) throw new FileError('EEXIST');
      await connection.rename(parent.node, place.name, parent, stat.name);
    }
    if (mode || truncate) {
      if (!node.change) throw new FileError('EROFS');
      if (truncate && stat.length > BigInt(Number.MAX_SAFE_INTEGER)) throw new FileError('EFBIG');
      await node.change(mode ? { mode: stat.mode & 0o777 } : { sizeOctets: Number(stat.length) });
    }
    return { kind: 'Rwstat' };
  },
};
