/**
 * Names in containers, by the resolvers that people have: musl's, glibc's, busybox', dig; asked of dnsmasq on the host. What
 * is set is in force at once, for containers that run already.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DnsReport } from '../../src/proxy/dns.ts';
import { ensureDebianPackages } from '../../tools/debian.ts';
import { freePort, loopbackServer } from './host-ports.ts';
import { importResolvers, resolvers } from './images.ts';
import { withInstance } from './instance.ts';
import { until } from './programs.ts';

ensureDebianPackages([
  { name: 'dnsmasq-base', proof: 'dnsmasq' },
  { name: 'bind9-dnsutils', proof: 'dig' },
  { name: 'musl-tools', proof: 'musl-gcc' },
]);

const settings = ['dns', 'dnsZones', 'dnsRecords', 'dnsSearch', 'hostsFile'].map((name) => `network.${name}`);

/** dnsmasq at a port of loopback; what it was asked is what it logs. */
async function nameServer(...options: string[]): Promise<{ at: string; log: () => string; process: ChildProcess }> {
  const port = await freePort();
  const common = ['--no-daemon', '--no-resolv', '--no-hosts', '--log-queries', '--conf-file=/dev/null', '--no-daemon'];
  const where = ['--listen-address=127.0.0.1', '--bind-interfaces', `--port=${port}`];
  const child = spawn('dnsmasq', [...common, ...where, ...options], { stdio: ['ignore', 'ignore', 'pipe'] });
  let log = '';
  child.stderr.on('data', (octets) => {
    log += octets;
  });
  await until('dnsmasq to start', () => {
    if (child.exitCode !== null) throw new Error(log);
    return /started/.test(log);
  });
  return { at: `127.0.0.1#${port}`, log: () => log, process: child };
}

withInstance('names in containers', async (t, slipway) => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-names-'));
  const servers: ChildProcess[] = [];
  t.teardown(async () => {
    await slipway.remove('names', 'names-search');
    await slipway.trySlipway('config', 'unset', ...settings);
    for (const server of servers) server.kill('SIGKILL');
    rmSync(folder, { recursive: true });
  });
  const world = await nameServer(
    ...['--auth-server=ns.world.test,lo', '--auth-zone=world.test', '--host-record=four.world.test,198.51.100.4'],
    ...['--host-record=both.world.test,198.51.100.5,2001:db8::5', '--cname=alias.world.test,four.world.test'],
    ...['--srv-host=_ldap._tcp.world.test,four.world.test,389'],
    ...Array.from({ length: 30 }, (_, i) => `--txt-record=long.world.test,${`${i} `.repeat(90).slice(0, 180)}`),
  );
  const company = await nameServer('--address=/corp/10.8.7.7', '--local=/corp/');
  servers.push(world.process, company.process);
  const hosts = join(folder, 'hosts');
  writeFileSync(hosts, '127.0.0.1 localhost app.world.test\n');
  await slipway.slipway(
    ...[
      'config',
      'set',
      `network.dns=${world.at}`,
      `network.dnsZones=corp=${company.at}`,
      `network.hostsFile=${hosts}`,
    ],
    'network.dnsRecords=*.dev.test=192.168.65.2; www.dev.test=four.world.test',
  );
  await importResolvers(slipway);
  await slipway.docker('run', '-d', '--name', 'names', resolvers, 'sleep', '100000');
  const inside = async (command: string): Promise<string> =>
    (await slipway.tryDocker(['exec', 'names', 'sh', '-c', command])).stdout;

  await t.test(
    'getaddrinfo of musl and of glibc find a name that has IPv4 alone, and what else there is',
    async (t) => {
      for (const program of ['resolve-musl', 'resolve-glibc']) {
        const names =
          'four.world.test ALIAS.world.test none.world.test x.y.dev.test www.dev.test git.corp app.world.test';
        const said = await inside(`${program} ${names} host.docker.internal both.world.test`);
        for (const line of [
          'four.world.test: 198.51.100.4',
          'ALIAS.world.test: 198.51.100.4',
          'none.world.test: no such name',
          'x.y.dev.test: 192.168.65.2',
          'www.dev.test: 198.51.100.4',
          'git.corp: 10.8.7.7',
        ])
          t.ok(said.split('\n').includes(line), `${program}: ${line} (${said})`);
        for (const name of ['host.docker.internal', 'app.world.test'])
          t.match(said, new RegExp(`^${name}: .*192\\.168\\.65\\.2`, 'm'), `${program}: ${name}`);
        t.match(said, /^both\.world\.test: .*198\.51\.100\.5/m);
      }
      t.match(await inside('getent hosts four.world.test'), /^198\.51\.100\.4 +four\.world\.test/);
      t.match(await inside('nslookup git.corp'), /Address[^:]*: 10\.8\.7\.7$/m);
      t.notMatch(world.log(), /corp/, 'a zone is its servers’ alone');
    },
  );

  await t.test('dig sees codes, SOA and long answers as the server has them', async (t) => {
    t.match(await inside('dig four.world.test AAAA'), /status: NOERROR.*ANSWER: 0, AUTHORITY: 1,.*SOA/s);
    t.match(await inside('dig none.world.test'), /status: NXDOMAIN.*ANSWER: 0, AUTHORITY: 1,.*SOA/s);
    t.match(await inside('dig _ldap._tcp.world.test SRV'), /\sSRV\s+0 0 389 four\.world\.test\.\n/);
    t.match(await inside('dig long.world.test TXT +bufsize=1232'), /ANSWER: 30,.*\(TCP\)/s);
  });

  await t.test('wget by a record that leads to the host; changes are heard of at once', async (t) => {
    const server = await loopbackServer((socket) => {
      socket.once('data', () => socket.end('HTTP/1.0 200 OK\r\n\r\nby name\n'));
    });
    t.teardown(() => server.close());
    const url = `http://shop.dev.test:${server.port}/`;
    t.equal(await inside(`wget -q -O - ${url}`), 'by name\n');
    writeFileSync(hosts, '10.1.2.3 nas.local\n');
    t.equal(
      await inside('resolve-musl nas.local app.world.test'),
      'nas.local: 10.1.2.3\napp.world.test: no such name\n',
    );
    await slipway.slipway('config', 'unset', 'network.dnsZones');
    t.match(await inside('dig git.corp'), /status: REFUSED/, 'the other server does not know it');
    await slipway.slipway('config', 'set', `network.dns=${company.at}`);
    t.equal(await inside('resolve-musl git.corp'), 'git.corp: 10.8.7.7\n');
  });

  await t.test('a search domain comes with the lease, to containers that start then', async (t) => {
    await slipway.slipway('config', 'set', 'network.dnsSearch=corp,world.test');
    const renew = "kill -USR1 $(grep -la 'udhcp[c]' /proc/[0-9]*/cmdline | cut -d/ -f3)";
    const wait = "until grep -q 'search corp world.test' /run/slipway/resolv.conf; do sleep 0.1; done";
    await slipway.slipway('shell', `${renew}; ${wait}`);
    const said = await slipway.docker(
      'run',
      '--rm',
      '--name',
      'names-search',
      resolvers,
      'sh',
      '-c',
      'resolve-musl git; getent hosts git',
    );
    t.match(said, /^git: 10\.8\.7\.7\n10\.8\.7\.7 +git\.corp/);
  });

  await t.test('net dns says who asked what', async (t) => {
    const report = JSON.parse(await slipway.slipway('net', 'dns', '--json')) as DnsReport;
    const find = (name: string) => report.queries.find((one) => one.name === name);
    t.match(find('_ldap._tcp.world.test'), { type: 'SRV', source: 'server', server: world.at, code: 'NOERROR' });
    t.match(find('shop.dev.test'), { source: 'record' });
    t.match(report, {
      search: ['corp', 'world.test'],
      servers: [{ servers: [{ server: company.at, state: 'used' }] }],
    });
  });
});
