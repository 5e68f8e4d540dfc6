/** Writes docs/CONFORMANCE.md from the names of the tests under test/rfc and test/conformance, and the deviations kept there. */

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { elsewhere } from '../test/conformance/elsewhere.ts';
import { absent, type Deviation, deviations } from '../test/rfc/deviations.ts';
import type { Results } from '../test/rivals/results.ts';

const root = join(import.meta.dirname, '..');
const NAME = /^t\.test\(\s*(['"`])((?:\\.|(?!\1).)*)\1/gm;
const TITLE = /^\/\*\*\s*(?:\* )?RFC \d+, (.*?)(?::|, by|\. By|\. )/;

interface Row {
  readonly section: string;
  readonly behaviour: string;
  readonly deviation: boolean;
}

/** Sections in their order: numbers by value, what is no number by its letters. */
function bySection(a: Row, b: Row): number {
  const left = a.section.split('.');
  const right = b.section.split('.');
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const one = left[i] ?? '';
    const other = right[i] ?? '';
    const difference = Number(one) - Number(other);
    if (difference !== 0 && !Number.isNaN(difference)) return difference;
    if (one !== other) return one < other ? -1 : 1;
  }
  return Number(a.deviation) - Number(b.deviation);
}

/** Names of a file's tests, each `section: behaviour`. */
export function namesOf(text: string): readonly (readonly [section: string, behaviour: string])[] {
  return Array.from(text.matchAll(NAME), ([, , name]) => {
    const at = name!.indexOf(': ');
    if (at < 0) throw new Error(`the test '${name}' is not named 'section: behaviour'`);
    return [name!.slice(0, at), name!.slice(at + 2)] as const;
  });
}

const rowOf = ({ section, what, why }: Deviation): Row => ({
  section,
  behaviour: `**Deviation.** ${what}. *${why}.*`,
  deviation: true,
});

const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function table(rows: readonly Row[]): string[] {
  const lines = rows.map(({ section, behaviour }) => `| ${section} | ${capital(behaviour)} |`);
  return ['', '| Section | Behaviour |', '| --- | --- |', ...lines];
}

export function conformanceDocument(): string {
  const folder = join(root, 'test/rfc');
  const numbers = readdirSync(folder)
    .map((file) => /^rfc(\d+)\.test\.ts$/.exec(file)?.[1])
    .filter((number) => number !== undefined)
    .map(Number)
    .sort((a, b) => a - b);
  const texts = new Map(numbers.map((number) => [number, readFileSync(join(folder, `rfc${number}.test.ts`), 'utf8')]));
  const stray = deviations.find(({ rfc }) => !texts.has(rfc));
  if (stray) throw new Error(`a deviation from RFC ${stray.rfc}, which has no tests`);
  const lines = [
    '# Conformance',
    '',
    'What the stack does, by RFC and section. Every row is the name of a test, which fails if the row is not true;',
    'rows that begin with **Deviation** say where the stack departs from the text, and why. As a whole the state machine',
    'is held against [a model of it](../test/rfc/tcp-model.ts) that shares no code with the stack, on random segments.',
    'Written by `node tools/conformance.ts` from the names under `test/rfc` and from `test/rfc/deviations.ts`.',
    '',
    '| RFC | | Behaviours tested | Deviations |',
    '| --- | --- | --: | --: |',
  ];
  const chapters: string[] = [];
  for (const [number, text] of texts) {
    const title = TITLE.exec(text)?.[1];
    if (!title) throw new Error(`test/rfc/rfc${number}.test.ts does not begin with its RFC's title`);
    const names = namesOf(text);
    const own = deviations.filter(({ rfc }) => rfc === number);
    const link = `[${number}](#rfc-${number})`;
    lines.push(`| ${link} | ${title} | ${names.length} | ${own.length} |`);
    const rows = names.map(([section, behaviour]) => ({ section, behaviour, deviation: false }));
    chapters.push('', `## RFC ${number}`, '', `${title}. [rfc${number}.test.ts](../test/rfc/rfc${number}.test.ts)`);
    chapters.push(...table([...rows, ...own.map(rowOf)].sort(bySection)));
  }
  lines.push(...chapters, '', '## Not implemented', '', '| RFC | Instead |', '| --- | --- |');
  for (const [rfc, instead] of absent) lines.push(`| ${rfc} | ${instead} |`);
  lines.push(...reported(), ...compared());
  return `${lines.join('\n')}\n`;
}

/** The reported cases, those that are tests of other parts among them. */
function reported(): string[] {
  const own = ['reported', 'descriptors'].flatMap((name) => {
    const file = `test/conformance/${name}.test.ts`;
    return namesOf(readFileSync(join(root, file), 'utf8')).map(([section, behaviour]) => ({
      number: Number(section.replace('case ', '')),
      what: behaviour,
      file,
    }));
  });
  for (const { file, tests } of elsewhere) {
    const text = readFileSync(join(root, file), 'utf8');
    const gone = tests.find((name) => !text.includes(`'${name}'`));
    if (gone) throw new Error(`${file} has no test '${gone}', which test/conformance/elsewhere.ts names`);
  }
  const cases = [...own, ...elsewhere].sort((a, b) => a.number - b.number);
  return [
    '',
    '## What users of other network cores reported',
    '',
    'Bugs that were filed against others, as tests.',
    '',
    '| Case | | Tested in |',
    '| --- | --- | --- |',
    ...cases.map(({ number, what, file }) => `| ${number} | ${capital(what)} | [${basename(file)}](../${file}) |`),
  ];
}

/** What `npm run rivals` has written. */
function compared(): string[] {
  const file = join(root, 'test/rivals/results.json');
  const { date, players, cases } = JSON.parse(readFileSync(file, 'utf8')) as Results;
  const holds = (column: number): number => cases.filter(({ outcomes }) => outcomes[column] === 'yes').length;
  const cell = (outcome: string): string => (outcome === 'yes' ? 'yes' : `**no**: ${outcome}`);
  return [
    '',
    '## The same scripts against other network cores',
    '',
    'Some of the behaviours above, played through the link of each: frames over QEMU’s stream socket on the guest’s side,',
    'real sockets on the host’s ([test/rivals](../test/rivals)). A case that fails was played three times. Some of what',
    'fails is meant so: who trusts the hypervisor with checksums does not look at them, for one. slirp4netns is libslirp',
    `as well. Written by \`npm run rivals\` on ${date}: ${players.map(({ name, version }) => (version.startsWith(name) ? version : `${name} ${version}`)).join('; ')}.`,
    '',
    `| RFC | Section | Behaviour | ${players.map(({ name }) => name).join(' | ')} |`,
    `| --- | --- | --- | ${players.map(() => '---').join(' | ')} |`,
    ...cases.map(
      ({ rfc, section, behaviour, outcomes }) =>
        `| ${rfc} | ${section} | ${capital(behaviour)} | ${outcomes.map(cell).join(' | ')} |`,
    ),
    `| | | Of ${cases.length} | ${players.map((_, column) => holds(column)).join(' | ')} |`,
  ];
}

if (process.argv[1] === import.meta.filename) writeFileSync(join(root, 'docs/CONFORMANCE.md'), conformanceDocument());
