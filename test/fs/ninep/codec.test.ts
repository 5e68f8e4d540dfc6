/** 9P's messages: what is emitted parses to the same, and no octets make the parser throw. */

import fc from 'fast-check';
import t from 'tap';
import { emit, frameOctets, parse } from '../../../src/fs/ninep/codec.ts';
import { chooseDialect } from '../../../src/fs/ninep/dialect.ts';
import { layouts } from '../../../src/fs/ninep/message.ts';
import { dialects, message } from './messages.ts';

const buffer = new Uint8Array(16_384);

t.test('what is emitted parses to the same message, at any place of a buffer', (t) => {
  for (const dialect of dialects)
    fc.assert(
      fc.property(message(dialect), fc.integer({ min: 0, max: 100 }), (wanted, at) => {
        const octets = emit(wanted, wanted.tag, dialect, buffer, at);
        t.not(octets, 0);
        if (frameOctets(buffer, at, buffer.length) !== octets) return false;
        t.strictSame(parse(buffer, at, at + octets, dialect), wanted);
        return true;
      }),
      { numRuns: 300 },
    );
  t.end();
});

t.test('a buffer too small gets nothing said to be in it', (t) => {
  fc.assert(
    fc.property(message('9P2000.u'), fc.nat(60), (wanted, room) => {
      const whole = emit(wanted, wanted.tag, '9P2000.u', buffer);
      return emit(wanted, wanted.tag, '9P2000.u', buffer, 0, room) === (room >= whole ? whole : 0);
    }),
  );
  t.end();
});

t.test('arbitrary octets parse to a message or a reason', (t) => {
  const frame = fc.oneof(
    fc.uint8Array({ maxLength: 120 }),
    fc
      .tuple(fc.constantFrom(...Object.values(layouts).map(({ code }) => code)), fc.uint8Array({ maxLength: 120 }))
      .map(([code, rest]) => Uint8Array.of(rest.length + 7, 0, 0, 0, code, 1, 0, ...rest)),
  );
  fc.assert(
    fc.property(frame, fc.constantFrom(...dialects), (bytes, dialect) => {
      const parsed = parse(bytes, 0, bytes.length, dialect);
      if (parsed.kind === 'malformed') return parsed.reason !== '';
      // What parses is the message it says: emitted again, it is the same octets.
      const octets = emit(parsed, parsed.tag, dialect, buffer);
      return octets === bytes.length && Buffer.compare(buffer.subarray(0, octets), bytes) === 0;
    }),
    { numRuns: 5_000 },
  );
  t.end();
});

t.test('a message cut anywhere, or with an octet changed, is no accident', (t) => {
  for (const dialect of dialects)
    fc.assert(
      fc.property(message(dialect), fc.nat(), fc.nat(255), (wanted, where, octet) => {
        const octets = emit(wanted, wanted.tag, dialect, buffer);
        const bytes = buffer.slice(0, octets);
        bytes[where % octets] = octet;
        parse(bytes, 0, octets, dialect);
        return parse(bytes, 0, where % octets, dialect).kind === 'malformed';
      }),
      { numRuns: 300 },
    );
  t.end();
});

t.test('the version is chosen as version(5) says', (t) => {
  t.equal(chooseDialect('9P2000.L'), '9P2000.L');
  t.equal(chooseDialect('9P2000.u'), '9P2000.u');
  t.equal(chooseDialect('9P2000'), '9P2000');
  t.equal(chooseDialect('9P2000.e'), '9P2000', 'an unknown extension is left out');
  t.equal(chooseDialect('9P2030'), '9P2000', 'a later version falls back');
  for (const other of ['', '9P', '9P1999', '8P2000', 'unknown', '9P2000x'])
    t.equal(chooseDialect(other), undefined, other);
  t.end();
});
