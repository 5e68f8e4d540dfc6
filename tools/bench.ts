/**
 * `npm run bench [-- NAME...]`: runs bench/NAME.bench.ts, prints what each prints, and keeps every row with machine and
 * versions as JSON under bench/results/. `e2e` and `report` are programs with options of their own.
 */

import { spawnSync } from 'node:child_process';
import { globSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';

const root = join(import.meta.dirname, '..');
const results = join(root, 'bench/results');
const programs: Readonly<Record<string, string>> = {
  e2e: 'bench/e2e/e2e.ts',
  report: 'bench/report/report.ts',
};
const benches = new Map(
  globSync('bench/**/*.bench.ts', { cwd: root })
    .sort()
    .map((file) => [basename(file, '.bench.ts'), file]),
);
/** Takes minutes, or a VM: run when named. */
const onRequest = new Set(['start']);
const [first, ...rest] = process.argv.slice(2);

/** The first sentence of a file's opening comment, or its beginning where that is long. */
function summary(file: string): string {
  const comment = /\/\*\*([\s\S]*?)\*\//.exec(readFileSync(join(root, file), 'utf8'))?.[1] ?? '';
  const words = comment.replace(/\s*\*\s*/g, ' ').trim();
  const sentence = /^.*?[.:](?=\s|$)/.exec(words)?.[0].slice(0, -1) ?? words;
  return sentence.length > 100 ? sentence.split(',')[0]! : sentence;
}

function usage(): string {
  const line = (name: string, file: string): string => `  ${name.padEnd(9)} ${summary(file)}`;
  return [
    'usage: npm run bench [-- NAME...]',
    '       npm run bench -- e2e|report [OPTIONS]',
    '',
    `Runs the benches named, or all but ${[...onRequest].join(' and ')} and then a short e2e. Each prints rows with the ratio to a twin, a`,
    'baseline or a rival measured in the same run, and leaves them in bench/results/NAME.json (e2e.jsonl).',
    '',
    ...[...benches].map(([name, file]) => line(name, file)),
    '',
    'With options of their own (--help):',
    ...Object.entries(programs).map(([name, file]) => line(name, file)),
    '',
    'Example:',
    '  $ npm run bench -- wire tables',
  ].join('\n');
}

function run(file: string, argv: readonly string[], env: NodeJS.ProcessEnv = process.env): void {
  const { status } = spawnSync(process.execPath, [join(root, file), ...argv], { env, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

const program = first === undefined ? undefined : programs[first];
if (first === '--help' || first === '-h') {
  console.log(usage());
} else if (program !== undefined) {
  run(program, rest);
} else {
  const asked = first === undefined ? [...benches.keys()].filter((name) => !onRequest.has(name)) : [first, ...rest];
  const unknown = asked.find((name) => !benches.has(name));
  if (unknown !== undefined) {
    console.error(`there is no bench '${unknown}': npm run bench -- --help lists them`);
    process.exit(2);
  }
  mkdirSync(results, { recursive: true });
  for (const name of asked) {
    console.log(`\n## ${name}`);
    run(benches.get(name)!, [], { ...process.env, BENCH_JSON: join(results, `${name}.json`) });
  }
  if (first === undefined) {
    console.log('\n## e2e');
    const out = join(results, 'e2e.jsonl');
    rmSync(out, { force: true });
    run(programs.e2e!, ['--quick', '--out', out]);
  }
}
