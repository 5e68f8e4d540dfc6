/** The charts and the tables of docs/PERFORMANCE.md, from results of the race: `npm run bench -- report FILE...` */

import { existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { judgeAll } from './goals.ts';
import { machine, peerVersion } from './machine.ts';
import {
  type BenchResult,
  benchText,
  charts,
  commandsOf,
  linksText,
  measuredText,
  raceText,
  replaceSection,
  startText,
  verdictText,
} from './page.ts';
import { isLimit, isOurs, readHeader, readRepetitions, sectionsOf } from './race.ts';

const usage = `usage: npm run bench -- report [--rivals DIR] [--commit ID] [FILE...]

Draws docs/charts/*.svg and fills in docs/PERFORMANCE.md: the race from FILEs (JSON lines, as netbench.py run --out
and npm run bench -- e2e --out write them), the rest from what the last npm run bench left in bench/results. Parts
without figures stay as they are. Of the same attachment and MTU in several FILEs, the last one counts.

  --rivals DIR   where the rivals are that raced, for their versions (default $RIVALS; then PATH)
  --commit ID    what raced, where it is not this tree's commit

Example:
  $ npm run bench -- report --rivals /opt/rivals race.jsonl tap.jsonl
`;

const root = join(import.meta.dirname, '../..');
const pagePath = join(root, 'docs/PERFORMANCE.md');
const chartFolder = join(root, 'docs/charts');

/** Parts of the page, the benches that each shows (by the beginnings of their names), and how. */
const parts: readonly (readonly [string, readonly string[], (results: readonly BenchResult[]) => string])[] = [
  ['start', ['serve'], ([result]) => startText(result!)],
  ['pipe', ['pipe'], benchText],
  ['memory', ['links'], ([result]) => linksText(result!)],
  ['stages', ['wire', 'tables', 'segment', 'tcp'], benchText],
];

function fail(message: string): never {
  console.error(message);
  process.exit(2);
}

function options(): { files: string[]; rivals: string | undefined; commit: string | undefined } {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { rivals: { type: 'string' }, commit: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    return { files: positionals, rivals: values.rivals ?? process.env.RIVALS, commit: values.commit };
  } catch (error) {
    return fail(`${(error as Error).message}\n\n${usage}`);
  }
}

const { files, rivals, commit } = options();
const missing = files.find((file) => !existsSync(file));
if (missing !== undefined) fail(`there is no file ${missing}`);
let page = readFileSync(pagePath, 'utf8');

const results = files.map((file) => {
  const text = readFileSync(file, 'utf8');
  return { header: readHeader(text), repetitions: readRepetitions(text) };
});
const sections = sectionsOf(results.map(({ repetitions }) => repetitions));
if (files.length > 0 && sections.length === 0) fail('the files hold no results of a race');
if (sections.length > 0) {
  const drawn = charts(sections);
  mkdirSync(chartFolder, { recursive: true });
  for (const file of globSync('*.svg', { cwd: chartFolder })) rmSync(join(chartFolder, file));
  for (const [name, svg] of drawn) writeFileSync(join(chartFolder, name), svg);
  const peers = new Set(sections.flatMap((section) => section.peers).filter((peer) => !isOurs(peer) && !isLimit(peer)));
  // Whoever wrote a header knows; otherwise it is this machine, and what is installed on it.
  const headers = results.flatMap(({ header }) => header ?? []);
  const versions = new Map(
    [...peers].flatMap((peer): [string, string][] => {
      const version = headers.find((header) => header.versions[peer])?.versions[peer] ?? peerVersion(peer, rivals);
      return version === undefined ? [] : [[peer, version]];
    }),
  );
  const commands = results.flatMap(({ header, repetitions }) => commandsOf(repetitions, header !== undefined));
  const known = headers.length === results.length ? headers[0]!.machine : machine();
  const verdicts = judgeAll(sections);
  page = replaceSection(page, 'verdicts', verdictText(verdicts));
  page = replaceSection(
    page,
    'measured',
    measuredText(sections, { ...known, ...(commit && { commit }) }, versions, commands),
  );
  page = replaceSection(page, 'race', raceText(sections, drawn));
  console.log(
    `${sections.length} sections, ${drawn.size} charts; ${verdicts.filter(({ met }) => met).length} of ${verdicts.length} must-figures met`,
  );
}

for (const [part, names, textOf] of parts) {
  const results = names
    .flatMap((name) => globSync(`bench/results/${name}*.json`, { cwd: root }))
    .map((path) => JSON.parse(readFileSync(join(root, path), 'utf8')) as BenchResult);
  if (results.length > 0) page = replaceSection(page, part, textOf(results));
}
writeFileSync(pagePath, page);
