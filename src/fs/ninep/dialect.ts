/**
 * The three dialects of 9P and the numbers they share: 9P2000 (Plan 9 manual, section 5), 9P2000.u (its draft for Unix:
 * numeric users and errors, links) and 9P2000.L (diod's protocol.md: Linux's own operations and errors).
 */

export type Dialect = '9P2000' | '9P2000.u' | '9P2000.L';

/** No tag: that of Tversion. version(5). */
export const NOTAG = 0xffff;
/** No fid: the afid of an attach without authentication. attach(5). */
export const NOFID = 0xffffffff;
/** No numeric user: `uname` tells who it is. */
export const NONUNAME = 0xffffffff;
/** size[4] type[1] tag[2]. */
export const HEADER_OCTETS = 7;
/** What Rread and Twrite need beside their data, as clients reckon it (IOHDRSZ). */
export const IO_HEADER_OCTETS = 24;
/** The most names in one walk. walk(5). */
export const MAXWELEM = 16;

export const QTDIR = 0x80;
export const QTSYMLINK = 0x02;
export const QTFILE = 0x00;

export const DMDIR = 0x80000000;
export const DMSYMLINK = 0x02000000;
/** Append-only, exclusive, mount and authentication files, temporary files; devices, pipes, sockets of 9P2000.u. */
export const DMSPECIAL = 0x7c000000 | 0x00800000 | 0x00200000 | 0x00100000;

export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;

/** A file as the protocol tells it from others: `path` is its own for as long as it exists. */
export interface Qid {
  readonly type: number;
  readonly version: number;
  readonly path: bigint;
}

/** Whether negotiation chose Unix's extensions, which 9P2000.L keeps in its attach. */
export const hasUnixFields = (dialect: Dialect): boolean => dialect !== '9P2000';

/**
 * The dialect to answer `version` with; version(5): a version that begins with one that is known is spoken as that one,
 * anything later than ours as ours. Undefined: none is shared.
 */
export function chooseDialect(version: string): Dialect | undefined {
  if (version === '9P2000.L' || version === '9P2000.u') return version;
  const number = /^9P(\d{4,})(\..*)?$/.exec(version)?.[1];
  return number !== undefined && Number(number) >= 2000 ? '9P2000' : undefined;
}
