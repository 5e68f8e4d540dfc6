/** The database on a repository on disk, beside git itself. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { filter, firstValueFrom, take, toArray } from 'rxjs';
import t from 'tap';
import { GitDatabase } from '../../src/config/adapter/git-database.ts';
import type { Database } from '../../src/config/database.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-database-'));
t.teardown(() => rmSync(folder, { recursive: true }));
let count = 0;
let nowMs = 1_700_000_000_000;

async function open(directory = join(folder, `${count++}`), watching = false): Promise<Database> {
  return GitDatabase.open({
    directory,
    watching,
    author: { name: 'Test', email: 'test@example.org' },
    nowMs: () => (nowMs += 1000),
    log: () => undefined,
  });
}

const last = (): string => join(folder, `${count - 1}`);
const git = (directory: string, ...argv: readonly string[]): string =>
  execFileSync('git', ['-c', 'user.name=git', '-c', 'user.email=git@example.org', ...argv], {
    cwd: directory,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
const text = (octets: Uint8Array | undefined): string | undefined => octets && Buffer.from(octets).toString();

t.test('git reads what is written, and it is for the user alone', async (t) => {
  const umask = process.umask(0);
  t.teardown(() => process.umask(umask));
  const database = await open();
  const directory = last();
  const first = await database.commit(
    'user',
    [
      { path: 'vm/memory', content: '4096\n' },
      { path: 'bin/run', content: '#!/bin/sh\n', mode: 'exec' },
      { path: 'link', content: 'vm/memory', mode: 'link' },
      { path: 'vm-x', content: 'sorts before vm/' },
    ],
    { message: 'First\n\nwith a body' },
  );
  t.equal(database.head('user'), first);
  t.equal(git(directory, 'show', 'user:vm/memory'), '4096\n');
  t.match(git(directory, 'ls-tree', '-r', 'user'), /100755 blob \w+\tbin\/run\n120000 blob \w+\tlink/);
  t.equal(
    git(directory, 'log', '-1', '--format=%an %ae %ct %s %b', 'user').trim(),
    'Test test@example.org 1700000001 First with a body',
  );
  t.equal(git(directory, 'fsck', '--strict', '--no-dangling').trim(), '');
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    const { mode } = statSync(join(entry.parentPath, entry.name));
    t.equal(mode & 0o777, entry.isDirectory() ? 0o700 : 0o600, join(entry.parentPath, entry.name));
  }
  await database.close();
});

t.test('a clone can push back, and the push is told', async (t) => {
  const umask = process.umask(0);
  t.teardown(() => process.umask(umask));
  const database = await open(undefined, true);
  t.teardown(() => database.close());
  await database.commit('user', [{ path: 'a', content: '1' }], { message: 'one' });
  const clone = `${last()}-clone`;
  git(folder, 'clone', '--quiet', last(), clone);
  writeFileSync(join(clone, 'a'), '2');
  git(clone, 'commit', '--quiet', '-am', 'two');
  const told = firstValueFrom(database.watch('user', 'a').pipe(take(2), toArray()));
  const elsewhere = firstValueFrom(database.heads('guest/deep/er').pipe(filter((head) => head !== undefined)));
  git(clone, 'push', '--quiet', 'origin', 'HEAD:user', 'HEAD:guest/deep/er');
  const [, after] = await told;
  t.equal(text(await database.blob(after!.hash)), '2');
  t.equal(database.head('user'), await elsewhere);
  const gone = firstValueFrom(database.heads('guest/deep/er').pipe(filter((head) => head === undefined)));
  git(clone, 'push', '--quiet', 'origin', ':guest/deep/er');
  await gone;
  const back = firstValueFrom(database.heads('guest/deep/er').pipe(filter((head) => head !== undefined)));
  git(clone, 'push', '--quiet', 'origin', 'HEAD:guest/deep/er');
  t.equal(await back, database.head('user'), 'in folders that went and came again');
  git(clone, 'push', '--quiet', 'origin', ':guest/deep/er');
  const packed = firstValueFrom(
    database.heads('user').pipe(filter((head) => head === git(clone, 'rev-parse', 'HEAD').trim())),
  );
  git(last(), 'gc', '--quiet');
  await packed;
  const again = await database.commit('user', [{ path: 'b', content: '3' }], { message: 'after packing' });
  t.equal(git(last(), 'rev-parse', 'user').trim(), again);
  t.equal((await database.log('user')).length, 3, 'history lies in the pack');
  for (const entry of readdirSync(last(), { recursive: true, withFileTypes: true })) {
    const { mode } = statSync(join(entry.parentPath, entry.name));
    if ((mode & 0o077) !== 0) t.fail(`${join(entry.parentPath, entry.name)} is for others as well`);
  }
  await database.removeBranch('user');
  t.equal(git(last(), 'for-each-ref'), '', 'a packed branch goes as well');
});

t.test('branches are made, moved, renamed and removed as git would', async (t) => {
  const database = await open();
  const one = await database.commit('a', [{ path: 'x', content: '1' }], { message: 'one' });
  const two = await database.commit('a', [{ path: 'x', content: '2' }], { message: 'two' });
  await database.createBranch('b', one);
  await t.rejects(database.createBranch('b', one), { code: 'EXISTS' });
  await t.rejects(database.createBranch('a/b', one), { code: 'EXISTS' }, 'a file and a folder of one name');
  await database.fastForward('b', two);
  await t.rejects(database.fastForward('b', one), { code: 'NOT-FAST-FORWARD' });
  await t.rejects(database.fastForward('b', '0'.repeat(40)), { code: 'NO-OBJECT' });
  await database.renameBranch('b', 'c/d');
  t.same(database.branches, ['a', 'c/d']);
  await database.removeBranch('c/d');
  await t.rejects(database.removeBranch('c/d'), { code: 'NO-BRANCH' });
  mkdirSync(join(last(), 'refs/heads/c/empty/folders'), { recursive: true });
  await database.createBranch('c');
  t.equal(git(last(), 'rev-parse', 'c').trim(), database.head('c'), 'where git has left folders');
  t.same(await (await database.tree(database.head('c')!)).list(''), []);
  for (const name of ['', '../x', 'a..b', '.a', 'a.lock', 'a b', '-a', 'a/', 'a//b', '@', 'a^'])
    await t.rejects(database.createBranch(name, one), { code: 'INVALID' }, name);
  t.equal(git(last(), 'fsck', '--strict').trim(), '');
});

t.test('merging is by whole files, and a conflict changes nothing', async (t) => {
  const database = await open();
  const commit = (branch: string, path: string, content: string | undefined) =>
    database.commit(branch, [{ path, content }], { message: `${path} of ${branch}` });
  const base = await commit('ours', 'both', 'line 1\nline 2\nline 3\n');
  await database.createBranch('theirs', base);
  await commit('ours', 'mine', '1');
  await commit('theirs', 'yours', '2');
  const merged = await database.merge('ours', database.head('theirs')!, { message: 'merge' });
  t.same((await database.commitRecord(merged)).parents.length, 2);
  t.same(
    (await (await database.tree(merged)).list(''))!.map(({ name }) => name),
    ['both', 'mine', 'yours'],
  );
  t.equal(await database.merge('ours', database.head('theirs')!, { message: 'again' }), merged);
  await commit('ours', 'both', 'line 1 changed\nline 2\nline 3\n');
  await commit('theirs', 'both', 'line 1\nline 2\nline 3 changed\n');
  const before = database.head('ours');
  await t.rejects(database.merge('ours', database.head('theirs')!, { message: 'merge' }), {
    code: 'CONFLICT',
    conflicts: ['both'],
    message: 'Merge conflict: both',
  });
  t.equal(database.head('ours'), before);
});

t.test('a transaction sees its own writes, merges, and stays open on a conflict', async (t) => {
  const database = await open();
  await database.commit('master', [{ path: 'a/x', content: '1' }], { message: 'begin' });
  const first = await database.transaction('master');
  await first.write('a/y', '2');
  await first.makeDirectory('empty');
  t.same(
    (await first.list(''))!.map(({ name, kind }) => [name, kind]),
    [
      ['a', 'directory'],
      ['empty', 'directory'],
    ],
  );
  t.same(await first.diff(), [{ kind: '+', path: 'a/y' }]);
  await database.commit('master', [{ path: 'a/x', content: 'other' }], { message: 'meanwhile' });
  first.message = 'first';
  const head = await first.commit();
  t.equal(head, database.head('master'));
  t.same((await database.commitRecord(head)).parents.length, 2, 'merged with what came meanwhile');
  await t.rejects(first.commit(), { code: 'CLOSED' });

  const second = await database.transaction('master');
  await second.rename('a', 'b');
  await second.write('b/x', 'mine');
  await database.commit('master', [{ path: 'b/x', content: 'theirs' }], { message: 'in the way' });
  await t.rejects(second.commit(), { code: 'CONFLICT', conflicts: ['b/x'] });
  await second.merge(database.head('master')!);
  t.same(second.conflicts, ['b/x']);
  t.equal(text(await second.read('b/x')), '** Conflict **\nChanged on both branches\n');
  t.equal(text(await second.merging!.ours.read('b/x')), 'mine');
  t.equal(text(await second.merging!.theirs.read('b/x')), 'theirs');
  t.equal(await second.merging!.base.read('b/x'), undefined);
  await t.rejects(second.commit(), { code: 'CONFLICT', message: /conflicts file is not empty/ });
  await second.write('b/x', 'agreed');
  t.same(second.conflicts, []);
  await second.commit();
  t.equal(git(last(), 'show', 'master:b/x'), 'agreed');
  t.equal(git(last(), 'rev-list', '--parents', '-1', 'master').trim().split(' ').length, 3, 'two parents');
  t.equal(git(last(), 'fsck', '--strict').trim(), '');
});

t.test('log, diff and revert', async (t) => {
  const database = await open();
  const set = (path: string, content: string | undefined) =>
    database.commit('user', [{ path, content }], { message: `${path}=${content}` });
  const one = await set('a', '1');
  const two = await set('b', '1');
  const three = await set('a', '2');
  t.same(
    (await database.log('user')).map(({ message }) => message),
    ['a=2', 'b=1', 'a=1'],
  );
  t.same(
    (await database.log(three, { path: 'a' })).map(({ id }) => id),
    [three, one],
  );
  t.same(
    (await database.log('user', { limit: 1 })).map(({ id }) => id),
    [three],
  );
  t.same(await database.diff(one, three), [
    { kind: '*', path: 'a' },
    { kind: '+', path: 'b' },
  ]);
  t.same(await database.diff(undefined, one), [{ kind: '+', path: 'a' }]);
  t.equal(await set('a', '2'), three, 'no change, no commit');
  await database.revert('user', two);
  t.same(await database.diff(three, database.head('user')), [{ kind: '-', path: 'b' }]);
  await t.rejects(database.revert('user', one), { code: 'CONFLICT', conflicts: ['a'] });
  await database.revert('user', three);
  t.equal(git(last(), 'show', 'user:a'), '1');
});

t.test('update reads, decides and writes with no update lost', async (t) => {
  const directory = join(folder, `${count++}`);
  const writers = await Promise.all([open(directory), open(directory), open(directory)]);
  const add = (database: Database) =>
    database.update(
      'user',
      async (tree) => [{ path: 'n', content: String(Number(text((await tree.read('n')) ?? Buffer.from('0'))) + 1) }],
      { message: 'add' },
    );
  await Promise.all(writers.flatMap((writer) => Array.from({ length: 40 }, () => add(writer))));
  t.equal(git(directory, 'show', 'user:n'), '120');
  t.equal(git(directory, 'rev-list', '--count', 'user').trim(), '120');
  t.equal(git(directory, 'fsck', '--strict', '--no-dangling').trim(), '');
});

t.test('what is not a repository is not taken for one', async (t) => {
  const directory = join(folder, `${count++}`);
  git(folder, 'init', '--quiet', directory);
  await t.rejects(open(directory), { code: 'STORAGE', message: /is not a git repository; move it away/ });
});

t.test('a repository that is damaged says what, and how to go on', async (t) => {
  const database = await open();
  await database.commit('user', [{ path: 'a', content: '1' }], { message: 'one' });
  writeFileSync(join(last(), 'refs/heads/user'), 'rubbish');
  await t.rejects(database.commit('user', [{ path: 'a', content: '2' }], { message: 'two' }), {
    code: 'STORAGE',
    message: /refs\/heads\/user holds no commit; remove it or mend it/,
  });
  mkdirSync(join(last(), 'packed-refs'));
  await t.rejects(open(last()), { code: 'STORAGE', message: /cannot read .*packed-refs: EISDIR/ });
});

t.test('remotes are fetched from', async (t) => {
  const [here, there] = [await open(), await open()];
  const head = await there.commit('master', [{ path: 'a', content: '1' }], { message: 'one' });
  await here.remotes.set('origin', last());
  t.same(await here.remotes.list(), [{ name: 'origin', url: last() }]);
  t.equal(await here.remotes.head('origin'), undefined);
  t.equal(await here.remotes.fetch('origin'), head);
  t.equal(await here.remotes.head('origin'), head);
  await here.createBranch('copy', head);
  await t.rejects(here.remotes.fetch('origin', 'absent'), { code: 'STORAGE', message: /absent/ });
  await t.rejects(here.remotes.set('x', '--upload-pack=x'), { code: 'INVALID' });
  await t.rejects(here.remotes.set('x', 'ext::sh -c x'), { code: 'INVALID' });
  await here.remotes.remove('origin');
  await t.rejects(here.remotes.fetch('origin'), { code: 'NO-OBJECT' });
});
