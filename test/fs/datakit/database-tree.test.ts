/** DataKit's tree over the database in a git repository, as 9P clients see it. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { GitDatabase } from '../../../src/config/adapter/git-database.ts';
import type { Transaction } from '../../../src/config/database.ts';
import { databaseExport } from '../../../src/fs/datakit/database-export.ts';
import type { TransactionLimits } from '../../../src/fs/datakit/transaction-nodes.ts';
import { NOFID } from '../../../src/fs/ninep/dialect.ts';
import { untouched } from '../../../src/fs/ninep/stat-record.ts';
import { Client, owner, ServerError, settle } from '../ninep/client.ts';
import { dialects } from '../ninep/messages.ts';

const author = { name: 'Test', email: 'test@slipway.internal' };

async function database(t: Test) {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-datakit-'));
  const options = { author, watching: false, nowMs: () => 1_700_000_000_000, log: () => undefined };
  const directory = join(folder, 'database');
  const db = await GitDatabase.open({ ...options, directory });
  t.teardown(async () => {
    await db.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return { db, directory };
}

async function fixture(t: Test, access: 'host' | 'guest' = 'host', limits: Partial<TransactionLimits> = {}) {
  const { db } = await database(t);
  const first = await db.commit(
    'master',
    [
      { path: 'somefile', content: 'some data\n' },
      { path: 'src/ui/main', content: 'main\n', mode: 'exec' },
      { path: 'link', content: 'src/ui', mode: 'link' },
    ],
    { message: 'First' },
  );
  const served = databaseExport({ database: db, access, owner, limits });
  return { db, first, served };
}

/** Opens a live file and reads it line by line, as the Linux client does: until a read gives nothing. */
async function follow(client: Client, path: string) {
  const fid = await client.open(path, 'read');
  let offset = 0n;
  return {
    fid,
    next: async (): Promise<string> => {
      const { data } = await client.call('Tread', { fid, offset, count: 200 });
      offset += BigInt(data.length);
      const { data: rest } = await client.call('Tread', { fid, offset, count: 200 - data.length });
      if (rest.length > 0) throw new Error('more than a line');
      return Buffer.from(data).toString();
    },
  };
}

async function refused(t: Test, call: Promise<unknown>, pattern: RegExp, what?: string): Promise<void> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  t.ok(error instanceof ServerError, what ?? String(pattern));
  t.match((error as Error | undefined)?.message, pattern, what ?? String(pattern));
}

t.test('the tree, in each dialect', async (t) => {
  const { served, first } = await fixture(t);
  for (const dialect of dialects) {
    const client = await Client.attach(served, dialect);
    t.same(await client.list(''), ['branch', 'snapshots', 'trees', 'commits', 'remotes']);
    t.same(await client.list('branch'), ['guest', 'master']);
    const branch = ['head', 'head.live', 'reflog', 'fast-forward', 'ro', 'transactions', 'watch', 'diff'];
    t.same(await client.list('branch/master'), branch);
    t.equal(await client.read('branch/master/head'), `${first}\n`);
    t.same(await client.list('branch/master/ro'), ['link', 'somefile', 'src']);
    t.equal(await client.read('branch/master/ro/somefile', 4), 'some data\n');
    t.same(await client.list('branch/master/watch'), ['tree.live', 'link.node', 'somefile.node', 'src.node']);
    for (const hidden of ['snapshots', 'trees', 'commits', 'branch/master/transactions', 'branch/guest'])
      t.same(await client.list(hidden), [], hidden);
    await refused(t, client.write('branch/master/ro/somefile', 'x'), /Read-only|errno 30/);
    await refused(t, client.create('branch/master/ro', 'new'), /not permitted|errno 1$/);
    await refused(t, client.remove('branch/master/ro/somefile'), /Read-only|errno 30/);
    await refused(t, client.read('branch/master/ro/none'), /No such file|errno 2$/);
    await refused(t, client.read('branch/master/ro/.git'), /No such file|errno 2$/);
    await refused(t, client.read('branch/none/head'), /No such file|errno 2$/);
  }
});

t.test('how do I: a transaction', async (t) => {
  for (const dialect of dialects) {
    const { served, db, first } = await fixture(t);
    const client = await Client.attach(served, dialect);
    const at = 'branch/master/transactions/foo';
    await client.mkdir('branch/master/transactions', 'foo');
    t.same(await client.list(at), ['rw', 'msg', 'parents', 'ctl', 'merge', 'origin', 'diff']);
    t.equal(await client.read(`${at}/parents`), `${first}\n`);
    t.equal(await client.read(`${at}/origin`), `${first}\n`);
    await client.create(`${at}/rw`, 'newfile', 'new data\n');
    await client.write(`${at}/rw/somefile`, 'changed');
    await client.mkdir(`${at}/rw`, 'empty');
    await client.mkdir(`${at}/rw`, 'folder');
    await client.create(`${at}/rw/folder`, 'run', '#!/bin/sh\n', 0o755);
    await client.remove(`${at}/rw/src/ui/main`);
    t.same(await client.list(`${at}/rw`), ['empty', 'folder', 'link', 'newfile', 'somefile', 'src']);
    t.same((await client.read(`${at}/diff/${first}`)).split('\n').sort(), [
      '',
      '* somefile',
      '+ folder/run',
      '+ newfile',
      '- src/ui/main',
    ]);
    await client.write(`${at}/msg`, 'My commit\n');
    const other = await Client.attach(served, dialect);
    t.same(await other.list('branch/master/transactions'), [], 'private to the connection');
    t.equal(await client.read('branch/master/ro/somefile'), 'some data\n', 'not there before it is committed');
    await refused(t, client.write(`${at}/ctl`, 'frobnicate\n'), /Unknown command "frobnicate"|errno 22/);
    t.match(await client.read(`${at}/ctl`), /Unknown command/, 'ctl tells why');
    await client.write(`${at}/ctl`, 'commit\n');
    t.same(await client.list('branch/master/transactions'), [], 'the directory is gone');
    t.equal(await other.read('branch/master/ro/somefile'), 'changed');
    const head = (await other.read('branch/master/head')).trim();
    t.equal(await other.read(`snapshots/${head}/msg`), 'My commit\n');
    t.equal(await other.read(`snapshots/${head}/parents`), `${first}\n`);
    t.equal(await other.read(`snapshots/${head}/hash`), `${head}\n`);
    t.equal(await other.read(`snapshots/${head}/ro/newfile`), 'new data\n');
    t.equal(await other.read(`branch/master/diff/${head}`), '');
    t.match(await other.read(`snapshots/${first}/diff/${head}`), /- newfile/);
    t.match(JSON.parse(await other.read(`commits/${head}`)), { message: 'My commit', parents: [first] });
    t.equal((await (await db.tree(head)).entry('folder/run'))?.kind, 'exec');
    await client.mkdir('branch/master/transactions', 'foo');
    await client.write(`${at}/ctl`, 'close');
    await client.mkdir('branch/master/transactions', 'foo');
    await refused(t, client.mkdir('branch/master/transactions', 'foo'), /exists|errno 17/);
    await client.remove(at);
    await client.mkdir('branch/master/transactions', 'foo');
    await client.write(`${at}/ctl`, 'commit');
    t.match((await db.commitRecord(db.head('master')!)).message, /First|My commit|no commit message/);
  }
});

t.test('how do I: create, fork, rename, delete a branch', async (t) => {
  const { served, db, first } = await fixture(t);
  const client = await Client.attach(served, '9P2000.u');
  await client.mkdir('branch', 'foo');
  t.same(await client.list('branch'), ['foo', 'guest', 'master']);
  t.equal(await client.read('branch/foo/head'), '\n', 'no commit yet');
  t.same(await client.list('branch/foo/ro'), []);
  t.equal(db.head('foo'), undefined);
  await client.write('branch/foo/fast-forward', await client.read('branch/master/head'));
  t.equal(db.head('foo'), first, 'forked');
  await refused(t, client.mkdir('branch', 'foo'), /exists/);
  await db.commit('foo', [{ path: 'a', content: 'a' }], { message: 'On foo' });
  await client.write('branch/master/fast-forward', await client.read('branch/foo/head'));
  t.equal(db.head('master'), db.head('foo'));
  await refused(t, client.write('branch/master/fast-forward', first), /not-fast-forward/);
  await refused(t, client.write('branch/master/fast-forward', 'x'), /not a hash/);
  await refused(t, client.write('branch/master/fast-forward', 'f'.repeat(40)), /./);
  const from = await client.walk('branch/foo');
  const { stat } = await client.call('Tstat', { fid: from });
  t.equal(stat.name, 'foo');
  await client.call('Twstat', { fid: from, stat: { ...untouched, name: 'bar' } });
  t.equal(db.head('foo'), undefined);
  t.equal(db.head('bar'), db.head('master'));
  t.equal(await client.read('branch/bar/ro/a'), 'a');
  await client.remove('branch/bar');
  t.same(db.branches, ['master']);
  await client.mkdir('branch', 'pending');
  await client.mkdir('branch/pending/transactions', 't');
  await client.create('branch/pending/transactions/t/rw', 'x', 'x');
  await client.write('branch/pending/transactions/t/ctl', 'commit');
  t.match(db.head('pending'), /^[0-9a-f]{40}$/);
  t.same((await db.commitRecord(db.head('pending')!)).parents, [], 'a history of its own');
  await client.mkdir('branch', 'gone');
  await client.remove('branch/gone');
  t.same(await client.list('branch'), ['guest', 'master', 'pending']);
  for (const bad of ['a..b', '-x', 'x.lock', 'a b', '@']) await refused(t, client.mkdir('branch', bad), /./, bad);
  await db.createBranch('feature/x', first);
  t.same(await client.list('branch/feature'), ['x'], 'a name with slashes is in a folder');
  t.equal(await client.read('branch/feature/x/head'), `${first}\n`);
  await client.mkdir('branch/feature', 'y');
  await refused(t, client.remove('branch/feature'), /not empty/);
  await refused(t, client.mkdir('branch', 'feature'), /exists/);
});

t.test('how do I: merge a branch', async (t) => {
  const { served, db, first } = await fixture(t);
  const client = await Client.attach(served, '9P2000');
  await db.createBranch('feature', first);
  await db.commit(
    'feature',
    [
      { path: 'theirs', content: 't' },
      { path: 'somefile', content: 'theirs' },
    ],
    { message: 'T' },
  );
  await db.commit(
    'master',
    [
      { path: 'ours', content: 'o' },
      { path: 'somefile', content: 'ours' },
    ],
    { message: 'O' },
  );
  const at = 'branch/master/transactions/my-merge';
  await client.mkdir('branch/master/transactions', 'my-merge');
  await client.write(`${at}/merge`, await client.read('branch/feature/head'));
  t.same((await client.list(at)).slice(-4), ['ours', 'theirs', 'base', 'conflicts']);
  t.equal(await client.read(`${at}/conflicts`), 'somefile\n');
  t.equal(await client.read(`${at}/ours/somefile`), 'ours');
  t.equal(await client.read(`${at}/theirs/somefile`), 'theirs');
  t.equal(await client.read(`${at}/base/somefile`), 'some data\n');
  t.equal(await client.read(`${at}/rw/theirs`), 't');
  t.match(await client.read(`${at}/rw/somefile`), /\*\* Conflict \*\*\nChanged on both branches\n/);
  t.equal((await client.read(`${at}/parents`)).split('\n').length, 3, 'two parents');
  await refused(t, client.write(`${at}/ctl`, 'commit'), /conflicts file is not empty/);
  await client.write(`${at}/rw/somefile`, 'both');
  t.equal(await client.read(`${at}/conflicts`), '');
  await client.write(`${at}/ctl`, 'commit');
  t.equal(await client.read('branch/master/ro/somefile'), 'both');
  t.equal((await db.commitRecord(db.head('master')!)).parents.length, 2);
});

t.test('commits that conflict with the branch stay open', async (t) => {
  const { served, db } = await fixture(t);
  const client = await Client.attach(served, '9P2000');
  const at = 'branch/master/transactions/slow';
  await client.mkdir('branch/master/transactions', 'slow');
  await client.write(`${at}/rw/somefile`, 'mine');
  await client.create(`${at}/rw`, 'other', 'mine');
  await db.commit('master', [{ path: 'elsewhere', content: 'x' }], { message: 'Theirs' });
  await db.commit('master', [{ path: 'somefile', content: 'theirs' }], { message: 'Theirs' });
  await refused(t, client.write(`${at}/ctl`, 'commit'), /^Merge conflict: somefile$/);
  t.same(await client.list('branch/master/transactions'), ['slow']);
  t.equal(await client.read(`${at}/rw/somefile`), 'mine');
  await client.write(`${at}/merge`, await client.read('branch/master/head'));
  await client.write(`${at}/rw/somefile`, 'agreed');
  await client.write(`${at}/ctl`, 'commit');
  t.equal(await client.read('branch/master/ro/somefile'), 'agreed');
  t.equal(await client.read('branch/master/ro/elsewhere'), 'x');
  t.equal(await client.read('branch/master/ro/other'), 'mine');
});

t.test('parents may be written', async (t) => {
  const { served, db, first } = await fixture(t);
  const client = await Client.attach(served, '9P2000');
  await db.createBranch('feature', first);
  const second = await db.commit('feature', [{ path: 'x', content: 'x' }], { message: 'x' });
  const at = 'branch/master/transactions/ours';
  await client.mkdir('branch/master/transactions', 'ours');
  const fid = await client.open(`${at}/parents`, 'write');
  await client.call('Twrite', { fid, offset: 41n, data: Buffer.from(`${second}\n`) });
  await client.clunk(fid);
  await client.write(`${at}/ctl`, 'commit');
  const head = await db.commitRecord(db.head('master')!);
  t.same(head.parents, [first, second], 'a merge that keeps ours');
  await client.mkdir('branch/master/transactions', 'bad');
  await client.write('branch/master/transactions/bad/parents', 'nonsense\n');
  await refused(t, client.write('branch/master/transactions/bad/ctl', 'commit'), /./);
});

t.test('live files: head.live, reflog, tree.live', async (t) => {
  const { served, db, first } = await fixture(t);
  const client = await Client.attach(served, '9P2000.L');
  const live = await follow(client, 'branch/master/head.live');
  const log = await follow(client, 'branch/master/reflog');
  const file = await follow(client, 'branch/master/watch/somefile.node/tree.live');
  const later = await follow(client, 'branch/master/watch/not.node/yet.node/tree.live');
  const root = await follow(client, 'branch/master/watch/tree.live');
  const exec = await follow(client, 'branch/master/watch/src.node/ui.node/main.node/tree.live');
  const link = await follow(client, 'branch/master/watch/link.node/tree.live');
  const absent = await follow(client, 'branch/master/watch/none.node/tree.live');
  t.equal(await live.next(), `${first}\n`);
  t.match(await file.next(), /^F-[0-9a-f]{40}\n$/);
  t.equal(await later.next(), '\n');
  t.match(await root.next(), /^D-[0-9a-f]{40}\n$/);
  t.match(await exec.next(), /^X-/);
  const linkName = (await link.next()).trim();
  t.equal(await absent.next(), '\n');
  const logged = log.next();
  const changed = later.next();
  const still = file.next();
  still.catch(() => undefined);
  await settle();
  const commits = [];
  for (const content of ['1', '2', '3'])
    commits.push(await db.commit('master', [{ path: 'not/yet', content }], { message: content }));
  t.equal(await logged, `${commits[0]}\n`);
  t.equal(await log.next(), `${commits[1]}\n`, 'every one');
  t.equal(await log.next(), `${commits[2]}\n`);
  t.equal(await live.next(), `${commits[2]}\n`, 'only the newest');
  t.match(await changed, /^F-/);
  t.ok(client.session.pending >= 1, 'what did not change is not told');
  await client.clunk(file.fid);
  await db.removeBranch('master');
  t.equal(await live.next(), '\n', 'a blank line: it is gone');
  t.equal(await log.next(), '\n');
  const name = (await exec.next()).trim();
  t.equal(name, '');
  const target = await client.walk(`trees/${linkName}`);
  t.equal((await client.call('Treadlink', { fid: target })).target, 'src/ui');
});

t.test('trees: by the names that tree.live gives', async (t) => {
  const { served, db, first } = await fixture(t);
  const client = await Client.attach(served, '9P2000');
  const tree = await db.tree(first);
  const { hash = '' } = (await tree.entry('somefile')) ?? {};
  t.equal(await client.read(`trees/F-${hash}`), 'some data\n');
  t.equal(await client.read(`trees/X-${hash}`), 'some data\n');
  t.equal(await client.read(`trees/D-${tree.hash}/src/ui/main`), 'main\n');
  for (const none of [`F-${'0'.repeat(40)}`, `D-${hash}`, `Q-${hash}`, 'F-', hash])
    await refused(t, client.read(`trees/${none}`), /No such file/, none);
  for (const none of [hash, '0'.repeat(40), 'nonsense', `${first}0`])
    await refused(t, client.list(`snapshots/${none}`), /No such file/, none);
  await refused(t, client.read(`branch/master/diff/${hash}x`), /No such file/);
});

t.test('files: sizes, modes, truncation, renames within rw', async (t) => {
  const { served, db } = await fixture(t, 'host', { fileOctets: 100_000, writtenOctets: 150_000 });
  const client = await Client.attach(served, '9P2000.L');
  const at = 'branch/master/transactions/t';
  await client.mkdir('branch/master/transactions', 't');
  const attributes = async (path: string) => client.call('Tgetattr', { fid: await client.walk(path), mask: 0x7ffn });
  t.match(await attributes('branch/master/ro/somefile'), { size: 10n, mode: 0o100444, mtimeSeconds: 1_700_000_000n });
  t.match(await attributes('branch/master/ro/src/ui/main'), { mode: 0o100555 });
  t.match(await attributes('branch/master/ro/link'), { mode: 0o120777, size: 6n });
  t.match(await attributes('branch/master/head'), { size: 41n });
  t.match(await attributes(`${at}/rw/src/ui/main`), { mode: 0o100755 });
  const fid = await client.walk(`${at}/rw/somefile`);
  const change = {
    fid,
    mode: 0,
    uid: 0,
    gid: 0,
    size: 0n,
    atimeSeconds: 0n,
    atimeNanos: 0n,
    mtimeSeconds: 0n,
    mtimeNanos: 0n,
  };
  await client.call('Tsetattr', { ...change, valid: 8, size: 4n });
  t.equal(await client.read(`${at}/rw/somefile`), 'some');
  await client.call('Tsetattr', { ...change, valid: 1, mode: 0o755 });
  t.match(await attributes(`${at}/rw/somefile`), { mode: 0o100755 });
  const rw = await client.walk(`${at}/rw`);
  const ui = await client.walk(`${at}/rw/src/ui`);
  await client.call('Trenameat', { fid: rw, name: 'somefile', newDirectoryFid: ui, newName: 'main' });
  t.equal(await client.read(`${at}/rw/src/ui/main`), 'some', 'in place of what was there');
  await client.call('Trenameat', { fid: rw, name: 'src', newDirectoryFid: rw, newName: 'moved' });
  t.equal(await client.read(`${at}/rw/moved/ui/main`), 'some');
  await client.call('Tsymlink', { fid: rw, name: 'new-link', target: 'moved', gid: 0 });
  const branch = await client.walk('branch');
  await refused(
    t,
    client.call('Trenameat', { fid: rw, name: 'moved', newDirectoryFid: branch, newName: 'x' }),
    /errno 18/,
  );
  await refused(t, client.call('Tunlinkat', { fid: rw, name: 'moved', flags: 0x200 }), /errno 39/, 'not empty');
  const big = await client.walk(`${at}/rw`);
  await client.call('Tlcreate', { fid: big, name: 'big', flags: 2, mode: 0o644, gid: 0 });
  await client.call('Twrite', { fid: big, offset: 50_000n, data: new Uint8Array(50_000) });
  await refused(t, client.call('Twrite', { fid: big, offset: 99_999n, data: new Uint8Array(2) }), /errno 27/);
  await refused(t, client.call('Twrite', { fid: big, offset: 2n ** 40n, data: new Uint8Array(2) }), /errno 27/);
  const more = await client.walk(`${at}/rw`);
  await client.call('Tlcreate', { fid: more, name: 'more', flags: 2, mode: 0o644, gid: 0 });
  await refused(t, client.call('Twrite', { fid: more, offset: 0n, data: new Uint8Array(60_000) }), /errno 28/);
  await client.write(`${at}/ctl`, 'commit');
  const tree = await db.tree(db.head('master')!);
  t.same(
    (await tree.list(''))?.map(({ name, kind }) => `${name} ${kind}`),
    ['big normal', 'link link', 'more normal', 'moved directory', 'new-link link'],
  );
  t.equal((await tree.entry('moved/ui/main'))?.kind, 'exec');
});

t.test('the guest: read-only but guest/*, and no remotes', async (t) => {
  const { served, db, first } = await fixture(t, 'guest', { transactions: 3 });
  const client = await Client.attach(served, '9P2000.u');
  t.same(await client.list(''), ['branch', 'snapshots', 'trees', 'commits']);
  t.equal(await client.read('branch/master/ro/somefile'), 'some data\n');
  await refused(t, client.walk('remotes'), /No such file/);
  await refused(t, client.mkdir('branch', 'mine'), /Read-only/);
  await refused(t, client.mkdir('branch/master/transactions', 't'), /Read-only/);
  await refused(t, client.write('branch/master/fast-forward', first), /Read-only/);
  await refused(t, client.remove('branch/master'), /Read-only/);
  const master = await client.walk('branch/master');
  await refused(t, client.call('Twstat', { fid: master, stat: { ...untouched, name: 'x' } }), /Read-only/);
  await client.mkdir('branch/guest', 'mine');
  await client.write('branch/guest/mine/fast-forward', first);
  await client.mkdir('branch/guest/mine/transactions', 't');
  await client.write('branch/guest/mine/transactions/t/rw/somefile', 'changed');
  await client.write('branch/guest/mine/transactions/t/ctl', 'commit');
  t.equal(await client.read('branch/guest/mine/ro/somefile'), 'changed');
  t.same(db.branches, ['guest/mine', 'master']);
  t.equal(db.head('master'), first);
  const live: number[] = [];
  while (live.length < 256) live.push(await client.open('branch/master/head.live', 'read'));
  await refused(t, client.open('branch/master/reflog', 'read'), /too many live files/);
  await client.clunk(live[0]!);
  await client.open('branch/master/reflog', 'read');
  for (const name of ['a', 'b', 'c']) await client.mkdir('branch/guest/mine/transactions', name);
  await refused(t, client.mkdir('branch/guest/mine/transactions', 'd'), /too many transactions/);
  for (let count = 1; count < 256; count++) await client.mkdir('branch/guest', `b${count}`);
  await refused(t, client.mkdir('branch/guest', 'more'), /too many branches/);
  await client.remove('branch/guest/b1');
  await client.mkdir('branch/guest', 'more');
  await client.version('9P2000.u');
  await client.call('Tattach', { fid: 0, afid: NOFID, uname: '', aname: '/branch/guest/mine/ro', nUname: 0 });
  t.equal(await client.read('somefile'), 'changed', 'an attach may name a directory');
  for (const aname of ['branch/none', 'branch/master/head', '../..'])
    await refused(t, client.call('Tattach', { fid: 1, afid: NOFID, uname: '', aname, nUname: 0 }), /./, aname);
});

t.test('the transactions of a connection hold no more than they may', async (t) => {
  const { served, db, first } = await fixture(t, 'guest', { writtenOctets: 100_000 });
  const begun: Transaction[] = [];
  const begin = db.transaction.bind(db);
  db.transaction = async (branch) => {
    const transaction = await begin(branch);
    begun.push(transaction);
    return transaction;
  };
  const client = await Client.attach(served, '9P2000.L');
  await client.mkdir('branch/guest', 'mine');
  const at = 'branch/guest/mine/transactions';
  for (const name of ['t', 'u']) {
    await client.mkdir(at, name);
    await client.create(`${at}/${name}/rw`, 'f', name.repeat(20_000));
  }
  const held = (): number => begun[1]!.heldOctets;
  const fid = await client.open(`${at}/u/rw/f`, 'write');
  const overwrite = (round: number) => client.call('Twrite', { fid, offset: 0n, data: Buffer.from(`round ${round}`) });
  for (let round = 0; round < 20; round++) {
    await overwrite(round);
    await client.call('Tgetattr', { fid: await client.walk(`${at}/u/rw/f`), mask: 0x7ffn });
    await client.list(`${at}/u/rw`);
  }
  t.equal(held(), 0, 'who looks leaves no object behind');
  const differ = async (): Promise<void> => {
    for (let round = 0; round < 20; round++) {
      await overwrite(round);
      await client.read(`${at}/u/diff/${first}`);
    }
  };
  await refused(t, differ(), /errno 28/, 'nor does who asks again and again for what has changed');
  t.ok(held() < 100_000, `${held()} octets`);
  await refused(t, client.mkdir(`${at}/t/rw`, 'd'), /errno 28/, 'the bound is that of all');
  await client.write(`${at}/u/ctl`, 'close');
  t.equal(held(), 0, 'one that is closed holds nothing, while a fid is at it');
  const make = async (): Promise<void> => {
    for (let count = 0; count < 1000; count++) await client.mkdir(`${at}/t/rw`, `d${count}`);
  };
  await refused(t, make(), /errno 28/, 'empty directories count as well');
});

t.test('a directory that is moved into a fid of what was in it before', async (t) => {
  const { served } = await fixture(t);
  const client = await Client.attach(served, '9P2000.L');
  await client.mkdir('branch/master/transactions', 't');
  const rw = 'branch/master/transactions/t/rw';
  const root = await client.walk(rw);
  const move = (name: string, newDirectoryFid: number, newName: string) =>
    client.call('Trenameat', { fid: root, name, newDirectoryFid, newName });
  await client.mkdir(rw, 'a');
  await client.mkdir(`${rw}/a`, 'b');
  const inside = await client.walk(`${rw}/a/b`);
  await client.remove(`${rw}/a/b`);
  await move('a', root, 'c');
  // The fid came by what is c now, and is at a/b still.
  await client.mkdir(rw, 'a');
  await client.mkdir(`${rw}/a`, 'b');
  await move('c', inside, 'x');
  t.same(await client.list(`${rw}/a/b`), ['x']);
});

t.test('remotes: another repository is fetched', async (t) => {
  const { served, db } = await fixture(t);
  const other = await database(t);
  const theirs = await other.db.commit('master', [{ path: 'x', content: 'x' }], { message: 'x' });
  const client = await Client.attach(served, '9P2000');
  await client.mkdir('remotes', 'origin');
  t.same(await client.list('remotes/origin'), ['url', 'fetch', 'head']);
  await refused(t, client.write('remotes/origin/fetch', 'master'), /url is not defined/);
  await client.write('remotes/origin/url', `${other.directory}\n`);
  const head = await follow(client, 'remotes/origin/head');
  const line = head.next();
  await client.write('remotes/origin/fetch', 'master\n');
  t.equal(await line, `${theirs}\n`);
  t.equal(await client.read(`snapshots/${theirs}/ro/x`), 'x');
  await client.mkdir('branch', 'copy');
  await client.write('branch/copy/fast-forward', theirs);
  t.equal(db.head('copy'), theirs);
  await refused(t, client.write('remotes/origin/fetch', 'none'), /./);
  await client.remove('remotes/origin');
  t.same(await client.list('remotes'), []);
});
