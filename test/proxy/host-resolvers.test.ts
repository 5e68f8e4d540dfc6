/** The host's name servers: the setting's form, resolv.conf, and its changes. */

import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { LOOK_MS } from '../../src/proxy/adapter/changing-file.ts';
import { HostResolvers } from '../../src/proxy/adapter/host-resolvers.ts';
import { HostsFile } from '../../src/proxy/adapter/hosts-file.ts';
import { parseNameServers, parseResolvConf } from '../../src/proxy/dns/name-servers.ts';
import type { NameServer } from '../../src/proxy/port.ts';
import { scopeOf, withoutScope } from '../../src/proxy/scoped-address.ts';
import { formatAddress } from '../../src/stack/wire/address.ts';
import { FakeClock } from './gateway-fakes.ts';

const shown = (servers: readonly NameServer[]): string[] =>
  servers.map(({ address, zone, port }) => `${formatAddress(address)}${zone ? `%${zone}` : ''}#${port}`);

t.test('the setting network.dns', async (t) => {
  t.same(shown(parseNameServers('')), []);
  t.same(shown(parseNameServers('192.0.2.1, 2001:db8::1#5353 ,10.0.0.1#1,')), [
    '192.0.2.1#53',
    '2001:db8::1#5353',
    '10.0.0.1#1',
  ]);
  t.same(shown(parseNameServers('fe80::1%eth0,fe80::2%3#5353')), ['fe80::1%eth0#53', 'fe80::2%3#5353']);
  for (const bad of [
    'dns.example',
    '1.2.3',
    '1.2.3.4:53',
    '1.2.3.4#',
    '1.2.3.4#0',
    '1.2.3.4#65536',
    '1.2.3.4#53#1',
    '1.2.3.4#5x',
    '#53',
    '[::1]#53',
    'fe80::1%',
    'fe80::1%eth0%eth1',
    'fe80::1%a/b',
    `fe80::1%${'e'.repeat(16)}`,
    '2001:db8::1%eth0',
    '10.0.0.1%eth0',
  ])
    t.throws(() => parseNameServers(`10.0.0.1,${bad}`), { message: `'${bad}' is not a DNS server` }, bad);
});

t.test('resolv.conf(5)', async (t) => {
  const { servers, search } = parseResolvConf(
    '# made by hand\n;nameserver 9.9.9.9\ndomain old.example\nnameserver 127.0.0.53\n\tnameserver\t2001:db8::1 \r\nnameserver fe80::1%eth0\nnameserver dns.example\nnameserver\nsearch corp.example . example.org\noptions edns0 trust-ad\n',
  );
  t.same(shown(servers), ['127.0.0.53#53', '2001:db8::1#53', 'fe80::1%eth0#53']);
  t.same(search, ['corp.example', 'example.org']);
  t.same(parseResolvConf('search a b\ndomain c d').search, ['c'], 'the last counts');
  t.equal(parseResolvConf('nameserver 10.0.0.1\n'.repeat(100)).servers.length, 8);
  t.same(parseResolvConf(''), { servers: [], search: [] });
  fc.assert(fc.property(fc.string(), (text) => parseResolvConf(text).servers.length <= 8));
});

t.test('the file is read again when it changes, is swapped, goes and comes back', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-resolvers-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'resolv.conf');
  const clock = new FakeClock();
  const resolvers = new HostResolvers(clock, path);
  const now = (): string[] => {
    clock.now += 1000;
    return shown(resolvers.current().servers);
  };
  t.same(now(), [], 'no file');
  const none = resolvers.current();
  t.equal(resolvers.current(), none, 'the same object while nothing changes');
  writeFileSync(path, 'nameserver 10.0.0.1\nsearch corp.example\n');
  t.equal(resolvers.current(), none, 'looked at once in a while');
  t.same(now(), ['10.0.0.1#53']);
  const first = resolvers.current();
  clock.now += 1000;
  t.equal(resolvers.current(), first);
  writeFileSync(join(folder, 'vpn.conf'), 'nameserver 10.0.0.2\n');
  symlinkSync('vpn.conf', join(folder, 'link'));
  renameSync(join(folder, 'link'), path);
  t.same(now(), ['10.0.0.2#53'], 'a link in its place');
  writeFileSync(join(folder, 'new.conf'), 'nameserver 10.0.0.3\n');
  renameSync(join(folder, 'new.conf'), join(folder, 'vpn.conf'));
  t.same(now(), ['10.0.0.3#53'], 'what the link leads to was replaced');
  resolvers.use({ servers: parseNameServers('192.0.2.9#5353') });
  t.same(shown(resolvers.current().servers), ['192.0.2.9#5353'], 'the setting, at once');
  resolvers.use({ servers: [] });
  t.same(shown(resolvers.current().servers), ['10.0.0.3#53']);
  rmSync(path);
  t.same(now(), []);
  writeFileSync(path, 'nameserver 10.0.0.4\n');
  t.same(now(), ['10.0.0.4#53']);
  resolvers.use({ search: ['lab.example'], zones: [{ name: 'corp', servers: parseNameServers('10.8.0.53') }] });
  const { servers, search, zones } = resolvers.current();
  t.same([shown(servers), search, zones?.map(({ name }) => name)], [['10.0.0.4#53'], ['lab.example'], ['corp']]);
  clock.now += LOOK_MS;
  writeFileSync(path, 'nameserver 10.0.0.5\nsearch old.example\n');
  t.same(now(), ['10.0.0.5#53']);
  t.same(resolvers.current().search, ['lab.example'], 'what was chosen holds for as long as it is');
});

t.test('a link-local server is known by the number of its interface, as that is now', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-resolvers-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'resolv.conf');
  writeFileSync(path, 'nameserver fe80::1%eth0\nnameserver 10.0.0.1\n');
  const clock = new FakeClock();
  const scopes = new Map([['eth1', 9]]);
  const asked: string[] = [];
  const resolvers = new HostResolvers(clock, path, (zone) => {
    asked.push(zone);
    return scopes.get(zone);
  });
  const scoped = (servers: readonly NameServer[]): string[] =>
    servers.map(({ address }) => `${formatAddress(withoutScope(address))} ${scopeOf(address)}`);
  t.same(scoped(resolvers.current().servers), ['10.0.0.1 0'], 'there is no such interface');
  scopes.set('eth0', 0x1_0002);
  for (let i = 0; i < 10; i++) resolvers.current();
  t.same(asked, ['eth0'], 'looked up once in a while');
  clock.now += 1000;
  t.same(scoped(resolvers.current().servers), ['fe80::1 65538', '10.0.0.1 0']);
  const first = resolvers.current();
  clock.now += 1000;
  t.equal(resolvers.current(), first, 'the same object while nothing changes');
  scopes.set('eth0', 3);
  clock.now += 1000;
  t.same(scoped(resolvers.current().servers), ['fe80::1 3', '10.0.0.1 0']);
  resolvers.use({ zones: [{ name: 'corp', servers: parseNameServers('fe80::5%eth1') }] });
  t.same(scoped(resolvers.current().zones![0]!.servers), ['fe80::5 9'], 'of a zone of names too');
});

t.test('the hosts file is read again when it changes', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-hosts-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'hosts');
  const clock = new FakeClock();
  const hosts = new HostsFile(clock);
  const now = (): string[] => {
    clock.now += LOOK_MS;
    return [...hosts.current()].map(([name, addresses]) => `${name} ${addresses.map(formatAddress)}`);
  };
  hosts.use(path);
  t.same(now(), [], 'no file');
  writeFileSync(path, '10.0.0.1 a.example A # b\n#10.0.0.2 c\nfd00::1\ta.example.\n10.0.0.1 a\n');
  t.same(now(), ['a.example 10.0.0.1,fd00::1', 'a 10.0.0.1']);
  const before = hosts.current();
  now();
  t.equal(hosts.current(), before, 'the same as long as nothing changes');
  writeFileSync(path, '10.0.0.2 b\n');
  t.same(now(), ['b 10.0.0.2']);
  hosts.use('');
  t.same(now(), [], 'none at all');
  hosts.use();
  t.ok(now(), "the host's own");
});
