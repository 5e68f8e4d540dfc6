/**
 * 9P's messages from and into a caller's buffer. A frame is size[4] type[1] tag[2] and the fields; intro(5). The data of a
 * parsed message are a view of the frame, which must not change while they are in use.
 */

import { Reader, Writer } from './cursor.ts';
import { type Dialect, hasUnixFields } from './dialect.ts';
import { fieldCodecs } from './field.ts';
import { type FieldKind, kindOfCode, layouts, type Message, type Reply } from './message.ts';

/** A frame that is no message; its tag tells where to answer. */
export interface Malformed {
  readonly kind: 'malformed';
  readonly tag: number;
  readonly reason: string;
}

type Fields = Readonly<Record<string, FieldKind>>;

/** What the size of the frame at `at` says, or undefined while it is not there yet. */
export function frameOctets(bytes: Uint8Array, at: number, end: number): number | undefined {
  if (end - at < 4) return undefined;
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}

/** Parses one whole frame, `bytes` from `at` to `end`. */
export function parse(bytes: Uint8Array, at: number, end: number, dialect: Dialect): Message | Malformed {
  const from = new Reader(bytes, at, end);
  const size = from.u32();
  const code = from.u8();
  const tag = from.u16();
  const malformed = (reason: string): Malformed => ({ kind: 'malformed', tag, reason });
  if (from.fault !== undefined || size !== end - at) return malformed('the frame is not as long as it says');
  const kind = kindOfCode.get(code);
  if (kind === undefined) return malformed(`no message has the type ${code}`);
  const message: Record<string, unknown> = { kind, tag };
  const unix = hasUnixFields(dialect);
  const fields: Fields = layouts[kind].fields;
  for (const name in fields) message[name] = fieldCodecs[fields[name]!].read(from, unix);
  if (from.fault !== undefined) return malformed(`${kind}: ${from.fault}`);
  if (from.at !== end) return malformed(`${kind}: octets are left after its end`);
  return message as unknown as Message;
}

/** Writes a message at `at`; its octets, or 0 when it does not fit before `end`. */
export function emit(
  message: Reply | Message,
  tag: number,
  dialect: Dialect,
  bytes: Uint8Array,
  at = 0,
  end = bytes.length,
): number {
  const into = new Writer(bytes, at, end);
  const fields: Fields = layouts[message.kind].fields;
  const values = message as unknown as Readonly<Record<string, never>>;
  into.u32(0);
  into.u8(layouts[message.kind].code);
  into.u16(tag);
  const unix = hasUnixFields(dialect);
  for (const name in fields) fieldCodecs[fields[name]!].write(into, values[name]!, unix);
  if (into.full) return 0;
  into.patch32(at, into.at - at);
  return into.at - at;
}
