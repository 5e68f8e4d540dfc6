/**
 * `npm test [-- FILE...]`: installs what the tests need, runs them in two phases, and ends with one line of counts.
 * Phase one: everything outside test/vm, files in parallel. Phase two: test/vm, one file at a time against one VM,
 * which is started here from nothing (a fresh home) and taken down at the end.
 */

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ensureDebianPackages } from './debian.ts';
import { startPackages, testPackages } from './packages.ts';

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
}

const root = join(import.meta.dirname, '..');
const tap = join(root, 'node_modules/tap/dist/esm/run.mjs');
const total: Counts = { passed: 0, failed: 0, skipped: 0 };

/** tap is assembled from the plugins that package.json names, once after each install. */
function buildTap(): void {
  const stamp = join(root, 'node_modules/@tapjs/test/.slipway-built');
  if (existsSync(stamp)) return;
  console.log('Assembling the test runner ...');
  const built = spawnSync(process.execPath, [tap, 'build'], { cwd: root, encoding: 'utf8' });
  if (built.status !== 0) throw new Error(`tap build failed:\n${built.stdout}${built.stderr}`);
  writeFileSync(stamp, '');
}

/** Runs test files under tap; prints a line per file, and all that a failing file said. */
async function run(files: readonly string[], jobs: number, env: NodeJS.ProcessEnv): Promise<void> {
  const argv = ['run', '--disable-coverage', '--reporter=tap', '--timeout=600', `--jobs=${jobs}`, ...files];
  const child = spawn(process.execPath, [tap, ...argv], { cwd: root, env, stdio: ['ignore', 'pipe', 'inherit'] });
  let said: string[] = [];
  let counted = false;
  for await (const line of createInterface({ input: child.stdout })) {
    const done = /^(not ok|ok) \d+ - (\S+)(.*)$/.exec(line);
    const counts = /^# \{ total: \d+,? ?(.*)\}$/.exec(line);
    if (done) {
      if (done[1] === 'not ok') console.log(said.join('\n'));
      console.log(`${done[1] === 'ok' ? 'ok    ' : 'FAILED'} ${done[2]}${done[3]}`);
      said = [];
    } else if (counts) {
      const count = (name: string): number => Number(new RegExp(`${name}: (\\d+)`).exec(counts[1]!)?.[1] ?? 0);
      total.passed += count('pass');
      total.failed += count('fail');
      total.skipped += count('skip') + count('todo');
      counted = true;
    } else {
      said.push(line);
      if (said.length > 2000) said.splice(0, 1000);
    }
  }
  const status =
    child.exitCode ?? (await new Promise<number>((resolve) => child.once('exit', (code) => resolve(code ?? 1))));
  if (status !== 0) console.log(said.filter((line) => line !== '').join('\n'));
  if (status !== 0 && (!counted || total.failed === 0)) total.failed++;
}

function slipway(env: NodeJS.ProcessEnv, ...argv: string[]): number {
  return (
    spawnSync(join(root, 'bin/slipway'), argv, { cwd: root, env, stdio: ['ignore', 'inherit', 'inherit'] }).status ?? 1
  );
}

async function main(chosen: readonly string[]): Promise<void> {
  const all = chosen.length > 0 ? chosen : globSync('test/**/*.test.ts', { cwd: root }).sort();
  const inVm = all.filter((file) => file.startsWith('test/vm/'));
  const plain = all.filter((file) => !file.startsWith('test/vm/'));
  ensureDebianPackages([...startPackages, ...testPackages]);
  buildTap();
  if (plain.length > 0) await run(plain, 2, process.env);
  if (inVm.length === 0) return;
  const home = mkdtempSync(join(tmpdir(), 'slipway-test-'));
  const env = { ...process.env, SLIPWAY_HOME: home, DOCKER_CONFIG: join(home, 'docker-config') };
  try {
    if (slipway(env, 'up') !== 0) {
      console.log('FAILED: the VM for test/vm did not come up');
      total.failed++;
      slipway(env, 'logs');
      return;
    }
    await run(inVm, 1, env);
  } finally {
    slipway(env, 'down');
    rmSync(home, { recursive: true, force: true });
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  total.failed++;
}
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exit(total.failed > 0 || total.passed === 0 ? 1 : 0);
