/** diod's client programs, from Debian, against the database's tree on loopback: 9P2000.L as others speak it. */

import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import t from 'tap';
import { serveStream } from '../../../src/fs/adapter/ninep-stream.ts';
import { databaseExport } from '../../../src/fs/datakit/database-export.ts';
import { LockTable } from '../../../src/fs/ninep/lock-table.ts';
import { ensureDebianPackages } from '../../../tools/debian.ts';
import { cleanEnvironment, run } from '../../vm/programs.ts';
import { owner } from '../ninep/client.ts';
import { freshDatabase } from './fresh-database.ts';

t.setTimeout(120_000);

t.test("diod's clients", async (t) => {
  ensureDebianPackages([{ name: 'diod', proof: 'diodls' }]);
  const { db } = await freshDatabase(t);
  const large = 'large\n'.repeat(100_000);
  const changes = [
    { path: 'a/small', content: 'hello\n' },
    { path: 'large', content: large },
    ...Array.from({ length: 300 }, (_, index) => ({ path: `many/entry-${index}`, content: '' })),
  ];
  const first = await db.commit('master', changes, { message: 'First' });
  const served = databaseExport({ database: db, access: 'host', owner });
  const locks = new LockTable();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    serveStream(socket, { served, locks, log: (line) => t.comment(line) });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const at = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const env = { ...cleanEnvironment(), PATH: `${process.env.PATH}:/usr/sbin` };
  const diod = (program: string, ...argv: string[]) => run(program, ['-s', at, ...argv], env);
  t.teardown(() => server.close());

  const root = await diod('diodls', '-a', '/');
  t.equal(root.stdout, 'branch\nsnapshots\ntrees\ncommits\nremotes\n');
  const long = await diod('diodls', '-l', '-a', '/branch/master/ro');
  t.match(long.stdout, /^dr-xr-xr-x.* a$/m);
  t.match(long.stdout, /^-r--r--r--.* 600000 .* large$/m);
  t.equal(long.status, 0, long.stderr);
  const many = await diod('diodls', '-m', '4096', '-a', '/branch/master/ro/many');
  t.equal(many.stdout.split('\n').length, 301, 'a directory larger than a message');
  const small = await diod('diodcat', '-a', '/', 'branch/master/ro/a/small', 'branch/master/head');
  t.equal(small.stdout, `hello\n${first}\n`);
  const whole = await diod('diodcat', '-m', '8192', '-a', 'branch/master/ro', 'large');
  t.equal(whole.stdout, large);
  const none = await diod('diodcat', '-a', '/', 'branch/none/head');
  t.match(none.stderr, /No such file or directory/);
  const refused = await diod('diodls', '-a', '/nowhere');
  t.match(refused.stderr, /No such file or directory/);

  const live = await diod('diodcat', '-a', '/', 'branch/master/head.live');
  t.equal(live.stdout, `${first}\n`, 'an empty read ends it, where the Linux client would ask again');
});
