/** The operations of 9P2000.L: Linux's own system calls, near enough. diod's protocol.md. */

import type { Connection, Handlers } from './connection.ts';
import { S_IFDIR, S_IFLNK, S_IFREG } from './dialect.ts';
import { readEntries } from './directory-reading.ts';
import { FileError } from './file-error.ts';
import { type LockOwner, lengthOf } from './lock-table.ts';
import type { DirectoryNode, OpenMode } from './node.ts';
import { createFile, enter, open } from './opening.ts';

const O_ACCMODE = 3;
const O_WRONLY = 1;
const O_TRUNC = 0o1000;
const O_DIRECTORY = 0o200000;

const AT_REMOVEDIR = 0x200;

const GETATTR_BASIC = 0x7ffn;
const SETATTR_MODE = 0x1;
const SETATTR_UID = 0x2;
const SETATTR_GID = 0x4;
const SETATTR_SIZE = 0x8;

const LOCK_READ = 0;
const LOCK_WRITE = 1;
const LOCK_NONE = 2;
const LOCK_SUCCESS = 0;
const LOCK_BLOCKED = 1;
const LOCK_ERROR = 2;

/** Linux's number for 9P in statfs(2). */
const V9FS_MAGIC = 0x01021997;

const formats = { directory: S_IFDIR, file: S_IFREG, link: S_IFLNK } as const;

function openMode(flags: number): OpenMode {
  const access = flags & O_ACCMODE;
  return { read: access !== O_WRONLY, write: access !== 0, truncate: (flags & O_TRUNC) !== 0 };
}

/** Where a directory's fid may be used to name something in it. */
function place(connection: Connection, number: number) {
  const found = connection.fids.get(number).place;
  if (found.node.kind !== 'directory') throw new FileError('ENOTDIR');
  return found;
}

/** rename(2): a file takes the place of a file, a directory of none. */
async function checkTarget(from: DirectoryNode, name: string, to: DirectoryNode, newName: string): Promise<void> {
  const [node, target] = await Promise.all([from.lookup(name), to.lookup(newName)]);
  if (!node) throw new FileError('ENOENT');
  if (!target || target.id === node.id) return;
  if (target.kind === 'directory') throw new FileError(node.kind === 'directory' ? 'EEXIST' : 'EISDIR');
  if (node.kind === 'directory') throw new FileError('ENOTDIR');
}

function lockOwner(connection: Connection, { client, process }: { client: string; process: number }): LockOwner {
  return { connection, client, process };
}

export const linuxOperations: Handlers = {
  Tstatfs: (connection, { fid }) => {
    connection.fids.get(fid);
    return {
      kind: 'Rstatfs',
      fsType: V9FS_MAGIC,
      blockOctets: 4096,
      blocks: 0n,
      freeBlocks: 0n,
      availableBlocks: 0n,
      files: 0n,
      freeFiles: 0n,
      fsId: 0n,
      nameOctets: 255,
    };
  },

  Tlopen: async (connection, { fid: number, flags }) => {
    const fid = connection.fids.get(number);
    if ((flags & O_DIRECTORY) !== 0 && fid.place.node.kind !== 'directory') throw new FileError('ENOTDIR');
    await open(connection, fid, openMode(flags));
    return { kind: 'Rlopen', qid: connection.qid(fid.place.node), iounit: connection.iounit };
  },

  Tlcreate: async (connection, { fid: number, name, flags, mode }) => {
    const fid = connection.fids.get(number);
    const node = await createFile(connection, fid, name, mode);
    await enter(connection, fid, name, node, { ...openMode(flags), truncate: false });
    return { kind: 'Rlcreate', qid: connection.qid(node), iounit: connection.iounit };
  },

  Tsymlink: async (connection, { fid, name, target }) => {
    const directory = connection.directory(fid);
    await connection.checkNew(directory, name);
    if (!directory.createLink) throw new FileError('EPERM');
    return { kind: 'Rsymlink', qid: connection.qid(await directory.createLink(name, target)) };
  },

  Tmknod: () => {
    throw new FileError('EPERM');
  },

  Tlink: () => {
    throw new FileError('EPERM');
  },

  Tmkdir: async (connection, { fid, name, mode }) => {
    const directory = connection.directory(fid);
    await connection.checkNew(directory, name);
    if (!directory.createDirectory) throw new FileError('EPERM');
    return { kind: 'Rmkdir', qid: connection.qid(await directory.createDirectory(name, mode & 0o777)) };
  },

  Trename: async (connection, { fid, directoryFid, name }) => {
    const from = connection.fids.get(fid).place;
    const to = place(connection, directoryFid);
    if (from.parent?.node.kind !== 'directory') throw new FileError('EBUSY', 'the root has no name');
    await checkTarget(from.parent.node, from.name, to.node as DirectoryNode, name);
    await connection.rename(from.parent.node, from.name, to, name);
    return { kind: 'Rrename' };
  },

  Trenameat: async (connection, { fid, name, newDirectoryFid, newName }) => {
    const from = connection.directory(fid);
    const to = place(connection, newDirectoryFid);
    await checkTarget(from, name, to.node as DirectoryNode, newName);
    await connection.rename(from, name, to, newName);
    return { kind: 'Rrenameat' };
  },

  Tunlinkat: async (connection, { fid, name, flags }) => {
    const directory = connection.directory(fid);
    const node = await directory.lookup(name);
    if (!node) throw new FileError('ENOENT');
    const wanted = (flags & AT_REMOVEDIR) !== 0;
    if (wanted !== (node.kind === 'directory')) throw new FileError(wanted ? 'ENOTDIR' : 'EISDIR');
    if (!directory.remove) throw new FileError('EROFS');
    await directory.remove(name);
    return { kind: 'Runlinkat' };
  },

  Treadlink: async (connection, { fid }) => {
    const { node } = connection.fids.get(fid).place;
    if (node.kind !== 'link') throw new FileError('EINVAL');
    return { kind: 'Rreadlink', target: await node.target() };
  },

  Tgetattr: async (connection, { fid }) => {
    const { node } = connection.fids.get(fid).place;
    const { owner } = connection;
    const attributes = await node.attributes();
    const seconds = BigInt(Math.floor(attributes.modifiedMs / 1000));
    const nanos = BigInt(Math.floor(attributes.modifiedMs % 1000)) * 1_000_000n;
    const size = BigInt(attributes.sizeOctets);
    return {
      kind: 'Rgetattr',
      valid: GETATTR_BASIC,
      qid: connection.qid(node, attributes.version),
      mode: formats[node.kind] | (attributes.mode & 0o777),
      uid: owner.uid,
      gid: owner.gid,
      links: 1n,
      device: 0n,
      size,
      blockOctets: 4096n,
      blocks: (size + 511n) / 512n,
      atimeSeconds: seconds,
      atimeNanos: nanos,
      mtimeSeconds: seconds,
      mtimeNanos: nanos,
      ctimeSeconds: seconds,
      ctimeNanos: nanos,
      btimeSeconds: 0n,
      btimeNanos: 0n,
      generation: 0n,
      dataVersion: BigInt(attributes.version),
    };
  },

  /** Times are let pass: no tree keeps them. */
  Tsetattr: async (connection, { fid, valid, mode, uid, gid, size }) => {
    const { node } = connection.fids.get(fid).place;
    const { owner } = connection;
    if (((valid & SETATTR_UID) !== 0 && uid !== owner.uid) || ((valid & SETATTR_GID) !== 0 && gid !== owner.gid))
      throw new FileError('EPERM', 'files have the owner they have');
    if ((valid & (SETATTR_MODE | SETATTR_SIZE)) === 0) return { kind: 'Rsetattr' };
    if (!node.change) throw new FileError('EROFS');
    if ((valid & SETATTR_SIZE) !== 0 && size > BigInt(Number.MAX_SAFE_INTEGER)) throw new FileError('EFBIG');
    await node.change({
      ...((valid & SETATTR_MODE) !== 0 && { mode: mode & 0o777 }),
      ...((valid & SETATTR_SIZE) !== 0 && { sizeOctets: Number(size) }),
    });
    return { kind: 'Rsetattr' };
  },

  Txattrwalk: () => {
    throw new FileError('EOPNOTSUPP');
  },

  Txattrcreate: () => {
    throw new FileError('EOPNOTSUPP');
  },

  Treaddir: async (connection, { fid, offset, count }) => {
    const wanted = connection.readCount(count);
    return { kind: 'Rreaddir', data: await readEntries(connection, connection.fids.get(fid), offset, wanted) };
  },

  /** A write is whole when it is answered; a commit is durable then. */
  Tfsync: (connection, { fid }) => {
    connection.fids.get(fid);
    return { kind: 'Rfsync' };
  },

  Tlock: (connection, request) => {
    const fid = connection.fids.get(request.fid);
    const file = fid.place.node.id;
    const owner = lockOwner(connection, request);
    if (request.lockType === LOCK_NONE) {
      connection.locks.unlock(file, owner, request);
      return { kind: 'Rlock', status: LOCK_SUCCESS };
    }
    if (request.lockType > LOCK_NONE) throw new FileError('EINVAL');
    const outcome = connection.locks.lock(file, owner, fid, request, request.lockType === LOCK_WRITE);
    return { kind: 'Rlock', status: { held: LOCK_SUCCESS, blocked: LOCK_BLOCKED, full: LOCK_ERROR }[outcome] };
  },

  Tgetlock: (connection, request) => {
    const { node } = connection.fids.get(request.fid).place;
    if (request.lockType > LOCK_WRITE) throw new FileError('EINVAL');
    const owner = lockOwner(connection, request);
    const held = connection.locks.conflict(node.id, owner, request, request.lockType === LOCK_WRITE);
    const { start, length, process, client } = request;
    if (!held) return { kind: 'Rgetlock', lockType: LOCK_NONE, start, length, process, client };
    return {
      kind: 'Rgetlock',
      lockType: held.exclusive ? LOCK_WRITE : LOCK_READ,
      start: held.start,
      length: lengthOf(held),
      process: held.owner.process,
      client: held.owner.client,
    };
  },
};
