/** What a guest may fill: the host's disk, branches, and how deep a tree goes. */

import { execFileSync } from 'node:child_process';
import t, { type Test } from 'tap';
import { databaseExport } from '../../../src/fs/datakit/database-export.ts';
import { DiskRoom } from '../../../src/fs/datakit/disk-room.ts';
import { Client, owner } from '../ninep/client.ts';
import { freshDatabase } from './fresh-database.ts';

async function fixture(t: Test, guestDiskOctets: number) {
  const { db, directory } = await freshDatabase(t);
  const clock = { ms: 0 };
  const served = databaseExport({ database: db, access: 'guest', owner, guestDiskOctets, nowMs: () => clock.ms });
  const client = await Client.attach(served, '9P2000.u');
  await client.mkdir('branch/guest', 'mine');
  return { db, directory, clock, served, client };
}

/** Commits a file of the guest's, in place of what was there. */
async function commit(client: Client, octets: string, name = 't'): Promise<void> {
  const at = `branch/guest/mine/transactions/${name}`;
  await client.mkdir('branch/guest/mine/transactions', name);
  await client.create(`${at}/rw`, name, octets);
  await client.write(`${at}/ctl`, 'commit');
}

t.test('a guest fills no more of the disk than it may, and the host goes on', async (t) => {
  const { db, directory, clock, client } = await fixture(t, 400_000);
  let commits = 0;
  const full = async (): Promise<void> => {
    for (; commits < 50; commits++)
      await commit(client, `${commits}`.repeat(30_000 / `${commits}`.length), `t${commits}`);
  };
  await t.rejects(full(), { message: /the settings database takes 0 MiB already/ });
  t.ok(commits > 5 && commits < 13, `${commits} commits of 30 000 octets`);
  t.ok((await db.diskOctets(1e9)) < 420_000);
  t.same(await client.list('branch/guest/mine/transactions'), [`t${commits}`], 'the transaction stays');
  await db.commit('user', [{ path: 'x', content: 'y' }], { message: 'of the host' });

  await db.removeBranch('guest/mine');
  execFileSync('git', ['gc', '--quiet', '--prune=now'], { cwd: directory });
  const again = (): Promise<unknown> => client.write(`branch/guest/mine/transactions/t${commits}/ctl`, 'commit');
  await client.mkdir('branch/guest', 'mine');
  await t.rejects(again(), /already/, 'it is not looked at again at once');
  clock.ms += 5000;
  await again();
});

t.test('what is written over in place counts as well', async (t) => {
  const { client } = await fixture(t, 200_000);
  await commit(client, 'x'.repeat(50_000));
  const over = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) {
      await client.mkdir('branch/guest/mine/transactions', `u${i}`);
      await client.write(`branch/guest/mine/transactions/u${i}/rw/t`, String(i));
      await client.write(`branch/guest/mine/transactions/u${i}/ctl`, 'commit');
    }
  };
  await t.rejects(over(), { message: /already/ });
});

t.test('commits at the same time do not together take more than there is', async (t) => {
  let taken = 0;
  let looks = 0;
  const room = new DiskRoom(
    100_000,
    async () => {
      looks++;
      return taken;
    },
    () => 0,
  );
  const work = async (): Promise<void> => {
    await new Promise(setImmediate);
    taken += 10_000;
  };
  const done = await Promise.allSettled(Array.from({ length: 50 }, () => room.within(10_000, work)));
  t.equal(done.filter(({ status }) => status === 'fulfilled').length, 5);
  t.equal(looks, 1);
});

t.test('a guest has 256 branches', async (t) => {
  const { client } = await fixture(t, 1e9);
  for (let i = 1; i < 256; i++) await client.mkdir('branch/guest', `b${i}`);
  await t.rejects(client.mkdir('branch/guest', 'one-more'), { message: /too many branches/ });
});

t.test('a tree is 128 deep', async (t) => {
  const { db } = await fixture(t, 1e9);
  const transaction = await db.transaction('guest/mine');
  const deepest = Array.from({ length: 127 }, () => 'd').join('/');
  await transaction.write(`${deepest}/file`, 'x');
  await t.rejects(transaction.write(`${deepest}/d/file`, 'x'), { code: 'INVALID', message: /longer than 128 names/ });
  await t.rejects(transaction.makeDirectory('d'.repeat(4097)), { code: 'INVALID' });
  await transaction.commit();
});

t.test('nor does one go deeper whose directories are moved into each other', async (t) => {
  const { served } = await fixture(t, 1e9);
  const client = await Client.attach(served, '9P2000.L');
  const at = 'branch/guest/mine/transactions/t';
  await client.mkdir('branch/guest/mine/transactions', 't');
  await client.mkdir(`${at}/rw`, 'a');
  await client.create(`${at}/rw/a`, 'file', 'x');
  const move = async (from: string, to: string): Promise<void> => {
    const [fid, directoryFid] = [await client.walk(`${at}/rw/${from}`), await client.walk(`${at}/rw/${to}`)];
    await client.call('Trename', { fid, directoryFid, name: 'a' });
  };
  for (let i = 0; i < 130; i++) {
    await client.mkdir(`${at}/rw`, 'b');
    await move('a', 'b');
    await move('b', '');
  }
  await t.rejects(client.write(`${at}/ctl`, 'commit'), Error);
  t.match(await client.read(`${at}/ctl`), /lies deeper than 128/);
});
