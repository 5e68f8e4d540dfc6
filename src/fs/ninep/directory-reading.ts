/**
 * Reading directories. A fid keeps the entries as they were when reading began (offset 0), so that what is made or removed
 * meanwhile neither repeats an entry nor hides one.
 */

import type { Connection } from './connection.ts';
import { Writer } from './cursor.ts';
import { DMDIR, DMSYMLINK, type Qid } from './dialect.ts';
import type { Fid } from './fid-table.ts';
import { FileError } from './file-error.ts';
import type { Attributes, Entry, FsNode } from './node.ts';
import { type StatRecord, untouched, writeQid, writeStat } from './stat-record.ts';

/** What one reply holds at most, so that many of them hold little. */
const REPLY_OCTETS = 16_384;

/** DT_DIR, DT_REG and DT_LNK of readdir(3). */
const entryTypes = { directory: 4, file: 8, link: 10 } as const;

async function begin(connection: Connection, fid: Fid, dots: boolean): Promise<readonly Entry[]> {
  const { node, parent } = fid.place;
  if (node.kind !== 'directory' || !fid.directory) throw new FileError('ENOTDIR');
  const listed = await node.list();
  const entries = dots ? [{ name: '.', node }, { name: '..', node: parent?.node ?? node }, ...listed] : listed;
  const held = fid.directory.entries?.length ?? 0;
  if (connection.heldEntries - held + entries.length > connection.limits.entries)
    throw new FileError('ENOMEM', 'too many directories are being read');
  // The fid may have been clunked while the entries were listed.
  if (!fid.clunked) connection.heldEntries += entries.length - held;
  fid.directory.entries = entries;
  fid.directory.offset = 0;
  fid.directory.index = 0;
  return entries;
}

/** 9P2000.L's Treaddir: qid[13] offset[8] type[1] name[s]; an entry's offset is where to go on after it. */
export async function readEntries(
  connection: Connection,
  fid: Fid,
  offset: bigint,
  count: number,
): Promise<Uint8Array> {
  if (!fid.directory) throw new FileError(fid.place.node.kind === 'directory' ? 'EBADF' : 'ENOTDIR');
  const entries = offset === 0n ? await begin(connection, fid, true) : fid.directory.entries;
  if (!entries) throw new FileError('EINVAL', 'a directory is read from its beginning');
  const into = new Writer(new Uint8Array(Math.min(count, REPLY_OCTETS)));
  let end = 0;
  for (let index = Number(offset); index < entries.length; index++) {
    const { name, node } = entries[index]!;
    writeQid(into, connection.qid(node));
    into.u64(BigInt(index + 1));
    into.u8(entryTypes[node.kind]);
    into.text(name);
    if (into.full && end === 0) throw new FileError('EINVAL', 'the count is too small for an entry');
    if (into.full) break;
    end = into.at;
  }
  return into.bytes.subarray(0, end);
}

/** 9P2000's reading of directories: whole stat records. read(5). */
export async function readStats(connection: Connection, fid: Fid, offset: bigint, count: number): Promise<Uint8Array> {
  const directory = fid.directory!;
  const entries = offset === 0n ? await begin(connection, fid, false) : directory.entries;
  if (!entries || Number(offset) !== directory.offset)
    throw new FileError('EINVAL', 'a directory is read on from where it was read to');
  const into = new Writer(new Uint8Array(Math.min(count, REPLY_OCTETS)));
  let { index } = directory;
  let end = 0;
  for (; index < entries.length; index++) {
    const { name, node } = entries[index]!;
    const record = await statIfThere(connection, name, node);
    if (!record) continue;
    writeStat(into, record, connection.dialect === '9P2000.u');
    if (into.full && end === 0) throw new FileError('EINVAL', 'the count is too small for an entry');
    if (into.full) break;
    end = into.at;
  }
  directory.index = index;
  directory.offset += end;
  return into.bytes.subarray(0, end);
}

/** What has gone since the directory was listed is left out. */
async function statIfThere(connection: Connection, name: string, node: FsNode): Promise<StatRecord | undefined> {
  try {
    return await statOf(connection, name, node);
  } catch (error) {
    if (error instanceof FileError && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

export async function statOf(connection: Connection, name: string, node: FsNode): Promise<StatRecord> {
  const { owner } = connection;
  const attributes = await node.attributes();
  const qid = connection.qid(node, attributes.version);
  const seconds = Math.floor(attributes.modifiedMs / 1000) >>> 0;
  const unixLink = node.kind === 'link' && connection.dialect === '9P2000.u';
  return {
    ...untouched,
    type: 0,
    dev: 0,
    qid,
    mode: modeOf(attributes, qid),
    atime: seconds,
    mtime: seconds,
    length: node.kind === 'directory' ? 0n : BigInt(attributes.sizeOctets),
    name,
    uid: owner.name,
    gid: owner.name,
    muid: owner.name,
    extension: unixLink ? await node.target() : '',
    nUid: owner.uid,
    nGid: owner.gid,
    nMuid: owner.uid,
  };
}

function modeOf({ mode }: Attributes, { type }: Qid): number {
  const special = (type & 0x80 ? DMDIR : 0) | (type & 0x02 ? DMSYMLINK : 0);
  return (special | (mode & 0o777)) >>> 0;
}
