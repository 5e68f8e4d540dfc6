/**
 * `npm run bench [-- NAME...]`: runs bench/NAME.bench.ts (all but `start` and `e2e` when none is named), prints what
 * each prints, and keeps every row with machine and versions as JSON under bench/results/.
 */

import { spawnSync } from 'node:child_process';
import { globSync, mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';

const root = join(import.meta.dirname, '..');
const results = join(root, 'bench/results');
const names = globSync('bench/**/*.bench.ts', { cwd: root }).sort();
const nameOf = (file: string): string => basename(file, '.bench.ts');
/** Long, or in need of root and rivals: run when named. */
const onRequest = new Set(['start', 'e2e']);
const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !names.some((file) => nameOf(file) === name));
if (unknown.length > 0) {
  console.error(`there is no bench '${unknown[0]}'; there are ${names.map(nameOf).join(', ')}`);
  process.exit(2);
}
mkdirSync(results, { recursive: true });
for (const file of names) {
  const name = nameOf(file);
  if (asked.length > 0 ? !asked.includes(name) : onRequest.has(name)) continue;
  console.log(`\n## ${name}`);
  const env = { ...process.env, BENCH_JSON: join(results, `${name}.json`) };
  const status = spawnSync(process.execPath, [join(root, file)], { cwd: root, env, stdio: 'inherit' }).status;
  if (status !== 0) process.exit(status ?? 1);
}
