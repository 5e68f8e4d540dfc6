/** How each kind of field is read and written. */

import type { Reader, Writer } from './cursor.ts';
import { NONUNAME } from './dialect.ts';
import type { FieldKind, FieldValues } from './message.ts';
import { readQid, readStat, writeQid, writeStat } from './stat-record.ts';

interface FieldCodec<T> {
  /** `unix` says whether the dialect has the fields of 9P2000.u. */
  read(from: Reader, unix: boolean): T;
  write(into: Writer, value: T, unix: boolean): void;
}

function list<T>(item: FieldCodec<T>): FieldCodec<readonly T[]> {
  return {
    read: (from, unix) => {
      const found: T[] = [];
      for (let left = from.u16(); left > 0 && from.fault === undefined; left--) found.push(item.read(from, unix));
      return found;
    },
    write: (into, values, unix) => {
      into.u16(values.length);
      for (const value of values) item.write(into, value, unix);
    },
  };
}

const text: FieldCodec<string> = { read: (from) => from.text(), write: (into, value) => into.text(value) };
const u32: FieldCodec<number> = { read: (from) => from.u32(), write: (into, value) => into.u32(value) };
const qid: FieldCodec<FieldValues['qid']> = { read: readQid, write: writeQid };

export const fieldCodecs: { readonly [K in FieldKind]: FieldCodec<FieldValues[K]> } = {
  u8: { read: (from) => from.u8(), write: (into, value) => into.u8(value) },
  u16: { read: (from) => from.u16(), write: (into, value) => into.u16(value) },
  u32,
  u64: { read: (from) => from.u64(), write: (into, value) => into.u64(value) },
  text,
  qid,
  data: {
    read: (from) => from.octets(from.u32()),
    write: (into, value) => {
      into.u32(value.length);
      into.octets(value);
    },
  },
  names: list(text),
  qids: list(qid),
  stat: {
    read: (from, unix) => {
      const octets = from.u16();
      const end = from.at + octets;
      const record = readStat(from, unix);
      if (from.at !== end) from.fault ??= 'a stat record is not as long as it says';
      return record;
    },
    write: (into, value, unix) => {
      const at = into.at;
      into.u16(0);
      writeStat(into, value, unix);
      const octets = into.at - at - 2;
      if (octets > 0xffff) into.full = true;
      if (!into.full) into.patch16(at, octets);
    },
  },
  'unix-u32': {
    read: (from, unix) => (unix ? from.u32() : NONUNAME),
    write: (into, value, unix) => unix && into.u32(value),
  },
  'unix-text': {
    read: (from, unix) => (unix ? from.text() : ''),
    write: (into, value, unix) => unix && into.text(value),
  },
};
