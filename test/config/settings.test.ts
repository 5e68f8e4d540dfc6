/** Settings in the database: what is chosen, what cannot be taken, what is in force, and the settings file of before. */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { BehaviorSubject, concatMap, filter, firstValueFrom, skip } from 'rxjs';
import t from 'tap';
import { openSettings } from '../../src/config/adapter/settings-store.ts';
import {
  defaults,
  parseSetting,
  type SettingName,
  schema,
  settingNames,
  settingPath,
} from '../../src/config/schema.ts';
import { selectSettings } from '../../src/config/select-settings.ts';
import { settingsDocument } from '../../src/config/settings-document.ts';
import { mirrorState } from '../../src/config/state-mirror.ts';
import { parseDnsRecords } from '../../src/proxy/dns/records.ts';
import { parseDnsZones } from '../../src/proxy/dns/zones.ts';
import { parseEntrance } from '../../src/proxy/entrance/place.ts';
import { NoProxy } from '../../src/proxy/http-proxy/no-proxy.ts';
import { parseProxyUrl } from '../../src/proxy/http-proxy/proxy-url.ts';
import { parseConditions } from '../../src/stack/link/conditions.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-settings-'));
t.teardown(() => rmSync(folder, { recursive: true }));
let count = 0;

async function open(home = join(folder, `${count++}`), watching = false) {
  const settingsFile = `${home}.json`;
  return {
    home,
    settingsFile,
    ...(await openSettings({ directory: home, settingsFile, watching, log: () => undefined })),
  };
}

const text = (octets: Uint8Array | undefined): string | undefined => octets && Buffer.from(octets).toString();

t.test('every default is a value that the setting takes', async (t) => {
  for (const name of settingNames) t.equal(parseSetting(name, String(defaults[name])), schema[name].default, name);
});

t.test('what the schema takes for conditions, the network takes', async (t) => {
  for (const text of [
    '',
    'delay=40ms,jitter=5ms,loss=1%',
    'direction=up,to=10.0.0.0/8,loss=0.5%;delay=1.5s',
    'to=fd00::/8,burst=1%/25%',
    'burst=1%/25%/50%,rate=10mbit,queue=64k',
    'delay=1ms,reorder=1%,duplicate=2%,corrupt=100%,seed=7',
  ]) {
    t.equal(parseSetting('network.conditions', text), text);
    t.doesNotThrow(() => parseConditions(text), text);
  }
  for (const text of ['loss', 'loss=1', 'delay=40', 'speed=1', 'loss=1%,nonsense'])
    t.throws(() => parseSetting('network.conditions', text), { message: /^network\.conditions = .* has / }, text);
  for (const text of ['', '-a', 'a-', 'A', 'a.b', 'x'.repeat(64)])
    t.throws(() => parseSetting('vm.hostname', text), { message: /is not a host name/ }, text);
});

t.test('what the schema takes for proxies, the proxy takes', async (t) => {
  for (const text of ['', 'http://proxy.corp:3128', 'proxy:1/', 'https://[fd00::1]:8443', 'http://127.0.0.1:3128']) {
    t.equal(parseSetting('network.httpProxy', text), text);
    t.doesNotThrow(() => parseProxyUrl(text), text);
  }
  for (const text of [
    'socks5://a:1',
    'http://',
    'http://a/b',
    'a b',
    'http://127.1:1',
    'a:0',
    'a:65536',
    '[::1',
    'ü',
  ]) {
    t.throws(() => parseSetting('network.httpsProxy', text), { message: /^network\.httpsProxy is not a proxy/ }, text);
    t.throws(() => parseProxyUrl(text), text);
  }
  t.throws(() => parseSetting('network.httpProxy', 'http://me:secret@proxy:1'), {
    message: /^(?!.*secret).*proxy\.credential/,
  });
  for (const text of ['', '*', 'a.b,.c *.d', '10.0.0.0/8,10.1.2.3:80', 'fd00::/8 ::1,[::1]:80', 'localhost:8080']) {
    t.equal(parseSetting('network.noProxy', text), text);
    t.doesNotThrow(() => NoProxy.parse(text), text);
  }
  for (const text of ['10.0.0.0/33', 'a:b:c', 'http://x', '127.1', 'a:0', 'a:99999', '[::1', 'a*b', 'fd00::/129']) {
    t.throws(() => parseSetting('network.noProxy', text), { message: /which is no name, address or network/ }, text);
    t.throws(() => NoProxy.parse(text), text);
  }
});

t.test('where the entrance may be', async (t) => {
  for (const text of ['', 'socket', '127.0.0.1:1080', '[::1]:65535', '127.255.0.1:1']) {
    t.equal(parseSetting('network.entrance', text), text);
    if (text.includes(':')) t.doesNotThrow(() => parseEntrance(text), text);
  }
  for (const text of [
    '0.0.0.0:1080',
    '127.0.0.1',
    '127.0.0.1:0',
    '127.0.0.1:65536',
    '127.0.0.256:1',
    '::1:80',
    'unix:/x',
  ])
    t.throws(() => parseSetting('network.entrance', text), { message: /^network\.entrance = / }, text);
});

t.test('a component hears of its own settings alone', async (t) => {
  const all = new BehaviorSubject(defaults);
  const heard: number[] = [];
  all.pipe(selectSettings('ports.limit')).subscribe((now) => heard.push(now['ports.limit']));
  for (const limit of [5, 5, 6]) all.next({ ...all.value, 'ports.limit': limit, 'vm.cpus': all.value['vm.cpus'] + 1 });
  t.same(heard, [defaults['ports.limit'], 5, 6]);
});

t.test('names: what the network takes over the setting takes, and nothing else', async (t) => {
  const cases: [SettingName, (text: string) => unknown, string[], string[]][] = [
    [
      'network.dnsZones',
      parseDnsZones,
      ['', 'corp=10.0.0.53', ' .Corp. = 10.0.0.1,fd00::1#5353 ;\n*.lab.example=10.0.0.2; '],
      ['corp', 'corp=', '=10.0.0.1', 'a b=10.0.0.1', 'corp=dns.example', 'corp=1.2.3.4#0', 'a=10.0.0.1;A=10.0.0.2'],
    ],
    [
      'network.dnsRecords',
      parseDnsRecords,
      ['', '*.dev.test=192.168.65.2', 'Db.test.=10.0.0.5, fd00::5;www.test=www.example.org;\n_x.test=y'],
      ['x', 'x=', '=10.0.0.1', 'x=10.0.0.1,y', 'x=a,b', 'x=10.0.0.300', 'x=x', '*=10.0.0.1', 'x=10.0.0.1;X.=10.0.0.2'],
    ],
  ];
  for (const [name, parse, good, bad] of cases) {
    for (const text of good) {
      t.equal(parseSetting(name, text), text, text);
      t.doesNotThrow(() => parse(text), text);
    }
    for (const text of bad) {
      t.throws(() => parseSetting(name, text), { message: new RegExp(name) }, text);
      t.throws(() => parse(text), text);
    }
  }
  t.equal(parseSetting('network.dnsSearch', 'corp.example, lab'), 'corp.example, lab');
  t.throws(() => parseSetting('network.dnsSearch', 'a b'), { message: /no name/ });
  t.throws(() => parseSetting('network.hostsFile', 'hosts'), { message: /not a path/ });
});

t.test('docs/SETTINGS.md is what the schema says', async (t) => {
  const path = join(import.meta.dirname, '../../docs/SETTINGS.md');
  t.equal(readFileSync(path, 'utf8'), settingsDocument(), "'node tools/settings.ts' writes it anew");
});

t.test('a home without settings has the defaults, and shows them', async (t) => {
  const { database, settings } = await open();
  t.same(settings.current, defaults);
  t.same(settings.chosen, {});
  t.equal(settings.problem, undefined);
  t.same(database.branches, ['defaults', 'user']);
  const shown = await database.tree(database.head('defaults')!);
  for (const name of settingNames) t.equal(text(await shown.read(settingPath(name))), `${defaults[name]}\n`);
});

t.test('set is one commit, all or nothing, in force once it resolves', async (t) => {
  const { home, database, settings } = await open();
  const changed = firstValueFrom(settings.changes.pipe(skip(1)));
  await settings.set({ 'vm.memory': '4096', 'ports.bind': '0.0.0.0' }, 'Both');
  t.equal((await changed)['vm.memory'], 4096);
  t.match(await database.log('user'), [{ message: 'Both' }, { message: 'Begin with the defaults' }]);
  const head = database.head('user');
  await t.rejects(settings.set({ 'vm.memory': '2048', 'vm.cpus': '0' }), { message: /vm\.cpus must be from 1 to 64/ });
  await t.rejects(settings.set({ ['vm.memroy' as SettingName]: '1' }), { message: /there is no setting 'vm.memroy'/ });
  await t.rejects(settings.unset(['toString' as SettingName]), { message: /there is no setting/ });
  t.equal(database.head('user'), head);
  t.equal(settings.current['vm.memory'], 4096);
  await settings.unset(['vm.memory']);
  t.same(settings.chosen, { 'ports.bind': '0.0.0.0' });
  t.same((await open(home)).settings.chosen, settings.chosen, 'another reader sees it');
});

t.test('writers at the same time lose nothing', async (t) => {
  const first = await open();
  const second = await open(first.home);
  await Promise.all([
    first.settings.set({ 'vm.cpus': '3' }),
    second.settings.set({ 'vm.memory': '1024' }),
    first.settings.unset(['ports.bind']),
    second.settings.set({ 'ports.limit': '7' }),
  ]);
  await first.settings.refresh();
  t.same(first.settings.chosen, { 'vm.cpus': '3', 'vm.memory': '1024', 'ports.limit': '7' });
});

t.test('pushed by hand: taken at once when good, else told, and the last good value stays', async (t) => {
  const store = await open(undefined, true);
  const { home, database, settings } = store;
  const problems: string[] = [];
  settings.follow((problem) => problems.push(problem));
  await settings.set({ 'vm.cpus': '4' });
  const clone = `${home}-clone`;
  const git = (...argv: readonly string[]) =>
    execFileSync('git', ['-c', 'user.name=x', '-c', 'user.email=x@y', ...argv], { cwd: clone, stdio: 'pipe' });
  execFileSync('git', ['clone', '--quiet', home, clone]);
  const push = async (files: Readonly<Record<string, string>>): Promise<void> => {
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(join(clone, dirname(path)), { recursive: true });
      writeFileSync(join(clone, path), content);
    }
    git('add', '-A');
    git('commit', '--quiet', '-m', 'by hand');
    const seen = firstValueFrom(database.heads('user').pipe(skip(1)));
    git('push', '--quiet');
    await seen;
  };
  const taken = firstValueFrom(settings.changes.pipe(filter((now) => now['vm.cpus'] === 6)));
  await push({ 'vm/cpus': '6' });
  t.ok(await taken, 'with no newline at the end as well');

  await push({ 'vm/cpus': '600', 'vm/memroy': '1', 'vm/memory': '1024\n' });
  await settings.refresh();
  t.match([settings.current['vm.cpus'], settings.current['vm.memory']], [6, 1024], 'the good of it is taken');
  t.match(settings.problem, /^vm\.cpus must be from 1 to 64, not 600; there is no setting 'vm\.memroy'$/);
  t.ok(problems.includes(settings.problem!), 'and told');
  await push({ 'vm/cpus': '6', 'vm/memroy': '1', 'vm.cpus': '4', 'network/httpProxy': 'http://me:s3cret@proxy' });
  await settings.refresh();
  t.match(settings.problem, /^network\.httpProxy has a user .* in the history, .*docs\/SETTINGS\.md/);
  t.match(settings.problem, /there is no setting at 'vm\.cpus' \(vm\.cpus is the file 'vm\/cpus'\), 'vm\.memroy'$/);
  t.notMatch(settings.problem, /s3cret/, 'a password is not told');
  git('rm', '--quiet', 'vm.cpus', 'network/httpProxy');
  await push({ 'vm/cpus': '600' });
  await settings.refresh();

  await database.commit('state', [{ path: 'vm/cpus', content: '6\n' }], { message: 'In force' });
  const restarted = await open(home);
  t.equal(restarted.settings.current['vm.cpus'], 6, 'across a restart as well');
  t.match(restarted.settings.problem, /vm\.cpus/);

  await settings.set({ 'ports.limit': '9' });
  t.match(settings.problem, /vm\.cpus/, 'what was pushed is not overwritten');
  await settings.unset(['vm.cpus']);
  t.match([settings.current['vm.cpus'], settings.problem], [defaults['vm.cpus'], /^there is no setting 'vm.memroy'/]);
  await store.close();
});

t.test('other defaults may be pushed, and stay over a restart', async (t) => {
  const { home, database, settings } = await open();
  await database.commit('defaults', [{ path: 'vm/cpus', content: '8\n' }], { message: 'Ours' });
  await settings.refresh();
  t.equal(settings.current['vm.cpus'], 8);
  t.same(settings.chosen, {});
  t.equal((await open(home)).settings.current['vm.cpus'], 8);
  await settings.set({ 'vm.cpus': '3' });
  t.equal(settings.current['vm.cpus'], 3, 'what the user has chosen comes first');
});

t.test('state mirrors what is in force', async (t) => {
  const { database } = await open();
  const inForce = new BehaviorSubject(defaults);
  const mirror = mirrorState(database, inForce, (problem) => t.fail(problem));
  inForce.next({ ...defaults, 'vm.cpus': 3 });
  inForce.next({ ...defaults, 'vm.cpus': 7 });
  const cpus = database
    .watch('state', 'vm/cpus')
    .pipe(concatMap(async (node) => node && text(await database.blob(node.hash))));
  await firstValueFrom(cpus.pipe(filter((content) => content === '7\n')));
  mirror.unsubscribe();
  t.ok((await database.log('state')).length <= 3);
});

t.test('the settings file of before is taken over once', async (t) => {
  const home = join(folder, `${count++}`);
  for (const [content, words] of [
    ['{', /\d+\.json: not JSON .*; mend it/],
    ['[]', /not a JSON object/],
    ['{"vm.cpus": true}', /vm\.cpus is neither text nor a number/],
    ['{"vm.cpus": "many"}', /vm\.cpus must be a whole number, not 'many'/],
    ['{"__proto__": "x", "constructor": "y"}', /there is no setting/],
  ] as const) {
    writeFileSync(`${home}.json`, content);
    await t.rejects(open(home), { message: words }, content);
  }
  t.notOk(existsSync(home));
  writeFileSync(`${home}.json`, '{"vm.cpus": 4, "ports.bind": "::1"}');
  const { settings } = await open(home);
  t.same(settings.chosen, { 'vm.cpus': '4', 'ports.bind': '::1' });
  t.notOk(existsSync(`${home}.json`));
  await settings.unset(['vm.cpus']);
  t.same((await open(home)).settings.chosen, { 'ports.bind': '::1' });
});

t.test('any tree of files is taken as far as it is good, and the rest told', async () => {
  const names = fc.oneof(
    fc.constantFrom(...settingNames.map(settingPath), 'schema-version', 'vm', 'vm/memory/x', 'README'),
    fc.string({ minLength: 1, maxLength: 5 }).filter((name) => /^[^/\0.]+$/.test(name)),
  );
  const values = fc.oneof(
    fc.string(),
    fc.uint8Array({ maxLength: 20 }),
    fc.constantFrom('auto', '127.0.0.1', '80-90', '10.0.0.0/24', '1024'),
  );
  const { database, settings } = await open();
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(names, values), { maxLength: 6 }), async (files) => {
      const before = settings.current;
      await database.update(
        'user',
        async (tree) => [
          ...(await tree.list(''))!.map(({ name }) => ({ path: name, content: undefined })),
          ...files.map(([path, content]) => ({ path, content })),
        ],
        { message: 'any' },
      );
      await settings.refresh();
      for (const name of settingNames) {
        const chosen = settings.chosen[name];
        if (chosen !== undefined && parseSetting(name, chosen) !== settings.current[name]) return false;
        if (chosen === undefined && ![before[name], defaults[name]].includes(settings.current[name])) return false;
      }
      return true;
    }),
    { numRuns: 150 },
  );
});
