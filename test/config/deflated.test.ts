/** Zlib's form, as zlib reads it. */

import { inflateSync } from 'node:zlib';
import fc from 'fast-check';
import t from 'tap';
import { deflated } from '../../src/config/adapter/deflated.ts';

t.test('what is deflated is inflated to the same', async () => {
  const length = fc.oneof(fc.nat(300), fc.constantFrom(0, 2047, 2048, 2049, 65_535, 65_536, 200_000));
  fc.assert(
    fc.property(length, fc.uint8Array({ minLength: 1, maxLength: 40 }), (octets, pattern) => {
      const wanted = Buffer.alloc(octets, pattern);
      return wanted.equals(inflateSync(deflated(wanted)));
    }),
    { verbose: true, numRuns: 300 },
  );
  const highest = Buffer.alloc(2048, 0xff);
  t.ok(highest.equals(inflateSync(deflated(highest))), 'no sum overflows');
});
