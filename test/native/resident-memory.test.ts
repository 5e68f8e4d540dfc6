/** What a start took and nothing needs is given back, and what is wanted again comes back by itself. */

import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t from 'tap';
import { unchangedMappings } from '../../src/native/resident-memory.ts';

const module = fileURLToPath(new URL('../../src/native/resident-memory.ts', import.meta.url));
const program = `
  const { giveBackMemory } = await import(${JSON.stringify(module)});
  const { readFileSync } = await import('node:fs');
  const kilobytes = () => Number(/^RssFile:\\s+(\\d+)/m.exec(readFileSync('/proc/self/status', 'latin1'))[1]);
  const before = kilobytes();
  giveBackMemory();
  const after = kilobytes();
  // Code and constants that were given away are still to be had.
  const parsed = JSON.parse('{"a":[1,2,3]}');
  const sorted = new Intl.Collator('de').compare('a', 'b');
  console.log(JSON.stringify({ before, after, works: parsed.a.length === 3 && sorted < 0 }));
`;

t.test('pages of the program that its start went through', (t) => {
  const argv = ['--input-type=module', '-e', program];
  const { before, after, works } = JSON.parse(execFileSync(process.execPath, argv, { encoding: 'utf8' }));
  t.ok(after < before / 2, `${before} kB of files were resident, then ${after} kB`);
  t.ok(works, 'the program goes on');
  t.end();
});

const mapping = (header: string, dirty = 0, anonymous = 0): string =>
  `${header}\nSize: 8 kB\nRss: 8 kB\nPrivate_Dirty: ${String(dirty).padStart(8)} kB\nAnonymous: ${String(anonymous).padStart(8)} kB\nVmFlags: rd ex mr mw me\n`;

t.test('mappings that have nothing of the process in them', (t) => {
  const smaps = [
    mapping('00400000-00746000 r--p 00000000 fe:00 42                         /opt/node'),
    mapping('0074a000-03044000 r-xp 0034a000 fe:00 42                         /opt/node'),
    mapping('03044000-03050000 r--p 02c44000 fe:00 42                         /opt/node', 8, 8),
    mapping('03050000-03060000 rw-p 02c50000 fe:00 42                         /opt/node'),
    mapping('7f0000000000-7f0000010000 r-xp 00000000 fe:00 43                 /lib/libc.so.6'),
    mapping('7f0000020000-7f0000030000 rw-p 00000000 00:00 0'),
  ].join('');
  t.same(unchangedMappings(smaps, '/opt/node'), [
    { start: 0x40_0000, end: 0x74_6000 },
    { start: 0x74_a000, end: 0x304_4000 },
  ]);
  t.end();
});

t.test('whatever smaps says, only whole mappings of the program are found', (t) => {
  const line = fc.oneof(
    fc.string(),
    fc.constantFrom(
      'Anonymous: 0 kB',
      'Private_Dirty: 0 kB',
      '1000-2000 r-xp 0 0:0 1 /opt/node',
      '3000-4000 rw-p 0 0:0 1 /opt/node',
    ),
  );
  fc.assert(
    fc.property(fc.array(line), (lines) => {
      for (const { start, end } of unchangedMappings(lines.join('\n'), '/opt/node'))
        if (start !== 0x1000 || end !== 0x2000) return false;
      return true;
    }),
  );
  t.end();
});
