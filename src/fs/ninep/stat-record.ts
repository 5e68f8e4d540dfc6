/** The directory entry of 9P2000 and 9P2000.u, stat(5): what Rstat and Twstat carry and a directory's octets consist of. */

import type { Reader, Writer } from './cursor.ts';
import { NONUNAME, type Qid } from './dialect.ts';

export interface StatRecord {
  readonly type: number;
  readonly dev: number;
  readonly qid: Qid;
  /** Permissions and DM bits. */
  readonly mode: number;
  /** Seconds since the epoch. */
  readonly atime: number;
  readonly mtime: number;
  readonly length: bigint;
  readonly name: string;
  readonly uid: string;
  readonly gid: string;
  readonly muid: string;
  /** 9P2000.u: what a symbolic link points to. */
  readonly extension: string;
  /** 9P2000.u: numeric users. */
  readonly nUid: number;
  readonly nGid: number;
  readonly nMuid: number;
}

/** A Twstat that changes nothing: every field says "don't touch". stat(5). */
export const untouched: StatRecord = {
  type: 0xffff,
  dev: 0xffffffff,
  qid: { type: 0xff, version: 0xffffffff, path: 0xffffffffffffffffn },
  mode: 0xffffffff,
  atime: 0xffffffff,
  mtime: 0xffffffff,
  length: 0xffffffffffffffffn,
  name: '',
  uid: '',
  gid: '',
  muid: '',
  extension: '',
  nUid: NONUNAME,
  nGid: NONUNAME,
  nMuid: NONUNAME,
};

export function readQid(from: Reader): Qid {
  return { type: from.u8(), version: from.u32(), path: from.u64() };
}

export function writeQid(into: Writer, qid: Qid): void {
  into.u8(qid.type);
  into.u32(qid.version);
  into.u64(qid.path);
}

export function readStat(from: Reader, unix: boolean): StatRecord {
  const size = from.u16();
  const end = from.at + size;
  const record = {
    type: from.u16(),
    dev: from.u32(),
    qid: readQid(from),
    mode: from.u32(),
    atime: from.u32(),
    mtime: from.u32(),
    length: from.u64(),
    name: from.text(),
    uid: from.text(),
    gid: from.text(),
    muid: from.text(),
    extension: unix ? from.text() : '',
    nUid: unix ? from.u32() : NONUNAME,
    nGid: unix ? from.u32() : NONUNAME,
    nMuid: unix ? from.u32() : NONUNAME,
  };
  if (from.at !== end) from.fault ??= 'a stat record is not as long as it says';
  return record;
}

export function writeStat(into: Writer, record: StatRecord, unix: boolean): void {
  const start = into.at;
  into.u16(0);
  into.u16(record.type);
  into.u32(record.dev);
  writeQid(into, record.qid);
  into.u32(record.mode);
  into.u32(record.atime);
  into.u32(record.mtime);
  into.u64(record.length);
  into.text(record.name);
  into.text(record.uid);
  into.text(record.gid);
  into.text(record.muid);
  if (unix) {
    into.text(record.extension);
    into.u32(record.nUid);
    into.u32(record.nGid);
    into.u32(record.nMuid);
  }
  const size = into.at - start - 2;
  if (size > 0xffff) into.full = true;
  if (!into.full) into.patch16(start, size);
}
