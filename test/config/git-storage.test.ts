/** The repository on disk under stress: git beside us, locks left behind, a full disk, packing. */

import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { filter, firstValueFrom } from 'rxjs';
import t from 'tap';
import { GitDatabase } from '../../src/config/adapter/git-database.ts';
import { GitPacking } from '../../src/config/adapter/git-packing.ts';
import { joinPacks, wasOvertaken } from '../../src/config/adapter/pack-joining.ts';
import type { Database } from '../../src/config/database.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-storage-'));
t.teardown(() => rmSync(folder, { recursive: true }));
t.setTimeout(180_000);
const { NODE_OPTIONS: _, ...env } = process.env;
const program = (name: string): string => join(import.meta.dirname, name);
const run = promisify(execFile);

function open(directory: string): Promise<Database> {
  return GitDatabase.open({
    directory,
    watching: false,
    author: { name: 'Test', email: 'test@example.org' },
    nowMs: () => Date.now(),
    log: () => undefined,
  });
}

/** Names of the packs. */
function packs(directory: string): string[] {
  const files = readdirSync(join(directory, 'objects/pack'));
  return files.filter((name) => name.endsWith('.idx')).map((name) => name.slice(0, -4));
}

function fsck(directory: string): string {
  return execFileSync('git', ['fsck', '--strict', '--no-dangling'], {
    cwd: directory,
    encoding: 'utf8',
    stdio: 'pipe',
  });
}

t.test('git push, the command line and two writers here at once: no update is lost', async (t) => {
  const home = join(folder, 'home');
  mkdirSync(home, { mode: 0o700 });
  const directory = join(home, 'database');
  const writers = [await open(directory), await open(directory)];
  await writers[0]!.commit('user', [{ path: 'schema-version', content: '1\n' }], { message: 'begin' });
  const count = async (database: Database, name: string): Promise<void> => {
    for (let i = 1; i <= 60; i++)
      await database.commit('user', [{ path: `n/${name}${i}`, content: name }], { message: `${name} ${i}` });
  };
  const git = (cwd: string, ...argv: readonly string[]) =>
    run('git', ['-c', 'user.name=git', '-c', 'user.email=git@example.org', ...argv], { cwd, env });
  let refused = 0;
  const push = async (name: string): Promise<void> => {
    const clone = join(folder, name);
    await git(folder, 'clone', '--quiet', directory, clone);
    mkdirSync(join(clone, 'n'), { recursive: true });
    for (let i = 1; i <= 5; i++) {
      writeFileSync(join(clone, 'n', `${name}${i}`), name);
      await git(clone, 'add', '-A');
      await git(clone, 'commit', '--quiet', '-m', `${name} ${i}`);
      for (;;) {
        try {
          await git(clone, 'push', '--quiet');
          break;
        } catch {
          refused++;
          await git(clone, 'pull', '--quiet', '--rebase');
        }
      }
    }
  };
  const slipway = async (): Promise<void> => {
    for (let i = 1; i <= 6; i++)
      await run(join(import.meta.dirname, '../../bin/slipway'), ['config', 'set', `ports.limit=${i}`], {
        env: { ...env, SLIPWAY_HOME: home },
      });
  };
  await Promise.all([count(writers[0]!, 'a'), count(writers[1]!, 'b'), push('p'), push('q'), slipway()]);
  const { stdout } = await git(directory, 'ls-tree', '-r', '--name-only', 'user');
  const names = stdout.split('\n');
  for (const [name, most] of [
    ['a', 60],
    ['b', 60],
    ['p', 5],
    ['q', 5],
  ] as const)
    for (let i = 1; i <= most; i++) if (!names.includes(`n/${name}${i}`)) t.fail(`${name}${i} is lost`);
  t.equal((await git(directory, 'show', 'user:ports/limit')).stdout, '6\n');
  t.equal((await git(directory, 'rev-list', '--count', '--no-merges', 'user')).stdout.trim(), String(1 + 120 + 10 + 6));
  t.comment(`${refused} pushes had to be made again`);
  t.equal(fsck(directory).trim(), '');
});

t.test('a lock that git left is reported, with the remedy; one of a dead writer of ours is taken over', async (t) => {
  const directory = join(folder, 'locked');
  const database = await open(directory);
  await database.commit('user', [{ path: 'x', content: '1' }], { message: 'begin' });
  const lock = join(directory, 'refs/heads/user.lock');
  writeFileSync(lock, '');
  t.match(await database.commit('user', [{ path: 'x', content: '2' }], { message: 'locked' }).catch((error) => error), {
    code: 'STORAGE',
    message: /user\.lock has been held for 2 s; if no git command is at work there/,
  });
  t.equal(execFileSync('git', ['show', 'user:x'], { cwd: directory, encoding: 'utf8' }), '1');
  rmSync(lock);
  await database.commit('user', [{ path: 'x', content: '3' }], { message: 'free again' });
  t.same(readdirSync(join(directory, 'pending')), []);
});

t.test('a full disk: the commit fails whole, the old state stays, and with room all goes on', async (t) => {
  const mount = join(folder, 'disk');
  mkdirSync(mount);
  const { stdout } = await run(
    'unshare',
    [
      '-rm',
      'sh',
      '-c',
      `mount -t tmpfs -o size=700k tmpfs ${mount} && "$@" && git -C ${mount}/database fsck --strict --no-dangling >&2`,
      'sh',
      process.execPath,
      program('full-disk-program.ts'),
      mount,
    ],
    { env },
  );
  const { outcomes, ended } = JSON.parse(stdout);
  t.equal(ended, 'with room');
  t.equal(outcomes.length, 2);
  for (const outcome of outcomes)
    t.match(outcome, {
      code: 'STORAGE',
      message: /the disk is full; make room and try again; nothing has changed/,
      sameHead: true,
      sameTree: true,
    });
});

t.test('small packs become one, under readers, and the rest is as it was', async (t) => {
  const directory = join(folder, 'joined');
  const database = await open(directory);
  const heads: string[] = [];
  for (let i = 0; i < 70; i++)
    heads.push(await database.commit('user', [{ path: `k/${i % 7}`, content: `${i}` }], { message: `${i}` }));
  t.equal(packs(directory).length, 70);
  const reader = await open(directory);
  await reader.commitRecord(heads[0]!);
  const deltas = packs(directory)[3]!;
  writeFileSync(join(directory, 'objects/pack', `${deltas}.keep`), '');
  await new GitPacking(directory, (line) => t.fail(line)).consider();
  t.equal(packs(directory).length, 2);
  t.ok(packs(directory).includes(deltas), 'one that is to be kept is kept');
  t.equal((await reader.log('user')).length, heads.length, 'who had the packs open finds everything');
  const fresh = await open(directory);
  t.equal((await fresh.log('user')).length, heads.length);
  t.equal(execFileSync('git', ['rev-list', '--count', '--objects', 'user'], { cwd: directory }).toString(), '280\n');
  t.equal(fsck(directory).trim(), '');
  t.same(readdirSync(join(directory, 'pending')), []);
});

t.test('a pack that is damaged or has deltas is not joined', async (t) => {
  const directory = join(folder, 'apart');
  const database = await open(directory);
  for (let i = 0; i < 70; i++) await database.commit('user', [{ path: 'x', content: `${i}` }], { message: `${i}` });
  const [damaged = ''] = packs(directory);
  const path = join(directory, 'objects/pack', `${damaged}.pack`);
  const octets = readFileSync(path);
  octets[40]! ^= 1;
  writeFileSync(path, octets);
  await joinPacks(directory, 64);
  t.equal(packs(directory).length, 2);
  t.ok(packs(directory).includes(damaged));
  octets[40]! ^= 1;
  writeFileSync(path, octets);
  execFileSync('git', ['repack', '-adfq'], { cwd: directory });
  const [withDeltas = ''] = packs(directory);
  for (let i = 0; i < 3; i++) await database.commit('user', [{ path: 'y', content: `${i}` }], { message: `${i}` });
  await joinPacks(directory, 2);
  t.equal(packs(directory).length, 2);
  t.ok(packs(directory).includes(withDeltas), 'deltas by offset stay where they are');
  t.equal(fsck(directory).trim(), '');
});

t.test('packs joined by several at once, and by git, beside writers: nothing is lost', async (t) => {
  const directory = join(folder, 'beside');
  const writers = [await open(directory), await open(directory)];
  let writing = true;
  const write = async (database: Database, name: string): Promise<void> => {
    for (let i = 0; i < 60; i++)
      await database.commit('user', [{ path: `n/${name}${i}`, content: name }], { message: name });
  };
  const keepJoining = async (): Promise<void> => {
    while (writing)
      await joinPacks(directory, 4).catch((error) => {
        if (!wasOvertaken(error)) throw error;
      });
  };
  const collect = async (): Promise<void> => {
    // Git may find gone what it had looked up before, as beside any other repack, and then leaves all as it is.
    while (writing) await run('git', ['gc', '--quiet'], { cwd: directory, env }).catch(() => undefined);
  };
  const beside = [keepJoining(), keepJoining(), collect()];
  await Promise.all([write(writers[0]!, 'a'), write(writers[1]!, 'b')]);
  writing = false;
  await Promise.all(beside);
  const names = execFileSync('git', ['ls-tree', '-r', '--name-only', 'user'], { cwd: directory, encoding: 'utf8' });
  t.equal(names.trim().split('\n').length, 120);
  t.equal((await (await open(directory)).log('user')).length, 120);
  t.equal(fsck(directory).trim(), '');
});

t.test('loose objects that have gathered are packed by git in the background, under readers', async (t) => {
  const directory = join(folder, 'packed');
  const database = await open(directory);
  const heads = await Promise.all(
    Array.from({ length: 1200 }, (_, i) =>
      database.commit('user', [{ path: `k/${i % 40}`, content: `${i}` }], { message: `${i}` }),
    ),
  );
  const reader = await open(directory);
  await reader.commitRecord(heads[0]!);
  const folderOfPacks = join(directory, 'objects/pack');
  for (const name of packs(directory)) {
    const aside = readFileSync(join(folderOfPacks, `${name}.pack`));
    for (const kind of ['idx', 'pack']) rmSync(join(folderOfPacks, `${name}.${kind}`));
    execFileSync('git', ['-c', 'core.fsync=none', 'unpack-objects', '-q'], { cwd: directory, input: aside });
  }
  t.same(packs(directory), []);
  await new GitPacking(directory, (line) => t.fail(line)).consider();
  t.equal(packs(directory).length, 1);
  t.equal((await reader.log('user')).length, heads.length, 'who had read before finds everything');
  t.notOk(existsSync(join(directory, 'gc.pid')));
  t.equal(fsck(directory).trim(), '');
});

t.test('branches that git makes, packs and removes, in any order, are all noticed', async (t) => {
  const directory = join(folder, 'noticed');
  const database = await GitDatabase.open({
    directory,
    watching: true,
    author: { name: 'Test', email: 'test@example.org' },
    nowMs: () => Date.now(),
    log: (line) => t.fail(line),
  });
  const commit = await database.commit('user', [{ path: 'x', content: '1' }], { message: 'begin' });
  const names = ['g/a/b', 'g/a/c', 'g/x', 'h', 'i/y/z'];
  const done: string[] = [];
  for (let i = 0; i < 40; i++) {
    const name = names[Math.floor(Math.random() * names.length)]!;
    const there = database.head(name) !== undefined;
    done.push(`${there ? 'remove' : 'make'} ${name}`);
    const noticed = firstValueFrom(database.heads(name).pipe(filter((head) => (head !== undefined) !== there)));
    const argv = there ? ['-d', `refs/heads/${name}`] : [`refs/heads/${name}`, commit];
    execFileSync('git', ['update-ref', ...argv], { cwd: directory });
    if (i % 5 === 4) execFileSync('git', ['pack-refs', '--all', '--prune'], { cwd: directory });
    const lost = setTimeout(() => t.fail('never noticed', { done }), 20_000);
    await noticed;
    clearTimeout(lost);
  }
  t.equal(done.length, 40);
  await database.close();
});
