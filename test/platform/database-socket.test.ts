/** The running platform serves the settings' database over 9P to the user's own programs. */

import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openSettings } from '../../src/config/adapter/settings-store.ts';
import { homeAt, makeHome } from '../../src/home.ts';
import { startPlatform } from '../../src/platform.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-9p-'));
t.teardown(() => rmSync(folder, { recursive: true }));

t.test('db.9p.sock answers, for the user alone, and goes with the platform', async (t) => {
  const home = homeAt(join(folder, 'home'));
  makeHome(home);
  const { settingsFile, database: directory } = home;
  const store = await openSettings({ directory, settingsFile, watching: true, log: () => undefined });
  const platform = await startPlatform({
    home,
    settings: store.settings,
    database: store.database,
    imageDirectory: join(folder, 'no-image'),
    versions: {},
    tools: () => Promise.reject(new Error('there is no QEMU here')),
    log: () => undefined,
  });
  t.equal(statSync(home.databaseSocket).mode & 0o777, 0o600);
  const socket = connect(home.databaseSocket);
  // size[4] Tversion tag[2] msize[4] version[s]
  const version = Buffer.from('1300000064ffff002000000600395032303030', 'hex');
  socket.write(version);
  const [answer] = (await once(socket, 'data')) as [Buffer];
  t.equal(answer[4], 101, 'Rversion');
  t.equal(answer.toString('latin1', 13), '9P2000');
  socket.destroy();
  await platform.release();
  await store.close();
  t.notOk(statSync(home.databaseSocket, { throwIfNoEntry: false }));
});
