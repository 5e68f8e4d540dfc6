/** Settings that an older Slipway wrote, and a newer one. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { GitDatabase } from '../../src/config/adapter/git-database.ts';
import { openSettings } from '../../src/config/adapter/settings-store.ts';
import { DatabaseSettings } from '../../src/config/database-settings.ts';
import { migrate } from '../../src/config/migration.ts';
import { chain, ofOld } from './old-settings.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-migration-'));
t.teardown(() => rmSync(folder, { recursive: true }));
t.setTimeout(120_000);
let count = 0;

async function open(home = join(folder, `${count++}`)) {
  const store = await openSettings({
    directory: home,
    settingsFile: `${home}.json`,
    watching: false,
    log: () => undefined,
  });
  return { home, ...store };
}

function openDatabase(directory: string): Promise<GitDatabase> {
  const author = { name: 'x', email: 'x@example.org' };
  return GitDatabase.open({ directory, watching: false, author, nowMs: () => Date.now(), log: () => undefined });
}

const text = (octets: Uint8Array | undefined): string | undefined => octets && Buffer.from(octets).toString();

const filesOf = (files: Readonly<Record<string, string>>) =>
  Object.entries(files).map(([path, content]) => ({ path, content }));

async function oldHome(files: Readonly<Record<string, string>> = ofOld) {
  const { home, database } = await open();
  await database.removeBranch('user');
  await database.commit('user', filesOf(files), { message: 'of old' });
  return { home, database };
}

t.test('settings of an older schema are taken along, by one commit that can be reverted', async (t) => {
  const { database } = await oldHome();
  const before = database.head('user')!;
  const settings = await DatabaseSettings.open(database, chain);
  const chosen = { 'vm.memory': '4096', 'ports.bind': '::1', 'ports.reserved': '5432', 'ports.privileged': 'allow' };
  t.same(settings.chosen, chosen);
  t.equal(settings.problem, undefined);
  const [commit, ...older] = await database.log('user');
  t.equal(older[0]?.id, before, 'one commit');
  t.equal(
    commit?.message,
    `Take the settings from schema 1 to 4

vm.ram '4096MB' is now vm.megabytes '4096MB'
ports.bind '5432' is now ports.reserved '5432'
ports.reserved '::1' is now ports.bind '::1'
vm.colour 'red' has gone
vm.megabytes '4096MB' is now vm.memory '4096'
ports.privileged 'yes' is now ports.privileged 'allow'
vm.cores 'all' has gone`,
  );
  for (const branch of ['user', 'defaults'])
    t.equal(text(await (await database.tree(database.head(branch)!)).read('schema-version')), '4\n');
  await settings.set({ 'vm.cpus': '3' });
  const head = database.head('user');
  t.same((await DatabaseSettings.open(database, chain)).chosen, { ...chosen, 'vm.cpus': '3' });
  t.equal(database.head('user'), head, 'and no second one');

  await settings.unset(['vm.cpus']);
  await database.revert('user', commit!.id);
  const tree = await database.tree(database.head('user')!);
  for (const [path, content] of Object.entries(ofOld)) t.equal(text(await tree.read(path)), content, path);
  await settings.refresh();
  t.match(settings.problem, /the settings follow schema 1, this Slipway knows 4: they are brought up to date when/);
  await t.rejects(settings.set({ 'vm.cpus': '3' }), { message: /follow schema 1/ });
  t.same((await DatabaseSettings.open(database, chain)).chosen, chosen, 'as before, at the next start');
});

t.test('whatever an older schema held, each step says what becomes of it', async () => {
  const names = ['vm.ram', 'vm.megabytes', 'vm.memory', 'vm.cores', 'vm.colour', 'ports.bind', 'ports.reserved'];
  const texts = fc.constantFrom('4096MB', '4096', '2', 'all', '::1', '5432', '');
  await fc.assert(
    fc.asyncProperty(fc.dictionary(fc.constantFrom(...names), texts), async (old) => {
      const files = Object.entries(old).map(([name, value]) => [name.replaceAll('.', '/'), `${value}\n`] as const);
      const { database } = await oldHome({ ...Object.fromEntries(files), 'schema-version': '1\n' });
      await migrate(database, chain);
      const tree = await database.tree(database.head('user')!);
      const now = async (name: string) => text(await tree.read(name.replaceAll('.', '/')))?.replace(/\n$/, '');
      const megabytes = old['vm.ram'] ?? old['vm.megabytes'];
      return (
        (await now('vm.memory')) ===
          (megabytes === undefined ? old['vm.memory'] : (/^(\d+)MB$/.exec(megabytes)?.[1] ?? old['vm.memory'])) &&
        (await now('ports.bind')) === old['ports.reserved'] &&
        (await now('ports.reserved')) === old['ports.bind'] &&
        (await now('vm.colour')) === undefined &&
        (await now('vm.megabytes')) === undefined &&
        (await now('schema-version')) === '4'
      );
    }),
    { verbose: true, numRuns: 20 },
  );
});

t.test('two that open old settings at once, and a third that pushes: one migration', async (t) => {
  const { home, database } = await oldHome();
  const beside = await openDatabase(home);
  await Promise.all([
    DatabaseSettings.open(database, chain),
    DatabaseSettings.open(beside, chain),
    database.commit('user', [{ path: 'ports/limit', content: '7\n' }], { message: 'pushed' }),
  ]);
  const messages = (await database.log('user')).map(({ message }) => message.split('\n')[0]);
  t.equal(messages.filter((message) => message?.startsWith('Take the settings')).length, 1);
  t.same((await DatabaseSettings.open(database, chain)).chosen['ports.limit'], '7');
});

t.test(
  'killed while old settings are brought up to date: all of the old ones are there, or all of the new',
  async (t) => {
    const { NODE_OPTIONS: _, ...env } = process.env;
    const outcomes: Record<string, number> = {};
    for (let i = 0; i < 12; i++) {
      const { home, database } = await oldHome();
      const program = spawn(process.execPath, [join(import.meta.dirname, 'migrating-program.ts'), home], { env });
      const ended = once(program, 'exit');
      await once(program.stdout!, 'data');
      setTimeout(() => program.kill('SIGKILL'), Math.random() * 12);
      await ended;
      const tree = await database.tree((await database.log('user', { limit: 1 }))[0]!.tree);
      const version = text(await tree.read('schema-version'))!.trim();
      outcomes[version] = (outcomes[version] ?? 0) + 1;
      t.equal(text(await tree.read('vm/ram')), version === '1' ? '4096MB\n' : undefined);
      t.equal(text(await tree.read('vm/memory')), version === '1' ? undefined : '4096\n');
      t.equal((await DatabaseSettings.open(database, chain)).current['vm.memory'], 4096);
    }
    t.comment(outcomes);
  },
);

t.test('settings of a newer schema are refused, and none of them is taken or written', async (t) => {
  const { home, database, settings } = await open();
  await settings.set({ 'policy.rules': 'deny 10.0.0.0/8' });
  const newer = [
    { path: 'schema-version', content: '9\n' },
    { path: 'policy/rules', content: 'allow any\n' },
  ];
  const pushed = await database.commit('user', newer, { message: 'of a newer one' });
  await settings.refresh();
  const words = /the settings follow schema 9, this Slipway knows 1: take a newer Slipway, or undo/;
  t.match(settings.problem, words);
  t.equal(settings.current['policy.rules'], 'deny 10.0.0.0/8', 'the last good ones stay');
  await t.rejects(settings.set({ 'vm.cpus': '3' }), { message: words });
  const again = (await open(home)).settings;
  t.match(again.refused, words, 'who starts anew is told, and leaves it');
  t.equal(database.head('user'), pushed);
  await database.revert('user', pushed);
  await again.refresh();
  t.equal(again.problem, undefined);
  t.equal((await open(home)).settings.refused, undefined);
  t.equal(again.current['policy.rules'], 'deny 10.0.0.0/8');
  await database.commit('user', [{ path: 'schema-version', content: 'x' }], { message: 'bad' });
  t.match((await DatabaseSettings.open(database)).problem, /schema-version is not a number: 'x'/);
});
