import { chmodSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { firstValueFrom, skip } from 'rxjs';
import t from 'tap';
import { JsonSettings } from '../../src/config/adapter/json-settings.ts';
import { defaults, parseSetting, type SettingName, schema, settingNames } from '../../src/config/schema.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-settings-'));
t.teardown(async () => (await import('node:fs')).rmSync(folder, { recursive: true }));
let count = 0;
const fresh = (text?: string): string => {
  const path = join(folder, `settings-${count++}.json`);
  if (text !== undefined) writeFileSync(path, text);
  return path;
};

t.test('every default is a value that the setting takes', async (t) => {
  for (const name of settingNames) t.equal(parseSetting(name, String(defaults[name])), schema[name].default, name);
});

t.test('absent file: the defaults, and nothing is written', async (t) => {
  const path = fresh();
  const settings = await JsonSettings.open(path);
  t.same(settings.current, defaults);
  t.same(settings.chosen, {});
  t.notOk(readdirSync(folder).includes(path));
});

t.test('set writes whole, for the user alone, whatever the umask, and tells', async (t) => {
  const path = fresh('{"vm.cpus": 4}');
  chmodSync(path, 0o644);
  const settings = await JsonSettings.open(path);
  const changed = firstValueFrom(settings.changes.pipe(skip(1)));
  const umask = process.umask(0);
  await settings.set({ 'vm.memory': '4096', 'ports.bind': '0.0.0.0' });
  process.umask(umask);
  t.equal((await changed)['vm.memory'], 4096);
  t.same(JSON.parse(readFileSync(path, 'utf8')), { 'vm.cpus': '4', 'vm.memory': '4096', 'ports.bind': '0.0.0.0' });
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.same(
    readdirSync(folder).filter((name) => name.endsWith('.new')),
    [],
  );
  t.equal((await JsonSettings.open(path)).current['vm.cpus'], 4, 'and another reader sees it');
});

t.test('all or nothing', async (t) => {
  const path = fresh('{"vm.cpus": 4}');
  const settings = await JsonSettings.open(path);
  await t.rejects(settings.set({ 'vm.memory': '4096', 'vm.cpus': '0' }), { message: /vm\.cpus must be from 1 to 64/ });
  await t.rejects(settings.set({ ['vm.memroy' as SettingName]: '1' }), { message: /there is no setting 'vm.memroy'/ });
  t.equal(settings.current['vm.memory'], defaults['vm.memory']);
  t.equal(readFileSync(path, 'utf8'), '{"vm.cpus": 4}');
});

t.test('unset puts the default back', async (t) => {
  const settings = await JsonSettings.open(fresh('{"vm.cpus": 4, "vm.memory": 1024}'));
  await settings.unset(['vm.cpus']);
  t.equal(settings.current['vm.cpus'], defaults['vm.cpus']);
  t.same(settings.chosen, { 'vm.memory': '1024' });
  await t.rejects(settings.unset(['toString' as SettingName]), { message: /there is no setting/ });
});

t.test('writers at the same time lose nothing', async (t) => {
  const path = fresh();
  const settings = await JsonSettings.open(path);
  await Promise.all([
    settings.set({ 'vm.cpus': '3' }),
    settings.set({ 'vm.memory': '1024' }),
    settings.unset(['ports.bind']),
    settings.set({ 'ports.limit': '7' }),
  ]);
  t.same((await JsonSettings.open(path)).chosen, { 'vm.cpus': '3', 'vm.memory': '1024', 'ports.limit': '7' });
});

t.test('bad content: refused at the start, and afterwards the last good settings stay', async (t) => {
  for (const [text, words] of [
    ['{', /settings-\d+\.json: not JSON .*; mend it/],
    ['[]', /not a JSON object/],
    ['{"vm.cpus": true}', /vm\.cpus is neither text nor a number/],
    ['{"vm.cpus": "many"}', /vm\.cpus must be a whole number, not 'many'/],
    ['{"__proto__": "x", "constructor": "y"}', /there is no setting/],
  ] as const)
    await t.rejects(JsonSettings.open(fresh(text)), { message: words }, text);

  const path = fresh('{"vm.cpus": 4}');
  const settings = await JsonSettings.open(path);
  writeFileSync(path, '{"vm.cpus": 400}');
  await settings.reload();
  t.match(settings.problem, /vm\.cpus must be from 1 to 64, not 400/);
  t.equal(settings.current['vm.cpus'], 4);
  await t.rejects(settings.set({ 'vm.memory': '1024' }), { message: /mend it/ }, 'an edit by hand is not overwritten');
  writeFileSync(path, '{"vm.cpus": 8}');
  await settings.reload();
  t.equal(settings.problem, undefined);
  t.equal(settings.current['vm.cpus'], 8);
});

t.test('an edit by hand is noticed', async (t) => {
  const path = fresh('{}');
  const settings = await JsonSettings.open(path);
  settings.watch();
  const changed = firstValueFrom(settings.changes.pipe(skip(1)));
  writeFileSync(path, '{"vm.cpus": "6"}');
  t.equal((await changed)['vm.cpus'], 6);
  settings.close();
});

t.test('any text in the file is either taken whole or refused with words', async () => {
  const names = fc.oneof(fc.constantFrom(...settingNames), fc.string());
  const values = fc.oneof(fc.string(), fc.integer(), fc.constantFrom('auto', '127.0.0.1', '80-90', '10.0.0.0/24'));
  const texts = fc.oneof(
    fc.dictionary(names, values).map((value) => JSON.stringify(value)),
    fc.string(),
  );
  const path = fresh('');
  await fc.assert(
    fc.asyncProperty(texts, async (text) => {
      writeFileSync(path, text);
      try {
        const { current, chosen } = await JsonSettings.open(path);
        for (const name of Object.keys(chosen)) if (!settingNames.includes(name as SettingName)) return false;
        return Object.keys(current).length === settingNames.length;
      } catch (error) {
        return (error as Error).message.startsWith(path);
      }
    }),
    { numRuns: 300 },
  );
});
