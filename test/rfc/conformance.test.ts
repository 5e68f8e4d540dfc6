/** docs/CONFORMANCE.md is made of the tests' names, and cannot drift from them. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { conformanceDocument, namesOf } from '../../tools/conformance.ts';

t.test('docs/CONFORMANCE.md is what the tests say', async (t) => {
  const path = join(import.meta.dirname, '../../docs/CONFORMANCE.md');
  t.equal(readFileSync(path, 'utf8'), conformanceDocument(), 'else: node tools/conformance.ts');
});

t.test('names are read however they are laid out', async (t) => {
  t.same(namesOf("t.test('3.1: a', async () => {});\nt.test(\n  '3.2: it\\'s b (c)',\n  async () => {},\n);\n"), [
    ['3.1', 'a'],
    ['3.2', "it\\'s b (c)"],
  ]);
  t.throws(() => namesOf("t.test('no section', async () => {});"), /section: behaviour/);
});
