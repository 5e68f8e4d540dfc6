/**
 * Every message of the three dialects: its number and its fields in their order on the wire. The codec and the types are
 * made from this table, and so are the tests' arbitrary messages. Sources: Plan 9 manual section 5; the 9P2000.u draft;
 * diod's protocol.md for 9P2000.L.
 */

import type { Qid } from './dialect.ts';
import type { StatRecord } from './stat-record.ts';

/** How a field is written; `unix-*` ones are there in 9P2000.u and 9P2000.L only. */
export interface FieldValues {
  u8: number;
  u16: number;
  u32: number;
  u64: bigint;
  text: string;
  qid: Qid;
  /** count[4] and so many octets. */
  data: Uint8Array;
  /** nwname[2] and so many texts. */
  names: readonly string[];
  /** nwqid[2] and so many qids. */
  qids: readonly Qid[];
  /** n[2] and a stat record within. */
  stat: StatRecord;
  'unix-u32': number;
  'unix-text': string;
}
export type FieldKind = keyof FieldValues;

const reply = {} as const;

export const layouts = {
  Rlerror: { code: 7, fields: { errno: 'u32' } },
  Tstatfs: { code: 8, fields: { fid: 'u32' } },
  Rstatfs: {
    code: 9,
    fields: {
      fsType: 'u32',
      blockOctets: 'u32',
      blocks: 'u64',
      freeBlocks: 'u64',
      availableBlocks: 'u64',
      files: 'u64',
      freeFiles: 'u64',
      fsId: 'u64',
      nameOctets: 'u32',
    },
  },
  Tlopen: { code: 12, fields: { fid: 'u32', flags: 'u32' } },
  Rlopen: { code: 13, fields: { qid: 'qid', iounit: 'u32' } },
  Tlcreate: { code: 14, fields: { fid: 'u32', name: 'text', flags: 'u32', mode: 'u32', gid: 'u32' } },
  Rlcreate: { code: 15, fields: { qid: 'qid', iounit: 'u32' } },
  Tsymlink: { code: 16, fields: { fid: 'u32', name: 'text', target: 'text', gid: 'u32' } },
  Rsymlink: { code: 17, fields: { qid: 'qid' } },
  Tmknod: {
    code: 18,
    fields: { fid: 'u32', name: 'text', mode: 'u32', major: 'u32', minor: 'u32', gid: 'u32' },
  },
  Rmknod: { code: 19, fields: { qid: 'qid' } },
  Trename: { code: 20, fields: { fid: 'u32', directoryFid: 'u32', name: 'text' } },
  Rrename: { code: 21, fields: reply },
  Treadlink: { code: 22, fields: { fid: 'u32' } },
  Rreadlink: { code: 23, fields: { target: 'text' } },
  Tgetattr: { code: 24, fields: { fid: 'u32', mask: 'u64' } },
  Rgetattr: {
    code: 25,
    fields: {
      valid: 'u64',
      qid: 'qid',
      mode: 'u32',
      uid: 'u32',
      gid: 'u32',
      links: 'u64',
      device: 'u64',
      size: 'u64',
      blockOctets: 'u64',
      blocks: 'u64',
      atimeSeconds: 'u64',
      atimeNanos: 'u64',
      mtimeSeconds: 'u64',
      mtimeNanos: 'u64',
      ctimeSeconds: 'u64',
      ctimeNanos: 'u64',
      btimeSeconds: 'u64',
      btimeNanos: 'u64',
      generation: 'u64',
      dataVersion: 'u64',
    },
  },
  Tsetattr: {
    code: 26,
    fields: {
      fid: 'u32',
      valid: 'u32',
      mode: 'u32',
      uid: 'u32',
      gid: 'u32',
      size: 'u64',
      atimeSeconds: 'u64',
      atimeNanos: 'u64',
      mtimeSeconds: 'u64',
      mtimeNanos: 'u64',
    },
  },
  Rsetattr: { code: 27, fields: reply },
  Txattrwalk: { code: 30, fields: { fid: 'u32', newfid: 'u32', name: 'text' } },
  Rxattrwalk: { code: 31, fields: { size: 'u64' } },
  Txattrcreate: { code: 32, fields: { fid: 'u32', name: 'text', size: 'u64', flags: 'u32' } },
  Rxattrcreate: { code: 33, fields: reply },
  Treaddir: { code: 40, fields: { fid: 'u32', offset: 'u64', count: 'u32' } },
  Rreaddir: { code: 41, fields: { data: 'data' } },
  Tfsync: { code: 50, fields: { fid: 'u32', dataOnly: 'u32' } },
  Rfsync: { code: 51, fields: reply },
  Tlock: {
    code: 52,
    fields: {
      fid: 'u32',
      lockType: 'u8',
      flags: 'u32',
      start: 'u64',
      length: 'u64',
      process: 'u32',
      client: 'text',
    },
  },
  Rlock: { code: 53, fields: { status: 'u8' } },
  Tgetlock: {
    code: 54,
    fields: { fid: 'u32', lockType: 'u8', start: 'u64', length: 'u64', process: 'u32', client: 'text' },
  },
  Rgetlock: { code: 55, fields: { lockType: 'u8', start: 'u64', length: 'u64', process: 'u32', client: 'text' } },
  Tlink: { code: 70, fields: { directoryFid: 'u32', fid: 'u32', name: 'text' } },
  Rlink: { code: 71, fields: reply },
  Tmkdir: { code: 72, fields: { fid: 'u32', name: 'text', mode: 'u32', gid: 'u32' } },
  Rmkdir: { code: 73, fields: { qid: 'qid' } },
  Trenameat: { code: 74, fields: { fid: 'u32', name: 'text', newDirectoryFid: 'u32', newName: 'text' } },
  Rrenameat: { code: 75, fields: reply },
  Tunlinkat: { code: 76, fields: { fid: 'u32', name: 'text', flags: 'u32' } },
  Runlinkat: { code: 77, fields: reply },
  Tversion: { code: 100, fields: { msize: 'u32', version: 'text' } },
  Rversion: { code: 101, fields: { msize: 'u32', version: 'text' } },
  Tauth: { code: 102, fields: { afid: 'u32', uname: 'text', aname: 'text', nUname: 'unix-u32' } },
  Rauth: { code: 103, fields: { qid: 'qid' } },
  Tattach: { code: 104, fields: { fid: 'u32', afid: 'u32', uname: 'text', aname: 'text', nUname: 'unix-u32' } },
  Rattach: { code: 105, fields: { qid: 'qid' } },
  Rerror: { code: 107, fields: { text: 'text', errno: 'unix-u32' } },
  Tflush: { code: 108, fields: { oldtag: 'u16' } },
  Rflush: { code: 109, fields: reply },
  Twalk: { code: 110, fields: { fid: 'u32', newfid: 'u32', names: 'names' } },
  Rwalk: { code: 111, fields: { qids: 'qids' } },
  Topen: { code: 112, fields: { fid: 'u32', mode: 'u8' } },
  Ropen: { code: 113, fields: { qid: 'qid', iounit: 'u32' } },
  Tcreate: { code: 114, fields: { fid: 'u32', name: 'text', perm: 'u32', mode: 'u8', extension: 'unix-text' } },
  Rcreate: { code: 115, fields: { qid: 'qid', iounit: 'u32' } },
  Tread: { code: 116, fields: { fid: 'u32', offset: 'u64', count: 'u32' } },
  Rread: { code: 117, fields: { data: 'data' } },
  Twrite: { code: 118, fields: { fid: 'u32', offset: 'u64', data: 'data' } },
  Rwrite: { code: 119, fields: { count: 'u32' } },
  Tclunk: { code: 120, fields: { fid: 'u32' } },
  Rclunk: { code: 121, fields: reply },
  Tremove: { code: 122, fields: { fid: 'u32' } },
  Rremove: { code: 123, fields: reply },
  Tstat: { code: 124, fields: { fid: 'u32' } },
  Rstat: { code: 125, fields: { stat: 'stat' } },
  Twstat: { code: 126, fields: { fid: 'u32', stat: 'stat' } },
  Rwstat: { code: 127, fields: reply },
} as const satisfies Record<string, { readonly code: number; readonly fields: Readonly<Record<string, FieldKind>> }>;

export type MessageKind = keyof typeof layouts;
type Fields<K extends MessageKind> = (typeof layouts)[K]['fields'];

/** The fields of a message of kind K. */
export type Body<K extends MessageKind> = {
  readonly [F in keyof Fields<K>]: Fields<K>[F] extends FieldKind ? FieldValues[Fields<K>[F]] : never;
};
/** A message of kind K; `tag` pairs request and reply. */
export type MessageOf<K extends MessageKind> = { readonly kind: K; readonly tag: number } & Body<K>;
export type Message = { [K in MessageKind]: MessageOf<K> }[MessageKind];
export type RequestKind = Extract<MessageKind, `T${string}`>;
export type ReplyKind = Exclude<MessageKind, RequestKind>;
export type Reply = { [K in ReplyKind]: { readonly kind: K } & Body<K> }[ReplyKind];

export const kindOfCode: ReadonlyMap<number, MessageKind> = new Map(
  Object.entries(layouts).map(([kind, { code }]) => [code, kind as MessageKind]),
);
