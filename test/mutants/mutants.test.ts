/** `npm run mutants` is long; that its patches still fit the code is told at once. */

import { rmSync } from 'node:fs';
import t from 'tap';
import { apply, copyOfStack, mutants } from '../../tools/mutants.ts';

t.test('every mutant applies to the stack as it is, and can be taken back', async (t) => {
  const copy = copyOfStack();
  t.teardown(() => rmSync(copy, { recursive: true, force: true }));
  const patches = mutants();
  t.ok(patches.length >= 10, `${patches.length} mutants`);
  for (const patch of patches) {
    t.equal(apply(copy, patch), undefined, patch);
    t.equal(apply(copy, patch, '--reverse'), undefined, patch);
  }
});
