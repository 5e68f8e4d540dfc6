/** The 9P server, message by message, in its three dialects. */

import t, { type Test } from 'tap';
import type { Dialect } from '../../../src/fs/ninep/dialect.ts';
import { LockTable } from '../../../src/fs/ninep/lock-table.ts';
import { Session } from '../../../src/fs/ninep/session.ts';
import { untouched } from '../../../src/fs/ninep/stat-record.ts';
import { Client, exportOf, owner, ServerError, settle } from './client.ts';
import { MemoryDirectory, MemoryStream } from './memory-tree.ts';
import { dialects } from './messages.ts';

const NOFID = 0xffffffff;

function tree() {
  const root = new MemoryDirectory();
  const folder = root.createDirectory('folder');
  const deep = folder.createDirectory('deep');
  deep.createFile('leaf', 0o644).content = Buffer.from('leaf content\n');
  const file = root.createFile('file', 0o640);
  file.content = Buffer.from('hello, world\n');
  root.createLink('link', 'folder/deep');
  const live = root.add('live', (id) => new MemoryStream(id));
  return { root, folder, deep, file, live, served: exportOf(root) };
}

/** The same test in each of the dialects. */
function each(
  name: string,
  test: (t: Test, dialect: Dialect, fixture: ReturnType<typeof tree>) => Promise<void>,
): void {
  for (const dialect of dialects) t.test(`${dialect}: ${name}`, (t) => test(t, dialect, tree()));
}

/** The call is answered with this errno; 9P2000 has words only. */
async function refused(t: Test, call: Promise<unknown>, errno: number, what = ''): Promise<void> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ServerError)) t.fail(`not refused: ${what}`);
  else if (error.errno === 0xffffffff) t.not(error.message, '', what);
  else t.equal(error.errno, errno, what);
}

t.test('version: dialects, sizes, nonsense, and beginning anew', async (t) => {
  const client = new Client(tree().served);
  t.match(await client.send('Tattach', { fid: 0, afid: NOFID, uname: '', aname: '', nUname: 0 }), { kind: 'Rerror' });
  t.match(await client.version('9P2000.L', 8192), { msize: 8192, version: '9P2000.L' });
  t.match(await client.version('9P2000.u', 0xffffffff), { msize: 131_096, version: '9P2000.u' }, 'ours is the limit');
  t.match(await client.send('Tversion', { msize: 9000, version: '9P2000.x' }, 0xffff), { version: '9P2000' });
  client.dialect = '9P2000';
  t.match(
    await client.send('Tversion', { msize: 100, version: '9P2000' }, 0xffff),
    { version: 'unknown' },
    'too small',
  );
  t.match(await client.send('Tversion', { msize: 9000, version: 'NFS' }, 0xffff), { version: 'unknown' });
  t.match(await client.send('Tclunk', { fid: 0 }), { kind: 'Rerror' }, 'nothing is agreed on');
});

t.test('version ends what came before it', async (t) => {
  const { served, live, file } = tree();
  const client = await Client.attach(served, '9P2000.L');
  const fid = await client.open('live', 'read');
  await client.open('file', 'read');
  t.equal(file.opens, 1);
  void client.send('Tread', { fid, offset: 0n, count: 100 });
  await settle();
  t.equal(client.session.pending, 1);
  client.log.length = 0;
  await client.version('9P2000.L');
  await settle();
  t.same(client.log, ['Rversion 65535'], 'the blocked read is never answered');
  t.equal(client.session.fids, 0);
  t.equal(live.open_.size, 0);
  t.equal(file.opens, 0);
});

each('walk: steps, clones, parts of the way, ..', async (t, dialect, { served }) => {
  const client = await Client.attach(served, dialect);
  const deep = await client.walk('folder/deep');
  const whole = await client.call('Twalk', { fid: deep, newfid: 1, names: ['..', '..', 'folder', 'deep', 'leaf'] });
  t.equal(whole.qids.length, 5);
  t.equal(whole.qids[4]?.type, 0);
  const clone = await client.call('Twalk', { fid: 1, newfid: 2, names: [] });
  t.same(clone.qids, []);
  const part = await client.call('Twalk', { fid: 0, newfid: 3, names: ['folder', 'none', 'x'] });
  t.equal(part.qids.length, 1, 'what was found before it failed');
  await refused(t, client.call('Tclunk', { fid: 3 }), 9, 'the new fid is not there then');
  await refused(t, client.call('Twalk', { fid: 0, newfid: 3, names: ['none'] }), 2, 'not even one step');
  await refused(t, client.call('Twalk', { fid: 1, newfid: 3, names: ['x'] }), 20, 'a file has no children');
  await refused(t, client.call('Twalk', { fid: 0, newfid: 2, names: ['file'] }), 9, 'the new fid is in use');
  await refused(t, client.call('Twalk', { fid: 77, newfid: 4, names: [] }), 9, 'no such fid');
  for (const name of ['', 'a/b', 'a\0b', ...(dialect === '9P2000.L' ? [] : ['.'])])
    await refused(t, client.call('Twalk', { fid: 0, newfid: 5, names: [name] }), 2, JSON.stringify(name));
  await refused(t, client.call('Twalk', { fid: 0, newfid: 5, names: Array(17).fill('..') }), 22, '17 names');
  t.equal((await client.call('Twalk', { fid: 0, newfid: 5, names: Array(16).fill('..') })).qids.length, 16);
  await client.call('Twalk', { fid: 5, newfid: 5, names: ['file'] });
  const open = await client.open('folder', 'read');
  await refused(t, client.call('Twalk', { fid: open, newfid: open, names: ['deep'] }), 9, 'an open fid');
  await refused(t, client.call('Tattach', { fid: 0, afid: NOFID, uname: '', aname: '', nUname: 0 }), 9, 'fid');
  await refused(t, client.call('Tattach', { fid: 9, afid: 1, uname: '', aname: '', nUname: 0 }), 9, 'afid');
});

each('files: read, write, truncate, create, remove', async (t, dialect, { served, root, file }) => {
  const client = await Client.attach(served, dialect);
  t.equal(await client.read('file', 5), 'hello, world\n', 'in small pieces');
  await client.write('file', 'new');
  t.equal(file.text, 'new');
  const fid = await client.open('file', 'write');
  await client.call('Twrite', { fid, offset: 5n, data: Buffer.from('!') });
  t.equal(file.text, 'new\0\0!', 'a gap is zeros');
  await refused(t, client.call('Tread', { fid, offset: 0n, count: 1 }), 9, 'opened for writing');
  await refused(t, client.call('Twrite', { fid, offset: 2n ** 60n, data: Buffer.from('!') }), 27, 'too far');
  await client.clunk(fid);
  const reading = await client.open('file', 'read');
  await refused(t, client.call('Twrite', { fid: reading, offset: 0n, data: Buffer.from('!') }), 9, 'for reading');
  t.equal(
    (await client.call('Tread', { fid: reading, offset: 2n ** 63n, count: 10 })).data.length,
    0,
    'beyond the end',
  );
  await client.create('folder', 'made', 'content', 0o755);
  t.equal(await client.read('folder/made'), 'content');
  await client.mkdir('', 'directory');
  t.ok(root.children.get('directory') instanceof MemoryDirectory);
  const at = await client.walk('folder');
  const again: Promise<unknown> =
    dialect === '9P2000.L'
      ? client.call('Tlcreate', { fid: at, name: 'made', flags: 1, mode: 0o644, gid: 0 })
      : client.call('Tcreate', { fid: at, name: 'made', perm: 0o644, mode: 1, extension: '' });
  await refused(t, again, 17, 'it exists');
  for (const name of ['', '.', '..', 'a/b', 'x'.repeat(256)]) {
    const bad: Promise<unknown> =
      dialect === '9P2000.L'
        ? client.call('Tmkdir', { fid: at, name, mode: 0o755, gid: 0 })
        : client.call('Tcreate', { fid: at, name, perm: 0x800001ed, mode: 0, extension: '' });
    await t.rejects(bad, name);
  }
  await client.remove('directory');
  t.notOk(root.children.has('directory'));
  const full = await client.walk('folder');
  await refused(t, client.call('Tremove', { fid: full }), 39, 'not empty');
  await refused(t, client.call('Tclunk', { fid: full }), 9, 'yet the fid is gone');
  await refused(t, client.call('Tremove', { fid: await client.walk('') }), 16, 'the root');
});

each('directories: whole, in pieces, twice, and while they change', async (t, dialect, { served, folder }) => {
  const client = await Client.attach(served, dialect);
  const names = Array.from({ length: 500 }, (_, index) => `entry-${index}`);
  for (const name of names) folder.createFile(name, 0o600);
  t.same(await client.list('folder'), ['deep', ...names]);
  t.same(await client.list('folder', 200), ['deep', ...names], 'a few at a time');
  const fid = await client.open('folder', 'read');
  const request = { fid, offset: 0n, count: 1000 };
  const kind = dialect === '9P2000.L' ? 'Treaddir' : 'Tread';
  const first = await client.call(kind, request);
  const next = dialect === '9P2000.L' ? Buffer.from(first.data).readBigUInt64LE(13) : BigInt(first.data.length);
  folder.children.delete('deep');
  const second = await client.call(kind, { ...request, offset: next });
  t.not(second.data.length, 0);
  const rewound = await client.call(kind, request);
  t.notSame(rewound.data, first.data, 'read from the beginning again, it is listed again');
  if (dialect !== '9P2000.L') await t.rejects(client.call(kind, { ...request, offset: 3n }), 'an offset of its own');
  await refused(t, client.call(kind, { ...request, offset: 0n, count: 10 }), 22, 'no room for an entry');
  await t.rejects(client.call('Twrite', { fid, offset: 0n, data: Buffer.from('x') }), 'a directory is not written');
  await client.clunk(fid);
  await refused(t, client.open('folder', 'write'), 21, 'nor opened for writing');
});

t.test('9P2000 and 9P2000.u: stat and wstat', async (t) => {
  for (const dialect of ['9P2000', '9P2000.u'] as const) {
    const { served, root, file, folder } = tree();
    const client = await Client.attach(served, dialect);
    const fid = await client.walk('file');
    const { stat } = await client.call('Tstat', { fid });
    t.match(stat, { name: 'file', mode: 0o640, length: 13n, uid: owner.name, mtime: 1_700_000_000 });
    const directory = await client.walk('folder');
    t.match((await client.call('Tstat', { fid: directory })).stat, {
      mode: 0x800001ed,
      length: 0n,
      qid: { type: 0x80 },
    });
    const link = (await client.call('Tstat', { fid: await client.walk('link') })).stat;
    if (dialect === '9P2000.u') t.match(link, { mode: 0x020001ff, extension: 'folder/deep', qid: { type: 2 } });
    else t.match(link, { mode: 0o777, qid: { type: 0 } }, 'a plain file to who knows no links');
    await client.call('Twstat', { fid, stat: untouched });
    await client.call('Twstat', { fid, stat: { ...untouched, mode: 0o600 } });
    t.equal(file.mode, 0o600);
    await client.call('Twstat', { fid, stat: { ...untouched, length: 5n, mtime: 1 } });
    t.equal(file.text, 'hello');
    await client.call('Twstat', { fid, stat: { ...untouched, name: 'renamed', muid: 'nobody' } });
    t.equal(root.children.get('renamed'), file);
    t.equal((await client.call('Tstat', { fid })).stat.name, 'renamed', 'the fid has moved with it');
    t.equal((await client.call('Tstat', { fid: await client.walk('renamed') })).stat.length, 5n);
    const cannot: [Partial<typeof untouched>, string][] = [
      [{ name: 'folder' }, 'the name is taken'],
      [{ name: 'a/b' }, 'no name'],
      [{ name: 'x', length: 0n }, 'two changes at once'],
      [{ mode: 0x800001ff }, 'it becomes no directory'],
      [{ uid: 'glenda' }, 'it has the owner it has'],
    ];
    for (const [change, what] of cannot)
      await t.rejects(client.call('Twstat', { fid, stat: { ...untouched, ...change } }), what);
    // Fids below a renamed directory go with it.
    const leaf = await client.walk('folder/deep/leaf');
    await client.call('Twstat', { fid: directory, stat: { ...untouched, name: 'elsewhere' } });
    t.equal(root.children.get('elsewhere'), folder);
    await client.call('Tremove', { fid: leaf });
    t.equal(await client.list('elsewhere/deep').then((names) => names.length), 0);
  }
});

t.test('9P2000.u: links are made by create', async (t) => {
  const client = await Client.attach(tree().served, '9P2000.u');
  const fid = await client.walk('folder');
  await client.call('Tcreate', { fid, name: 'made', perm: 0x020001ff, mode: 0, extension: 'target' });
  const { stat } = await client.call('Tstat', { fid });
  t.match(stat, { name: 'made', extension: 'target' });
  const other = await client.walk('folder');
  await t.rejects(
    client.call('Tcreate', { fid: other, name: 'fifo', perm: 0x00200000, mode: 0, extension: '' }),
    'a pipe',
  );
});

t.test('9P2000: a link reads as its target; ORCLOSE removes', async (t) => {
  const { served, root } = tree();
  const client = await Client.attach(served, '9P2000');
  t.equal(await client.read('link'), 'folder/deep');
  const fid = await client.walk('file');
  await client.call('Topen', { fid, mode: 0x40 });
  await client.clunk(fid);
  t.notOk(root.children.has('file'));
});

t.test('9P2000.L: attributes, links, names', async (t) => {
  const { served, root, file, folder } = tree();
  const client = await Client.attach(served, '9P2000.L');
  const fid = await client.walk('file');
  t.match(await client.call('Tgetattr', { fid, mask: 0x3fffn }), {
    valid: 0x7ffn,
    mode: 0o100640,
    size: 13n,
    mtimeSeconds: 1_700_000_000n,
    mtimeNanos: 500_000_000n,
  });
  const change = {
    fid,
    mode: 0o100600,
    uid: 0,
    gid: 0,
    size: 5n,
    atimeSeconds: 0n,
    atimeNanos: 0n,
    mtimeSeconds: 0n,
    mtimeNanos: 0n,
  };
  await client.call('Tsetattr', { ...change, valid: 0x1f9 });
  t.equal(file.mode, 0o600);
  t.equal(file.text, 'hello');
  await client.call('Tsetattr', { ...change, valid: 0x6 });
  await refused(t, client.call('Tsetattr', { ...change, valid: 0x2, uid: 5 }), 1);
  t.match(await client.call('Treadlink', { fid: await client.walk('link') }), { target: 'folder/deep' });
  await refused(t, client.call('Treadlink', { fid }), 22);
  await refused(t, client.open('link', 'read'), 40);
  const directory = await client.walk('folder');
  await client.call('Tsymlink', { fid: directory, name: 'made', target: 'x', gid: 0 });
  t.equal(folder.children.get('made')?.kind, 'link');
  await refused(t, client.call('Tsymlink', { fid: directory, name: 'made', target: 'x', gid: 0 }), 17);
  await client.call('Trenameat', { fid: 0, name: 'file', newDirectoryFid: directory, newName: 'moved' });
  t.equal(folder.children.get('moved'), file);
  await client.call('Trename', { fid, directoryFid: 0, name: 'back' });
  t.equal(root.children.get('back'), file, 'the fid was moved, and moves it again');
  const taken = { fid: 0, newDirectoryFid: 0 };
  await refused(t, client.call('Trenameat', { ...taken, name: 'back', newName: 'folder' }), 21);
  await refused(t, client.call('Trenameat', { ...taken, name: 'folder', newName: 'back' }), 20);
  await refused(t, client.call('Trenameat', { ...taken, name: 'none', newName: 'x' }), 2);
  await client.call('Trenameat', { ...taken, name: 'back', newName: 'link' });
  t.equal(root.children.get('link'), file, 'a file takes the place of another');
  await refused(t, client.call('Tunlinkat', { fid: 0, name: 'folder', flags: 0 }), 21);
  await refused(t, client.call('Tunlinkat', { fid: 0, name: 'link', flags: 0x200 }), 20);
  await refused(t, client.call('Tunlinkat', { fid: 0, name: 'none', flags: 0 }), 2);
  await client.call('Tunlinkat', { fid: 0, name: 'link', flags: 0 });
  t.notOk(root.children.has('link'));
  t.match(await client.call('Tstatfs', { fid: 0 }), { fsType: 0x01021997, nameOctets: 255 });
  await client.call('Tfsync', { fid: 0, dataOnly: 0 });
  await refused(t, client.call('Txattrwalk', { fid: 0, newfid: 50, name: 'user.x' }), 95);
  await refused(t, client.call('Txattrcreate', { fid: 0, name: 'user.x', size: 1n, flags: 0 }), 95);
  await refused(t, client.call('Tlink', { directoryFid: 0, fid: directory, name: 'x' }), 1);
  await refused(t, client.call('Tmknod', { fid: 0, name: 'x', mode: 0, major: 0, minor: 0, gid: 0 }), 1);
  await refused(t, client.call('Tstat', { fid: 0 }), 95, 'not of this dialect');
});

t.test('9P2000.L: record locks, between connections', async (t) => {
  const { served } = tree();
  const locks = new LockTable(10);
  const one = await Client.attach(served, '9P2000.L', { locks });
  const two = await Client.attach(served, '9P2000.L', { locks });
  const mine = await one.open('file', 'write');
  const theirs = await two.open('file', 'write');
  const lock = { flags: 0, start: 10n, length: 10n, process: 1, client: 'guest' };
  t.match(await one.call('Tlock', { fid: mine, lockType: 1, ...lock }), { status: 0 });
  t.match(
    await one.call('Tlock', { fid: mine, lockType: 0, ...lock, length: 0n }),
    { status: 0 },
    'its own it may change',
  );
  t.match(await two.call('Tlock', { fid: theirs, lockType: 0, ...lock }), { status: 0 }, 'shared');
  t.match(await two.call('Tlock', { fid: theirs, lockType: 1, ...lock, start: 100n }), { status: 1 }, 'blocked');
  const { flags: _flags, ...query } = lock;
  t.match(await two.call('Tgetlock', { fid: theirs, lockType: 1, ...query, start: 500n }), {
    lockType: 0,
    start: 10n,
    length: 0n,
  });
  t.match(await two.call('Tgetlock', { fid: theirs, lockType: 1, ...query, start: 0n }), { lockType: 2 }, 'none there');
  t.match(await one.call('Tlock', { fid: mine, lockType: 2, ...lock, start: 12n, length: 2n }), { status: 0 });
  t.match(
    await two.call('Tlock', { fid: theirs, lockType: 1, ...lock, start: 12n, length: 2n }),
    { status: 0 },
    'cut out',
  );
  await one.clunk(mine);
  t.match(
    await two.call('Tlock', { fid: theirs, lockType: 1, ...lock, start: 100n }),
    { status: 0 },
    'gone with the fid',
  );
  for (let index = 0; index < 9; index++)
    await two.call('Tlock', { fid: theirs, lockType: 1, ...lock, start: BigInt(1000 + index * 20) });
  t.match(
    await two.call('Tlock', { fid: theirs, lockType: 1, ...lock, start: 5000n }),
    { status: 2 },
    'not without end',
  );
  two.session.close();
  t.equal(locks.size, 0);
});

each('a read waits, and ends by data, by flush, by clunk', async (t, dialect, { served, live }) => {
  const client = await Client.attach(served, dialect);
  const fid = await client.open('live', 'read');
  const first = client.call('Tread', { fid, offset: 0n, count: 100 });
  await settle();
  t.equal(client.session.pending, 1);
  live.publish('one');
  live.publish('two');
  t.equal(Buffer.from((await first).data).toString(), 'one\n', 'one line a read');
  t.equal((await client.call('Tread', { fid, offset: 4n, count: 100 })).data.length, 0, 'which is then told to be all');
  const second = await client.call('Tread', { fid, offset: 4n, count: 2 });
  t.equal(Buffer.from(second.data).toString(), 'tw');
  t.equal(
    Buffer.from((await client.call('Tread', { fid, offset: 6n, count: 2 })).data).toString(),
    'o\n',
    'and its rest',
  );
  await refused(t, client.call('Tread', { fid, offset: 1n, count: 9 }), 29, 'it does not go back to lines gone');
  client.log.length = 0;
  const third = client.send('Tread', { fid, offset: 8n, count: 100 }, 1000);
  await settle();
  await client.call('Tflush', { oldtag: 1000 }, 1001);
  t.match(await third, dialect === '9P2000.L' ? { errno: 4 } : { kind: 'Rerror' });
  const error = dialect === '9P2000.L' ? 'Rlerror' : 'Rerror';
  t.same(client.log, [`${error} 1000`, 'Rflush 1001'], 'the flush is answered last');
  const fourth = client.send('Tread', { fid, offset: 8n, count: 100 });
  await settle();
  await client.clunk(fid);
  t.match(await fourth, { kind: error });
  t.equal(live.open_.size, 0, 'nobody watches any more');
});

t.test('flush: of nothing, of a flush, many of one request', async (t) => {
  const { served } = tree();
  const client = await Client.attach(served, '9P2000.L');
  await client.call('Tflush', { oldtag: 4000 });
  await client.call('Tflush', { oldtag: 7 }, 7);
  const fid = await client.open('live', 'read');
  client.log.length = 0;
  // All before any of it can be answered.
  const all = [
    client.send('Tread', { fid, offset: 0n, count: 100 }, 100),
    client.send('Tflush', { oldtag: 100 }, 101),
    client.send('Tflush', { oldtag: 101 }, 102),
    client.send('Tflush', { oldtag: 100 }, 103),
  ];
  await Promise.all(all);
  t.equal(client.log[0], 'Rlerror 100');
  t.same(client.log.slice(1).sort(), ['Rflush 101', 'Rflush 102', 'Rflush 103']);
  t.equal(client.session.pending, 0);
  void client.send('Tread', { fid, offset: 0n, count: 100 }, 500);
  await settle();
  client.log.length = 0;
  void client.send('Tclunk', { fid: 0 }, 500);
  await settle();
  t.same(client.log, ['Rlerror 500'], 'a tag in use is not used again');
  await client.call('Tflush', { oldtag: 500 });
  t.equal((await client.list('')).length, 4, 'so the root fid is there');
});

t.test('limits: fids, requests, entries, the size of replies', async (t) => {
  const { served, root, file } = tree();
  const client = await Client.attach(served, '9P2000.L', { limits: { fids: 10, requests: 4, entries: 20 } });
  for (let fid = 1; fid < 10; fid++) await client.call('Twalk', { fid: 0, newfid: fid, names: [] });
  await refused(t, client.call('Twalk', { fid: 0, newfid: 10, names: [] }), 105);
  await client.call('Twalk', { fid: 1, newfid: 1, names: ['live'] });
  await client.call('Tlopen', { fid: 1, flags: 0 });
  for (let tag = 1; tag <= 4; tag++) void client.send('Tread', { fid: 1, offset: 0n, count: 10 }, tag);
  await settle();
  await refused(t, client.call('Tgetattr', { fid: 0, mask: 0n }, 9), 105, 'too many requests');
  await client.call('Tflush', { oldtag: 2 }, 10);
  await client.call('Tgetattr', { fid: 0, mask: 0n }, 11);
  await client.clunk(1);
  for (let index = 0; index < 10; index++) root.createFile(`entry-${index}`, 0o644);
  for (const fid of [2, 3]) await client.call('Tlopen', { fid, flags: 0 });
  await client.call('Treaddir', { fid: 2, offset: 0n, count: 4096 });
  await refused(t, client.call('Treaddir', { fid: 3, offset: 0n, count: 4096 }), 12, 'too many entries held');
  await client.clunk(2);
  await client.call('Treaddir', { fid: 3, offset: 0n, count: 4096 });
  file.content = new Uint8Array(100_000);
  await client.call('Twalk', { fid: 4, newfid: 4, names: ['file'] });
  await client.call('Tlopen', { fid: 4, flags: 0 });
  t.equal((await client.call('Tread', { fid: 4, offset: 0n, count: 0xffffffff })).data.length, 65_536 - 11);
});

t.test('congestion: replies that nobody takes, and data of writes', async (t) => {
  const { served } = tree();
  let relieved = 0;
  const session = new Session({
    served,
    locks: new LockTable(),
    limits: { replies: 2 },
    ready: () => undefined,
    relieved: () => relieved++,
  });
  const version = Uint8Array.of(19, 0, 0, 0, 100, 0xff, 0xff, 0, 32, 0, 0, 6, 0, ...Buffer.from('9P2000'));
  const clunk = Uint8Array.of(11, 0, 0, 0, 120, 1, 0, 9, 0, 0, 0);
  session.input(version);
  for (let index = 0; index < 2; index++) {
    session.input(clunk);
    await settle();
  }
  t.ok(session.congested);
  while (session.take());
  t.notOk(session.congested);
  t.ok(relieved > 0);
});

t.test('a file that went away while it is read', async (t) => {
  const { served, root } = tree();
  const client = await Client.attach(served, '9P2000');
  const fid = await client.open('file', 'read');
  root.children.delete('file');
  t.equal((await client.call('Tread', { fid, offset: 0n, count: 5 })).data.length, 5);
});
