/** The entrance follows its setting, and has a credential of its own where it needs one. */

import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ownCredential, readCredential } from '../../src/proxy/adapter/credential-file.ts';
import { EntranceSetting } from '../../src/proxy/adapter/entrance-setting.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-entrance-setting-'));
t.teardown(() => rmSync(folder, { recursive: true }));

t.test('opens, moves and closes; tells what cannot be', async (t) => {
  const credentialPath = join(folder, 'credential');
  const events: string[] = [];
  const entrance = new EntranceSetting({
    socketPath: '/home/entrance.sock',
    credentialPath,
    open: async (at, credential) => {
      const words = 'path' in at ? at.path : `${at.address} ${at.port}`;
      if (words.endsWith(' 1')) throw new Error('cannot listen there');
      events.push(`open ${words} ${credential === undefined ? 'without' : 'with'} a credential`);
      return { close: () => events.push(`close ${words}`) };
    },
    log: (line) => events.push(line),
  });
  const took = async (value: string): Promise<string[]> => {
    await entrance.use(value);
    return events.splice(0);
  };
  t.same(await took(''), []);
  t.same(await took('socket'), [
    'open /home/entrance.sock without a credential',
    'entrance: open at /home/entrance.sock',
  ]);
  t.match(await took('127.0.0.1:1080'), [
    'close /home/entrance.sock',
    'open 127.0.0.1 1080 with a credential',
    /credential/,
  ]);
  t.notMatch(events.join(), readFileSync(credentialPath, 'utf8').trim(), 'which is not told');
  t.same(await took('127.0.0.1:1'), ['close 127.0.0.1 1080', 'network.entrance: cannot listen there; it is closed']);
  t.same(await took('127.0.0.1:2'), [
    'open 127.0.0.1 2 with a credential',
    `entrance: open at 127.0.0.1:2, with what ${credentialPath} says`,
  ]);
  entrance.close();
  t.same(events.splice(0), ['close 127.0.0.1 2']);
  t.same(await took('socket'), [], 'no more');
});

t.test('a credential of its own: made once, the owner’s alone', (t) => {
  const path = join(folder, 'own');
  const umask = process.umask(0);
  const made = ownCredential(path);
  process.umask(umask);
  t.match(made, /^slipway:[\w-]{32}$/);
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.equal(ownCredential(path), made);
  chmodSync(path, 0o644);
  t.throws(() => readCredential(path), { message: `others can read ${path}; chmod 600 ${path}` });
  t.throws(() => readCredential(join(folder, 'none')), { code: 'ENOENT' });
  for (const bad of ['', 'secret', ':secret', 'me:']) {
    writeFileSync(join(folder, 'bad'), `${bad}\nx:y\n`, { mode: 0o600 });
    t.throws(() => readCredential(join(folder, 'bad')), {
      message: `${join(folder, 'bad')} has no line USER:PASSWORD`,
    });
  }
  t.end();
});
