/**
 * `npm run mutants [-- NAME...]`: applies each patch of test/mutants to a copy of the stack, one wrong line at a time,
 * and runs the tests of TCP's state machine on it. A mutant that no test notices is a hole in the tests: exit status 1.
 */

import { spawnSync } from 'node:child_process';
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

const root = join(import.meta.dirname, '..');
/** The likeliest to notice come first. */
const numbers = ['9293', '5961', '7323', '2018', '6675', '8985', '3522', '1122', '6298'];
const tests = [...numbers.map((number) => `rfc${number}`), 'model'].map((name) => `test/rfc/${name}.test.ts`);

export const mutants = (): string[] => globSync('test/mutants/*.patch', { cwd: root }).sort();

/** A copy of what the tests need, in which nothing else changes meanwhile. */
export function copyOfStack(): string {
  const copy = mkdtempSync(join(tmpdir(), 'slipway-mutants-'));
  mkdirSync(join(copy, 'src'));
  for (const part of ['src/stack', 'src/proxy', 'test/stack', 'test/rfc', 'package.json'])
    cpSync(join(root, part), join(copy, part), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

/** Applies a patch, or takes it back; returns what git has to say against it. */
export function apply(copy: string, patch: string, ...how: string[]): string | undefined {
  const argv = ['apply', '--recount', '-C1', ...how, join(root, patch)];
  const env = { ...process.env, GIT_CEILING_DIRECTORIES: tmpdir() };
  const { status, stderr } = spawnSync('git', argv, { cwd: copy, env, encoding: 'utf8' });
  return status === 0 ? undefined : stderr;
}

/** The first test that fails in the copy, and in which file; undefined: all pass. */
function firstFailure(copy: string): string | undefined {
  for (const file of tests) {
    // What a mutant's failures leave goes with the copy.
    const env = { ...process.env, SLIPWAY_RECORDINGS: copy };
    const run = spawnSync(process.execPath, [file], { cwd: copy, env, encoding: 'utf8', timeout: 120_000 });
    if (run.status === 0) continue;
    const name = /^not ok \d+ - (.*?)(?: # time=.*)?$/m.exec(run.stdout)?.[1];
    return `${basename(file)}: ${name ?? run.stderr.trim().split('\n').at(-1)}`;
  }
  return undefined;
}

function main(names: readonly string[]): number {
  const copy = copyOfStack();
  let missed = 0;
  try {
    const before = firstFailure(copy);
    if (before !== undefined) {
      console.error(`the tests fail without any mutant (${before}); mend that first`);
      return 1;
    }
    const chosen = mutants().filter((patch) => names.length === 0 || names.includes(basename(patch, '.patch')));
    for (const patch of chosen) {
      const what = readFileSync(join(root, patch), 'utf8').split('\n')[0];
      const fault = apply(copy, patch);
      if (fault !== undefined) {
        console.error(`${patch} does not apply any more: make it anew for the code as it is\n${fault}`);
        missed++;
        continue;
      }
      const found = firstFailure(copy);
      apply(copy, patch, '--reverse');
      if (found === undefined) missed++;
      console.log(`${found === undefined ? 'MISSED' : 'caught'} ${basename(patch, '.patch')}: ${what}`);
      if (found !== undefined) console.log(`       by ${found}`);
    }
    console.log(`${chosen.length - missed} of ${chosen.length} mutants caught`);
    return missed === 0 && chosen.length > 0 ? 0 : 1;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

if (process.argv[1] === import.meta.filename) process.exit(main(process.argv.slice(2)));
