/** The operations that all three dialects share: attach, walk, read, write, clunk, remove. Plan 9 manual, section 5. */

import type { Connection, Handlers } from './connection.ts';
import { MAXWELEM, NOFID, NONUNAME, type Qid } from './dialect.ts';
import { readStats } from './directory-reading.ts';
import type { Place } from './fid-table.ts';
import { FileError } from './file-error.ts';

/** One step of a walk; undefined: nothing is there. walk(5). */
async function step({ dialect }: Connection, from: Place, name: string): Promise<Place | undefined> {
  const { node } = from;
  if (node.kind !== 'directory') throw new FileError('ENOTDIR');
  // Not a name in Plan 9, but one that Treaddir lists and that diod's clients walk to.
  if (name === '.' && dialect === '9P2000.L') return from;
  if (name === '..') return from.parent ?? from;
  if (name === '' || name === '.' || name.includes('/') || name.includes('\0')) return undefined;
  const found = await node.lookup(name);
  return found && { node: found, name, parent: from, depth: from.depth + 1 };
}

async function walk(connection: Connection, start: Place, names: readonly string[]): Promise<[Place, Qid[]]> {
  const qids: Qid[] = [];
  let place = start;
  for (const [index, name] of names.entries()) {
    let next: Place | undefined;
    try {
      next = await step(connection, place, name);
    } catch (error) {
      if (index === 0) throw error;
    }
    if (!next && index === 0) throw new FileError('ENOENT');
    if (!next) break;
    place = next;
    qids.push(connection.qid(place.node));
  }
  return [place, qids];
}

/** The most that Number tells apart; no file of ours is that long. */
const OFFSET_LIMIT = BigInt(Number.MAX_SAFE_INTEGER);

export const commonOperations: Handlers = {
  /** auth(5) answers with an error where none is required; diod's clients take ENOENT for that and nothing else. */
  Tauth: () => {
    throw new FileError('ENOENT', 'authentication is not required');
  },

  Tattach: async (connection, { fid, afid, uname, aname, nUname }) => {
    if (afid !== NOFID) throw new FileError('EBADF', 'authentication is not required');
    connection.fids.checkFree(fid);
    const node = await connection.tree.attach({ uname, uid: nUname === NONUNAME ? undefined : nUname, aname });
    connection.fids.add(fid, { node, name: '/', parent: undefined, depth: 0 });
    return { kind: 'Rattach', qid: connection.qid(node) };
  },

  Twalk: async (connection, { fid: from, newfid, names }) => {
    if (names.length > MAXWELEM) throw new FileError('EINVAL', 'too many names in a walk');
    const fid = connection.fids.get(from);
    // walk(5) forbids walking from an open fid at all; diod's clients do, and no harm is in it.
    if (fid.opened && newfid === from) throw new FileError('EBADF', 'fid is open');
    if (newfid !== from) connection.fids.checkFree(newfid);
    const [place, qids] = await walk(connection, fid.place, names);
    if (qids.length < names.length) return { kind: 'Rwalk', qids };
    if (newfid !== from) connection.fids.add(newfid, place);
    else if (fid.clunked || fid.opened) throw new FileError('EBADF', 'fid was clunked or opened');
    else connection.fids.move(fid, place);
    return { kind: 'Rwalk', qids };
  },

  Tread: async (connection, { fid: number, offset, count }, cancellation) => {
    const fid = connection.fids.get(number);
    const wanted = connection.readCount(count);
    if (fid.directory && connection.dialect !== '9P2000.L')
      return { kind: 'Rread', data: await readStats(connection, fid, offset, wanted) };
    if (!fid.file || !fid.mode?.read) throw new FileError(fid.directory ? 'EISDIR' : 'EBADF');
    if (offset > OFFSET_LIMIT) return { kind: 'Rread', data: new Uint8Array(0) };
    fid.waiting.add(cancellation);
    try {
      const data = await fid.file.read(Number(offset), wanted, cancellation);
      return { kind: 'Rread', data: data.length > wanted ? data.subarray(0, wanted) : data };
    } finally {
      fid.waiting.delete(cancellation);
    }
  },

  Twrite: async (connection, { fid: number, offset, data }, cancellation) => {
    const fid = connection.fids.get(number);
    if (!fid.file || !fid.mode?.write) throw new FileError(fid.directory ? 'EISDIR' : 'EBADF');
    if (offset + BigInt(data.length) > OFFSET_LIMIT) throw new FileError('EFBIG');
    return { kind: 'Rwrite', count: await fid.file.write(Number(offset), data, cancellation) };
  },

  Tclunk: async (connection, { fid }) => {
    await connection.clunk(fid);
    return { kind: 'Rclunk' };
  },

  /** The fid goes whether or not the file does. remove(5). */
  Tremove: async (connection, { fid: number }) => {
    const fid = connection.fids.get(number);
    fid.removeOnClunk = false;
    const { place } = await connection.clunk(number);
    await connection.remove(place);
    return { kind: 'Rremove' };
  },
};
