/** The command line's parts that need no process: progress, logs, archives, the docker context. */

import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { installContext, removeContext } from '../../src/cli/docker-context.ts';
import { followFile } from '../../src/cli/follow-file.ts';
import { LogFile } from '../../src/cli/log-file.ts';
import { Progress } from '../../src/cli/progress.ts';
import { tar } from '../../src/cli/tar.ts';
import { homeAt, homeDirectory, makeHome } from '../../src/home.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-pieces-'));
t.teardown(() => rmSync(folder, { recursive: true }));

t.test('the home', async (t) => {
  t.equal(homeDirectory({ SLIPWAY_HOME: '/a/../b' }), '/b');
  t.equal(homeDirectory({ XDG_DATA_HOME: '/data' }), '/data/slipway');
  t.match(homeDirectory({ XDG_DATA_HOME: 'relative' }), /\/\.local\/share\/slipway$/);
  const longest = `/${'x'.repeat(84)}`;
  t.equal(Buffer.byteLength(homeAt(longest).publishSocket), 103);
  t.throws(() => homeAt(`${longest}x`), { message: /too long.*104 octets, so the home may have 85/ });
  t.throws(() => homeAt(`/${'é'.repeat(43)}`), { message: /too long/ }, 'octets count, not characters');
  const home = homeAt(join(folder, 'home'));
  const umask = process.umask(0);
  mkdirSync(home.directory, { mode: 0o755 });
  makeHome(home);
  process.umask(umask);
  for (const path of [home.directory, home.vmDirectory, home.logsDirectory])
    t.equal(statSync(path).mode & 0o777, 0o700, path);
});

t.test('progress on a terminal is one live line a step', async (t) => {
  let text = '';
  // Carriage return and "erase to the end of the line" are shown as a bar.
  const write = (more: string): string => (text += more.replace('\r\u001b[K', '|'));
  const progress = new Progress({ isTTY: true, columns: 30, write });
  await progress.step('Building', async () => progress.detail('a detail that is too long for the line'));
  t.match(text, /^\|Building \(0\.0 s\)\|Building: done in 0\.0 s\n$/);
  text = '';
  await t.rejects(
    progress.step('Building', () => Promise.reject(new Error('no'))),
    { message: 'no' },
  );
  t.match(text, /\|Building: failed in 0\.0 s\n$/);
});

t.test('progress elsewhere is plain lines', async (t) => {
  let text = '';
  const progress = new Progress({ write: (more) => (text += more) });
  await progress.step('Quick', async () => progress.detail('x'));
  t.equal(text, 'Quick: done in 0.0 s\n');
});

t.test('a log is bounded in size and in lines a second, and says nothing to a terminal', async (t) => {
  const path = join(folder, 'test.log');
  let now = new Date(0);
  const umask = process.umask(0);
  const log = new LogFile(path, () => now);
  process.umask(umask);
  t.equal(statSync(path).mode & 0o777, 0o600);
  log.write('hello\nworld \x1b[2J');
  t.equal(readFileSync(path, 'utf8'), '1970-01-01T00:00:00.000Z hello·world ·[2J\n');
  for (let i = 0; i < 1000; i++) log.write('again');
  now = new Date(1000);
  log.write('later');
  const text = readFileSync(path, 'utf8');
  t.match(text, /\(801 lines dropped\)\n.*later\n$/);
  for (let second = 2; second < 10; second++) {
    now = new Date(second * 1000);
    for (let i = 0; i < 200; i++) log.write('x'.repeat(3000));
  }
  t.ok(statSync(path).size <= 1 << 20);
  t.ok(statSync(`${path}.1`).size <= 1 << 20);
  t.equal(statSync(`${path}.1`).mode & 0o777, 0o600);
});

t.test('a log leaves out what its level does, from the next line on', async (t) => {
  const path = join(folder, 'level.log');
  const log = new LogFile(path, () => new Date(0));
  const write = (): void => {
    for (const level of ['warning', 'info', 'debug'] as const) log.write(level, level);
  };
  for (const level of ['warning', 'debug', 'info'] as const) {
    log.level = level;
    write();
  }
  const words = readFileSync(path, 'utf8').trim().split('\n');
  t.same(
    words.map((line) => line.split(' ')[1]),
    ['warning', 'warning', 'info', 'debug', 'warning', 'info'],
  );
});

t.test('a followed file: what it holds, what is added, and its successor', async (t) => {
  const path = join(folder, 'followed.log');
  let text = '';
  let wake: () => void = () => undefined;
  const write = (octets: Buffer): void => {
    text += octets;
    wake();
  };
  const until = async (wanted: string) => {
    while (!text.endsWith(wanted)) await new Promise<void>((resolve) => (wake = resolve));
  };
  await followFile(path, write);
  t.equal(text, '', 'absent: nothing');
  writeFileSync(path, 'one\n');
  await followFile(path, write);
  t.equal(text, 'one\n');
  const stop = new AbortController();
  const followed = followFile(path, write, stop.signal);
  appendFileSync(path, 'two\n');
  await until('two\n');
  appendFileSync(path, 'three\n');
  renameSync(path, `${path}.1`);
  writeFileSync(path, 'four\n');
  await until('four\n');
  t.equal(text, 'one\none\ntwo\nthree\nfour\n');
  stop.abort();
  await followed;
});

t.test('an archive that tar reads', async (t) => {
  const archive = tar([
    { path: 'bin/', mode: 0o755 },
    { path: 'bin/tool', mode: 0o755, content: Buffer.from('x'.repeat(1000)) },
    { path: 'bin/link', mode: 0o777, linkTo: 'tool' },
    { path: 'empty', mode: 0o600, content: new Uint8Array() },
  ]);
  t.equal(archive.length % 512, 0);
  const listed = spawnSync('tar', ['-tvf', '-'], {
    input: archive,
    encoding: 'utf8',
    env: { ...process.env, TZ: 'UTC' },
  });
  t.equal(listed.status, 0, listed.stderr);
  t.match(listed.stdout.trim().split('\n'), [
    /^drwxr-xr-x .* bin\/$/,
    /^-rwxr-xr-x .* 1000 .* bin\/tool$/,
    /^lrwxrwxrwx .* bin\/link -> tool$/,
    /^-rw------- .* 0 .* empty$/,
  ]);
});

/** A docker client that keeps one context in a file and logs what it is asked. */
const fakeDocker = `#!/bin/sh
[ -z "$DOCKER_HOST$DOCKER_CONTEXT" ] || exit 9
echo "$*" >>"$FAKE/asked"
case "$1 $2" in
'context inspect') cat "$FAKE/context" 2>/dev/null || { echo 'context "slipway": not found' >&2; exit 1; } ;;
'context create' | 'context update') for word; do host=$word; done; echo "\${host#host=}" >"$FAKE/context" ;;
'context rm') rm "$FAKE/context" ;;
esac
`;

t.test('the docker context', async (t) => {
  const fake = join(folder, 'fake');
  mkdirSync(fake);
  writeFileSync(join(fake, 'docker'), fakeDocker);
  chmodSync(join(fake, 'docker'), 0o755);
  t.teardown(Object.assign.bind(undefined, process.env, { PATH: process.env.PATH }));
  const one = homeAt(join(folder, 'one'));
  makeHome(one);
  writeFileSync(one.dockerSocket, '');
  const host = `unix://${one.dockerSocket}`;
  const two = homeAt('/two');
  process.env.PATH = '/nonexistent';
  t.same(await installContext(one), { state: 'no client' });
  t.same(await removeContext(one), { state: 'no client' });
  process.env.PATH = `${fake}:/usr/bin:/bin`;
  process.env.FAKE = fake;
  process.env.DOCKER_HOST = 'tcp://elsewhere';
  t.same(await removeContext(one), { state: 'absent' });
  t.same(await installContext(one), { state: 'installed' });
  t.equal(readFileSync(join(fake, 'context'), 'utf8'), `${host}\n`);
  t.same(await installContext(one), { state: 'installed' });
  t.same(await installContext(two), { state: 'taken', host });
  t.same(await removeContext(two), { state: 'taken', host });
  t.same(await installContext(two, true), { state: 'installed' });
  t.same(await installContext(one), { state: 'installed' }, 'the other does not run: its socket is not there');
  t.same(await installContext(two, true), { state: 'installed' });
  t.same(await removeContext(two), { state: 'removed' });
  t.same(readFileSync(join(fake, 'asked'), 'utf8').match(/^context (create|update|rm)/gm), [
    'context create',
    'context update',
    'context update',
    'context update',
    'context rm',
  ]);
  delete process.env.DOCKER_HOST;
  delete process.env.FAKE;
});
