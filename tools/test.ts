/**
 * `npm test [-- FILE...]`: installs what the tests need, runs them in two phases, and ends with one line of counts.
 * Phase one: everything outside test/vm, files in parallel. Phase two: test/vm, one file at a time against one VM,
 * which is started here from nothing (a fresh home) and taken down at the end.
 */

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { globSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureDebianPackages } from './debian.ts';
import { startPackages, testPackages } from './packages.ts';

const root = join(import.meta.dirname, '..');
const total = { passed: 0, failed: 0, skipped: 0 };
/** A file that takes longer hangs. */
const FILE_TIMEOUT_MS = 600_000;
/** What tap says at a file's end, such as `# { total: 7, pass: 6, fail: 1 }`. */
const COUNTS = /^# \{ total: \d+(.*)\}$/m;

/** Runs one file by itself; prints a line, and all that it said when it failed. */
async function runFile(file: string, env: NodeJS.ProcessEnv): Promise<void> {
  const started = performance.now();
  const child = spawn(process.execPath, [join(root, file)], { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const said: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => said.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => said.push(chunk));
  const hangs = setTimeout(() => child.kill('SIGKILL'), FILE_TIMEOUT_MS);
  // Not 'close': a process that the file left behind would hold the pipes open.
  const [status] = (await once(child, 'exit')) as [number | null];
  await new Promise((resolve) => setImmediate(resolve));
  clearTimeout(hangs);
  const text = Buffer.concat(said).toString();
  const counts = COUNTS.exec(text)?.[1];
  const count = (name: string): number => Number(new RegExp(`${name}: (\\d+)`).exec(counts ?? '')?.[1] ?? 0);
  const failed = Math.max(count('fail'), status === 0 && counts !== undefined ? 0 : 1);
  total.passed += count('pass');
  total.failed += failed;
  total.skipped += count('skip') + count('todo');
  if (failed > 0) console.log(text);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${failed > 0 ? 'FAILED' : 'ok    '} ${file} (${count('pass')} passed, ${seconds} s)`);
}

/** Runs files, `jobs` at a time. */
async function run(files: readonly string[], jobs: number, env: NodeJS.ProcessEnv): Promise<void> {
  const waiting = [...files];
  const work = async (): Promise<void> => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) await runFile(file, env);
  };
  await Promise.all(Array.from({ length: jobs }, work));
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
