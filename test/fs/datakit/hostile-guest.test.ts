/** Whatever a guest asks of the database's tree, only branches of its own change. */

import fc from 'fast-check';
import t from 'tap';
import { databaseExport } from '../../../src/fs/datakit/database-export.ts';
import { Client, owner } from '../ninep/client.ts';
import { dialects } from '../ninep/messages.ts';
import { freshDatabase } from './fresh-database.ts';

t.setTimeout(120_000);

t.test('any sequence of operations, from anywhere in the tree', async (t) => {
  const { db } = await freshDatabase(t);
  const first = await db.commit('user', [{ path: 'a/b', content: '1' }], { message: 'First' });
  const second = await db.commit('user', [{ path: 'a/b', content: '2' }], { message: 'Second' });
  const served = databaseExport({ database: db, access: 'guest', owner });

  const names = ['branch', 'user', 'guest', 'mine', 'other', 'transactions', 't', 'rw', 'ro', 'a', 'b', 'head', 'msg'];
  names.push('fast-forward', 'ctl', 'merge', 'parents', 'watch', 'diff', 'remotes', '..', first, second);
  const places = ['', 'branch', 'branch/user', 'branch/guest', 'branch/guest/mine', 'branch/user/transactions'];
  places.push(
    'branch/guest/mine/transactions',
    'branch/guest/mine/transactions/t',
    'branch/user/ro',
    'branch/user/ro/a',
  );
  const at = fc
    .tuple(fc.constantFrom(...places), fc.array(fc.constantFrom(...names), { maxLength: 1 }))
    .map(([place, more]) => [place, ...more].filter(Boolean).join('/'));
  const texts = fc.constantFrom('commit', 'close', first, second, `${first}\n${second}\n`, 'x');
  const operation = fc.tuple(
    fc.constantFrom('mkdir', 'create', 'write', 'remove', 'rename', 'read', 'list'),
    at,
    fc.constantFrom(...names),
    texts,
  );
  const run = async (client: Client, [what, path, name, text]: [string, string, string, string]): Promise<unknown> => {
    // What is live is read until it ends, which would be never.
    if (/live|reflog|watch/.test(`${path}/${name}`)) return;
    if (what === 'mkdir') return client.mkdir(path, name);
    if (what === 'create') return client.create(path, name, text);
    if (what === 'write') return client.write(path, text);
    if (what === 'remove') return client.remove(path);
    if (what === 'read') return client.read(path);
    if (what === 'list') return client.list(path);
    const [fid, directoryFid] = [await client.walk(path), await client.walk('branch/guest')];
    return client.call('Trename', { fid, directoryFid, name });
  };
  let done = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...dialects),
      fc.array(operation, { minLength: 1, maxLength: 40 }),
      async (dialect, operations) => {
        const client = await Client.attach(served, dialect);
        await client.mkdir('branch/guest', 'mine').catch(() => undefined);
        await client.mkdir('branch/guest/mine/transactions', 't').catch(() => undefined);
        for (const each of operations)
          await run(client, each).then(
            () => done++,
            () => undefined,
          );
        client.session.close();
        return db.head('user') === second && db.branches.every((name) => name === 'user' || name.startsWith('guest/'));
      },
    ),
    { numRuns: Number(process.env.RUNS ?? 150) },
  );
  t.ok(done > 50, `${done} operations did something`);
});
