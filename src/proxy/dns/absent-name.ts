/** That a name does not exist, said of a name below one that is known not to. RFC 8020 2, RFC 2308 5. */

import { expandName, HEADER_OCTETS, type Query, setId, skipName, TYPE_SOA, word, writeOpt } from './message.ts';

/** An answer that says so, as it came. */
export interface AbsentName {
  readonly bytes: Uint8Array;
  readonly length: number;
  readonly nameEnd: number;
  readonly storedMs: number;
}

/**
 * Writes that the name asked for does not exist, since the entry's, which is above it, does not: the same code and SOA
 * record under another question. Its length, or -1: the SOA record cannot be read.
 */
export function writeBelow(
  entry: AbsentName,
  query: Query,
  bytes: Uint8Array,
  into: Uint8Array,
  nowMs: number,
): number {
  const { bytes: known, length } = entry;
  const authorities = word(known, 8);
  let i = entry.nameEnd + 4;
  for (let record = 0; record < authorities; record++) {
    const at = skipName(known, i, length);
    if (at < 0 || at + 10 > length) return -1;
    const end = at + 10 + word(known, at + 8);
    if (end > length) return -1;
    if (word(known, at) === TYPE_SOA) return writeSoa(entry, i, at, end, query, bytes, into, nowMs);
    i = end;
  }
  return -1;
}

/** With the SOA record whose name is at `name`, whose type at `at`, and which ends at `end`. */
function writeSoa(
  { bytes: known, storedMs }: AbsentName,
  name: number,
  at: number,
  end: number,
  query: Query,
  bytes: Uint8Array,
  into: Uint8Array,
  nowMs: number,
): number {
  for (let i = 0; i < HEADER_OCTETS; i++) into[i] = known[i]!;
  for (let i = HEADER_OCTETS; i < query.questionEnd; i++) into[i] = bytes[i]!;
  setId(into, query.id);
  // One question, one record in the authority section.
  into.fill(0, 4, HEADER_OCTETS);
  into[5] = into[9] = 1;
  let out = expandName(known, name, end, into, query.questionEnd);
  if (out < 0) return -1;
  // Type, class and TTL; the length of the names that follow is known at the end.
  const record = out;
  into.set(known.subarray(at, at + 8), record);
  const ttl = word(known, at + 4) * 0x10000 + word(known, at + 6) - Math.floor((nowMs - storedMs) / 1000);
  new DataView(into.buffer, into.byteOffset).setUint32(record + 4, Math.max(0, ttl));
  const server = expandName(known, at + 10, end, into, record + 10);
  const mailbox = skipName(known, at + 10, end);
  if (server < 0 || mailbox < 0) return -1;
  out = expandName(known, mailbox, end, into, server);
  if (out < 0 || skipName(known, mailbox, end) + 20 !== end) return -1;
  into.set(known.subarray(end - 20, end), out);
  out += 20;
  const octets = out - record - 10;
  into[record + 8] = octets >> 8;
  into[record + 9] = octets;
  if (!query.hasEdns) return out;
  into[11] = 1;
  return writeOpt(into, out, false);
}
