/** A setting's value on one line, and back. */

import fc from 'fast-check';
import t from 'tap';
import { lineOf, textOf } from '../../src/cli/setting-line.ts';

t.test('whatever the value, it is one line, and comes back as it was', async (t) => {
  const value = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({ unit: fc.constantFrom('a', ' ', '\n', '\r', '"', '\\', '\u2028', '\t') }),
  );
  fc.assert(
    fc.property(value, (text) => {
      const line = lineOf(text);
      t.notOk(/[\r\n\u2028\u2029]/.test(line));
      t.equal(line.trim(), line);
      t.equal(textOf(line), text);
    }),
  );
  t.equal(lineOf('deny any; allow icmp'), 'deny any; allow icmp');
  t.equal(lineOf('deny any\nallow icmp'), '"deny any\\nallow icmp"');
  t.equal(lineOf(1500), '1500');
  t.throws(() => textOf('"deny any'), { message: /"deny any begins with a quotation mark and is no JSON string/ });
});
