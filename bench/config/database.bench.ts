/**
 * The settings database: durable commits a second, against a shell loop of `git commit-tree` and `git update-ref` (which
 * by default syncs neither, and with core.fsync=all both, as ours does; a commit of the loop's is one object, of ours four),
 * in turns, as disks are not equally fast from one second to the next;
 * reading a setting; how soon a watcher hears of a commit and of a `git push`; opening it with 10 000 commits of history.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { filter, firstValueFrom } from 'rxjs';
import { GitDatabase } from '../../src/config/adapter/git-database.ts';
import { openSettings } from '../../src/config/adapter/settings-store.ts';
import { made } from '../suite.ts';
import { type Row, report } from '../table.ts';

const COMMITS = 4000;
/** Of one writer and of the shell loop, in each round. */
const TURN_COMMITS = 100;
const ROUNDS = 5;
const HISTORY = 10_000;
/** Writers that each wait for their own commit. */
const WRITERS = 256;

const folder = mkdtempSync(join(tmpdir(), 'slipway-bench-database-'));
const rows: Row[] = [];

function open(directory: string, watching = false): Promise<GitDatabase> {
  return GitDatabase.open({
    directory,
    watching,
    author: { name: 'bench', email: 'bench@example.org' },
    nowMs: () => Date.now(),
    log: () => undefined,
  });
}

function perSecond(operations: number, startedMs: number): number {
  return (operations / (performance.now() - startedMs)) * 1000;
}

/** What TURN_COMMITS of the loop take, in milliseconds. */
function shellMs(directory: string): number {
  const script = `tree=$(git mktree </dev/null); c=$(git commit-tree $tree -m first </dev/null)
    for i in $(seq ${TURN_COMMITS}); do
      c=$(git commit-tree $tree -p $c -m "commit $i"); git update-ref refs/heads/user $c; done`;
  const who = { GIT_AUTHOR_NAME: 'x', GIT_AUTHOR_EMAIL: 'x', GIT_COMMITTER_NAME: 'x', GIT_COMMITTER_EMAIL: 'x' };
  const startedMs = performance.now();
  execFileSync('sh', ['-ec', script], { cwd: directory, env: { ...process.env, ...who } });
  return performance.now() - startedMs;
}

function bare(name: string, ...config: readonly string[]): string {
  const directory = join(folder, name);
  execFileSync('git', ['init', '--quiet', '--bare', directory]);
  if (config.length > 0) execFileSync('git', ['config', ...config], { cwd: directory });
  return directory;
}

/** Of the shell loop, of one that syncs, and of one writer of ours, in commits a second. */
async function inTurns(): Promise<{ loop: number; synced: number; ours: number }> {
  const [loop, synced] = [bare('loop.git'), bare('synced.git', 'core.fsync', 'all')];
  const database = await open(join(folder, 'one'), true);
  const tookMs = { loop: 0, synced: 0, ours: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    tookMs.loop += shellMs(loop);
    tookMs.synced += shellMs(synced);
    const startedMs = performance.now();
    for (let i = 0; i < TURN_COMMITS; i++)
      await database.commit('user', [{ path: `k/${i % 32}`, content: `${round} ${i}\n` }], { message: `commit ${i}` });
    tookMs.ours += performance.now() - startedMs;
  }
  await database.close();
  const rate = (ms: number): number => (ROUNDS * TURN_COMMITS * 1000) / ms;
  return { loop: rate(tookMs.loop), synced: rate(tookMs.synced), ours: rate(tookMs.ours) };
}

async function write(name: string, writers: number, commits: number): Promise<number> {
  const database = await open(join(folder, name), true);
  const startedMs = performance.now();
  let next = 0;
  const writer = async (): Promise<void> => {
    for (let i = next++; i < commits; i = next++)
      await database.commit('user', [{ path: `k/${i % 32}`, content: `${i}\n` }], { message: `commit ${i}` });
  };
  await Promise.all(Array.from({ length: writers }, writer));
  const rate = perSecond(commits, startedMs);
  await database.close();
  return rate;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

async function watchMs(commit: (content: string) => unknown, watcher: GitDatabase): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 15; i++) {
    const before = watcher.head('user');
    const told = firstValueFrom(watcher.watch('user', 'w').pipe(filter(() => watcher.head('user') !== before)));
    let startedMs = performance.now();
    const done = Promise.resolve(commit(`${i} ${Math.random()}`)).then(() => {
      startedMs = Math.min(startedMs, performance.now());
    });
    await told;
    times.push(performance.now() - startedMs);
    await done;
  }
  return median(times);
}

/** A repository of so many commits, made by git's own importer and packed. */
function history(name: string, commits: number): string {
  const directory = join(folder, name);
  execFileSync('git', ['init', '--quiet', '--bare', '--initial-branch=user', directory]);
  const lines: string[] = [];
  for (let i = 1; i <= commits; i++)
    lines.push(
      `commit refs/heads/user\nmark :${i}\ncommitter x <x@y> ${1_700_000_000 + i} +0000\ndata 1\nx${i > 1 ? `\nfrom :${i - 1}` : ''}`,
      `M 100644 inline ports/limit\ndata ${String(i % 1000).length}\n${i % 1000}`,
      i === 1 ? 'M 100644 inline schema-version\ndata 1\n1' : '',
    );
  execFileSync('git', ['fast-import', '--quiet'], {
    cwd: directory,
    input: lines.filter(Boolean).join('\n'),
  });
  execFileSync('git', ['gc', '--quiet'], { cwd: directory });
  return directory;
}

async function openMs(directory: string): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 7; i++) {
    const startedMs = performance.now();
    const store = await openSettings({
      directory,
      settingsFile: join(folder, 'none'),
      watching: true,
      log: () => undefined,
    });
    times.push(performance.now() - startedMs);
    await store.close();
  }
  return median(times);
}

try {
  const { loop: baseline, synced, ours } = await inTurns();
  rows.push({ name: 'shell loop: commit-tree, update-ref', value: baseline, unit: 'commits/s' });
  rows.push({ name: 'the same with core.fsync=all', value: synced, unit: 'commits/s' });
  const add = (name: string, rate: number): void =>
    void rows.push({ name, value: rate, unit: 'commits/s', ratio: rate / baseline, baseline: 'shell loop' });
  add('durable, one writer after another', ours);
  for (const some of [4, 16]) add(`durable, ${some} writers`, await write(`of-${some}`, some, COMMITS / 4));
  add(`durable, ${WRITERS} writers`, await write('many', WRITERS, COMMITS));

  const { settings, close } = await openSettings({
    directory: join(folder, 'settings'),
    settingsFile: join(folder, 'none'),
    watching: true,
    log: () => undefined,
  });
  const reads = 5_000_000;
  const startedMs = performance.now();
  for (let i = 0; i < reads; i++) made.last = settings.current['vm.memory'];
  rows.push({ name: 'read of a setting', value: perSecond(reads, startedMs), unit: 'per s' });
  await close();

  const watched = join(folder, 'many');
  const [watcher, writer] = [await open(watched, true), await open(watched)];
  const beside = await watchMs((content) => writer.commit('user', [{ path: 'w', content }], { message: 'w' }), watcher);
  rows.push({ name: "watch, another process's commit until told", value: beside, unit: 'ms' });
  await watcher.close();

  const short = await openMs(history('short.git', 1));
  rows.push({ name: 'open, 1 commit', value: short, unit: 'ms' });
  const long = await openMs(history('long.git', HISTORY));
  rows.push({ name: `open, ${HISTORY} commits`, value: long, unit: 'ms', ratio: long / short, baseline: '1 commit' });
  report('Settings database', rows);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
