/** Arbitrary 9P messages, made from the table of their fields. */

import fc from 'fast-check';
import { type Dialect, hasUnixFields, NONUNAME } from '../../../src/fs/ninep/dialect.ts';
import { type FieldKind, layouts, type Message, type MessageKind } from '../../../src/fs/ninep/message.ts';

export const dialects: readonly Dialect[] = ['9P2000', '9P2000.u', '9P2000.L'];

const u8 = fc.integer({ min: 0, max: 0xff });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const u64 = fc.bigInt({ min: 0n, max: 0xffffffffffffffffn });
const text = fc.string({ unit: 'binary', maxLength: 20 });
const qid = fc.record({ type: u8, version: u32, path: u64 }, { noNullPrototype: true });

function field(kind: FieldKind, unix: boolean): fc.Arbitrary<unknown> {
  const unixText = unix ? text : fc.constant('');
  const unixNumber = unix ? u32 : fc.constant(NONUNAME);
  switch (kind) {
    case 'u8':
      return u8;
    case 'u16':
      return u16;
    case 'u32':
      return u32;
    case 'u64':
      return u64;
    case 'text':
      return text;
    case 'qid':
      return qid;
    case 'data':
      return fc.uint8Array({ maxLength: 40 });
    case 'names':
      return fc.array(text, { maxLength: 17 });
    case 'qids':
      return fc.array(qid, { maxLength: 17 });
    case 'unix-u32':
      return unixNumber;
    case 'unix-text':
      return unixText;
    case 'stat':
      return fc.record(
        {
          type: u16,
          dev: u32,
          qid,
          mode: u32,
          atime: u32,
          mtime: u32,
          length: u64,
          name: text,
          uid: text,
          gid: text,
          muid: text,
          extension: unixText,
          nUid: unixNumber,
          nGid: unixNumber,
          nMuid: unixNumber,
        },
        { noNullPrototype: true },
      );
  }
}

/** Any message of a dialect, of any kind or of those given. */
export function message(
  dialect: Dialect,
  kinds: readonly MessageKind[] = Object.keys(layouts) as MessageKind[],
): fc.Arbitrary<Message> {
  const unix = hasUnixFields(dialect);
  return fc.constantFrom(...kinds).chain((kind) => {
    const fields: Readonly<Record<string, FieldKind>> = layouts[kind].fields;
    const values = Object.fromEntries(Object.entries(fields).map(([name, of]) => [name, field(of, unix)]));
    return fc.record(
      { kind: fc.constant(kind), tag: u16, ...values },
      { noNullPrototype: true },
    ) as fc.Arbitrary<unknown>;
  }) as fc.Arbitrary<Message>;
}
