/**
 * Names by real clients and servers: dig, getent and curl in `slipway net run`, dnsmasq behind it. All of it in namespaces
 * of the test's own: the "host" is this process's, an internet provider and a company behind a VPN are two more.
 */

import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { HostResolvers } from '../../src/proxy/adapter/host-resolvers.ts';
import { NodeHostNet } from '../../src/proxy/adapter/node-host-net.ts';
import { parseNameServers } from '../../src/proxy/dns/name-servers.ts';
import type { DnsReport } from '../../src/proxy/dns.ts';
import { SingleFragment } from '../../src/proxy/fragment-list.ts';
import { ensureDebianPackages } from '../../tools/debian.ts';

const INSIDE = 'SLIPWAY_TEST_NAMESPACE';
if (process.env[INSIDE] === undefined) {
  ensureDebianPackages([
    { name: 'dnsmasq-base', proof: 'dnsmasq' },
    { name: 'bind9-dnsutils', proof: 'dig' },
    { name: 'curl', proof: 'curl' },
    { name: 'iproute2', proof: 'ip' },
    { name: 'socat', proof: 'socat' },
    { name: 'util-linux', proof: 'setpriv' },
  ]);
  const made = mkdtempSync(join(tmpdir(), 'slipway-names-'));
  const words = ['--user', '--map-root-user', '--net', process.execPath, ...process.execArgv, import.meta.filename];
  const { status } = spawnSync('unshare', words, { stdio: 'inherit', env: { ...process.env, [INSIDE]: made } });
  rmSync(made, { recursive: true });
  process.exit(status ?? 1);
}
const folder = process.env[INSIDE];
const launcher = join(import.meta.dirname, '../../bin/slipway');
/** tap's hooks are put into every child's environment, and must not reach the programs under test. */
const { NODE_OPTIONS: _, ...environment } = process.env;
const children = new Set<ChildProcess>();
t.teardown(() => {
  for (const child of children) child.kill('SIGKILL');
});

function start(program: string, ...argv: string[]): ChildProcess {
  const child = spawn(program, argv, { stdio: ['pipe', 'pipe', 'pipe'], env: environment });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

/** Resolves when it has said something that matches; all that it said so far. */
function said(child: ChildProcess, stream: 'stdout' | 'stderr', pattern: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    const hear = (octets: Buffer): void => {
      text += octets;
      if (!pattern.test(text)) return;
      child[stream]!.off('data', hear);
      resolve(text);
    };
    child[stream]!.on('data', hear);
    child.once('exit', (status) => reject(new Error(`it ended (${status}) having said '${text}'`)));
  });
}

const ip = (...words: string[]): void => void execFileSync('ip', words);
ip('link', 'set', 'lo', 'up');

/** Another network, with one machine in it, at the end of a wire. */
class Place {
  readonly #pid: string;
  /** What the name server there was asked. */
  log = '';

  private constructor(pid: string) {
    this.#pid = pid;
  }

  static async make(wire: string, ours: string, theirs: string): Promise<Place> {
    const holder = start('unshare', '--net', 'sh', '-c', 'echo made; exec sleep 1000');
    await said(holder, 'stdout', /made/);
    const place = new Place(String(holder.pid));
    ip('link', 'add', wire, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', place.#pid);
    ip('addr', 'add', ours, 'dev', wire);
    ip('link', 'set', wire, 'up');
    for (const words of [
      ['addr', 'add', theirs, 'dev', 'eth0'],
      ['link', 'set', 'eth0', 'up'],
      ['link', 'set', 'lo', 'up'],
    ])
      place.run('ip', ...words);
    return place;
  }

  run(...words: string[]): void {
    execFileSync('nsenter', ['-t', this.#pid, '-n', ...words]);
  }

  start(...words: string[]): ChildProcess {
    return start('nsenter', '-t', this.#pid, '-n', ...words);
  }

  async nameServer(...options: string[]): Promise<ChildProcess> {
    const common = ['--no-daemon', '--no-resolv', '--no-hosts', '--log-queries', '--conf-file=/dev/null'];
    const server = this.start('dnsmasq', ...common, ...options);
    server.stderr!.on('data', (octets) => {
      this.log += octets;
    });
    await said(server, 'stderr', /started/);
    return server;
  }
}

const provider = await Place.make('isp0', '198.18.0.2/24', '198.18.0.1/24');
ip('route', 'add', 'default', 'via', '198.18.0.1');
// Without the VPN the company cannot be reached.
ip('route', 'add', 'unreachable', '10.0.0.0/8', 'metric', '1000');
provider.run('ip', 'addr', 'add', '198.18.1.1/32', 'dev', 'lo');
const long = Array.from({ length: 20 }, (_, i) => `--txt-record=long.public.test,${`${i} `.repeat(60).slice(0, 230)}`);
const public_ = await provider.nameServer(
  ...['--bind-interfaces', '--listen-address=198.18.0.1'],
  ...['--auth-server=ns.public.test,eth0', '--auth-zone=public.test', '--auth-zone=10.in-addr.arpa'],
  ...['--host-record=web.public.test,198.18.1.1', '--host-record=both.public.test,198.18.1.1,fd00::1'],
  ...['--cname=www.public.test,web.public.test', '--mx-host=public.test,web.public.test,5', ...long],
  ...['--srv-host=_ldap._tcp.public.test,web.public.test,389', '--caa-record=public.test,0,issue,ca.example'],
  ...['--naptr-record=public.test,1,2,s,SIP,,_sip.public.test', '--dns-rr=svc.public.test,65,000100'],
);

const resolvConf = join(folder, 'resolv.conf');
/** As whoever configures the host's network does it. */
function resolve(text: string): void {
  writeFileSync(`${resolvConf}.new`, text);
  renameSync(`${resolvConf}.new`, resolvConf);
}
resolve('nameserver 198.18.0.1\n');
const hosts = join(folder, 'hosts');
writeFileSync(hosts, '127.0.0.1 localhost\n');

/** A shell whose only network is the core. */
class Shell {
  readonly #child: ChildProcess;
  #turn = 0;

  constructor(...options: string[]) {
    this.#child = start(launcher, 'net', 'run', ...options, '--', 'sh');
    this.#child.stderr!.on('data', (octets) => process.stderr.write(octets));
  }

  async run(script: string): Promise<string> {
    const end = `-- end ${this.#turn++} --`;
    const output = said(this.#child, 'stdout', new RegExp(`^${end}$`, 'm'));
    this.#child.stdin!.write(`${script}\necho; echo '${end}'\n`);
    return (await output).replace(new RegExp(`\\n${end}\\n$`), '');
  }

  async end(): Promise<void> {
    const gone = once(this.#child, 'exit');
    this.#child.stdin!.end();
    await gone;
  }
}

const api = join(folder, 'api.sock');
const guest = new Shell(
  ...['--dns', resolvConf, '--hosts-file', hosts, '--api', api],
  ...[
    '--dns-zone',
    'corp=10.8.0.53',
    '--dns-record',
    '*.dev.test=192.168.65.2',
    '--dns-record',
    'w.test=web.public.test',
  ],
);
const dig = (words: string): Promise<string> => guest.run(`dig +tries=1 +time=8 ${words}`);
const slipway = (...words: string[]): string => execFileSync(launcher, words, { encoding: 'utf8', env: environment });

t.test('dig: every type as the server has it, NODATA and NXDOMAIN with SOA, long answers by TCP', async (t) => {
  for (const [words, pattern] of [
    ['web.public.test', /ANSWER SECTION:\nweb\.public\.test\.\s+\d+\s+IN\s+A\s+198\.18\.1\.1\n/],
    ['WEB.Public.TEST', /ANSWER SECTION:\nWEB\.Public\.TEST\.\s+\d+\s+IN\s+A\s+198\.18\.1\.1\n/],
    ['both.public.test AAAA', /\sAAAA\s+fd00::1\n/],
    ['www.public.test', /\sCNAME\s+web\.public\.test\.\n.*\sA\s+198\.18\.1\.1\n/],
    ['public.test MX', /\sMX\s+5 web\.public\.test\.\n/],
    ['_ldap._tcp.public.test SRV', /\sSRV\s+0 0 389 web\.public\.test\.\n/],
    ['public.test NAPTR', /\sNAPTR\s+1 2 "s" "SIP"/],
    ['w.test', /\sCNAME\s+web\.public\.test\.\n.*\sA\s+198\.18\.1\.1\n/],
    ['x.y.dev.test', /\sA\s+192\.168\.65\.2\n/],
    ['x.dev.test AAAA', /status: NOERROR.*ANSWER: 0, AUTHORITY: 1,/s],
    ['web.public.test AAAA', /status: NOERROR.*ANSWER: 0, AUTHORITY: 1,.*SOA/s],
    ['web.public.test AAAA +noedns', /status: NOERROR.*ANSWER: 0, AUTHORITY: 1,.*SOA/s],
    ['none.public.test', /status: NXDOMAIN.*ANSWER: 0, AUTHORITY: 1,.*SOA/s],
    ['none.public.test MX', /status: NXDOMAIN.*AUTHORITY: 1,.*SOA/s],
    ['long.public.test TXT +bufsize=512 +ignore', /flags: qr[a-z ]* tc/],
    ['long.public.test TXT +bufsize=512', /ANSWER: 20,.*\(TCP\)/s],
    ['web.public.test +tcp', /\sA\s+198\.18\.1\.1\n.*\(TCP\)/s],
    ['web.public.test +dnssec', /EDNS: version: 0, flags: do?[;,]?.*\sA\s+198\.18\.1\.1\n/s],
    ['elsewhere.example', /status: REFUSED/],
  ] as const)
    t.match(await dig(words), pattern, words);
  t.match(provider.log, /auth\[SRV\] _ldap/);
  const gateway6 = (await guest.run("ip -6 route show default | sed -n 's/^default via \\(fd[^ ]*\\).*/\\1/p'")).trim();
  for (const words of ['web.public.test', 'web.public.test +tcp'])
    t.match(await dig(`@${gateway6} ${words}`), /\sA\s+198\.18\.1\.1\n.*SERVER: fd/s, `${words} by IPv6`);
});

t.test('getent and nslookup find the host, and what its hosts file says, at the next query', async (t) => {
  const getent = async (name: string): Promise<string> => (await guest.run(`getent ahostsv4 ${name}`)).split(/\s/)[0]!;
  t.equal(await getent('host.docker.internal'), '192.168.65.2');
  t.equal(await getent('web.public.test'), '198.18.1.1');
  t.equal(await getent('app.local'), '');
  writeFileSync(hosts, '127.0.0.1 localhost app.local\n10.1.2.3 nas.local\n');
  t.equal(await getent('app.local'), '192.168.65.2', "the host's loopback is the host alias");
  t.equal(await getent('nas.local'), '10.1.2.3');
  writeFileSync(hosts, '10.1.2.4 nas.local\n');
  t.equal(await getent('nas.local'), '10.1.2.4');
  t.equal(await getent('app.local'), '');
  t.match(await dig('-x 10.1.2.4'), /\sPTR\s+nas\.local\.\n/);
});

t.test('no name server: SERVFAIL at once, and names again when there is one', async (t) => {
  resolve('# none\n');
  t.match(await dig('web.public.test'), /status: SERVFAIL/);
  resolve('nameserver 198.18.0.1\n');
  t.match(await dig('web.public.test'), /\sA\s+198\.18\.1\.1\n/);
});

t.test('a VPN comes up and goes while a client downloads', async (t) => {
  // A page that comes a piece at a time, for as long as the test wants.
  const program = `const http = require('node:http');
    http.createServer((request, response) => {
      if (request.url === '/end') { for (const one of open) one.end('the end'); return response.end(); }
      open.add(response); response.write('begun ');
    }).listen(80, () => console.log('listening'));
    const open = new Set();`;
  const web = provider.start(process.execPath, '-e', program);
  await said(web, 'stdout', /listening/);
  const download = join(folder, 'download');
  await guest.run(
    `curl -sS -N -m 60 http://web.public.test/ >${download} & until [ -s ${download} ]; do sleep 0.1; done`,
  );
  t.match(await dig('git.corp'), /status: SERVFAIL/, 'nobody in the zone answers yet');
  t.match(await dig('portal.example'), /status: REFUSED/);

  const company = await Place.make('vpn0', '10.8.0.2/24', '10.8.0.53/24');
  ip('route', 'add', '10.0.0.0/8', 'via', '10.8.0.53');
  const corporate = await company.nameServer('--address=/corp/10.8.7.7', '--host-record=portal.example,10.8.7.8');
  resolve('nameserver 10.8.0.53\nsearch corp\n');
  t.match(await dig('portal.example'), /\sA\s+10\.8\.7\.8\n/, 'the new server, with the next query');
  t.match(await dig('git.corp'), /\sA\s+10\.8\.7\.7\n/);
  t.match(await dig('web.public.test'), /status: (REFUSED|NXDOMAIN)/, 'what was known before is forgotten');
  t.match(company.log, /query\[A\] portal\.example/);
  const before = company.log;

  resolve('nameserver 198.18.0.1\n');
  t.match(await dig('portal.example'), /status: REFUSED/, 'the old server again');
  t.match(await dig('web.public.test'), /\sA\s+198\.18\.1\.1\n/);
  t.match(await dig('wiki.corp'), /\sA\s+10\.8\.7\.7\n/, 'its zone is its own all the time');
  t.notMatch(company.log.slice(before.length), /portal|public/, 'and hears of nothing else');

  corporate.kill('SIGKILL');
  await once(corporate, 'exit');
  t.match(await dig('secret.corp'), /status: SERVFAIL/, 'its server is gone');
  ip('link', 'del', 'vpn0');
  t.match(await dig('secret2.corp'), /status: SERVFAIL/, 'the way there as well');
  t.match(await dig('secret3.corp +tcp'), /status: SERVFAIL/);
  t.notMatch(provider.log, /corp/, 'the provider has never heard of the company');

  await guest.run('curl -sS http://web.public.test/end; wait');
  t.equal(await guest.run(`cat ${download}`), 'begun the end', 'the download survived');
});

t.test('link-local servers are reached through Node alone as well', async (t) => {
  ip('addr', 'add', 'fe80::77/64', 'dev', 'isp0', 'nodad');
  provider.run('ip', 'addr', 'add', 'fe80::53/64', 'dev', 'eth0', 'nodad');
  const resolvers = new HostResolvers({ nowMs: () => 0 });
  resolvers.use({ servers: parseNameServers('fe80::53%isp0#9') });
  const [{ address, port } = {}] = resolvers.current().servers;
  const echo = provider.start('socat', '-d', '-d', 'UDP6-LISTEN:9', 'PIPE');
  const streams = provider.start('socat', '-d', '-d', 'TCP6-LISTEN:9', 'PIPE');
  await Promise.all([said(echo, 'stderr', /listening on/), said(streams, 'stderr', /listening on/)]);
  const host = new NodeHostNet();
  const from = await new Promise<string>((resolve, reject) => {
    const socket = host.bindDatagram(6, {
      received: (_, payload, from, port) => resolve(`${payload.length} ${from} ${port}`),
      failed: (_, code) => reject(new Error(code)),
    });
    setImmediate(() => socket.send(new SingleFragment(new Uint8Array(5)), address!, port!));
    t.teardown(() => socket.close());
  });
  t.equal(from, `5 ${address} 9`);
  await new Promise<void>((resolve, reject) => {
    const stream = host.connect(address!, port!, {
      connected: () => resolve(),
      readable() {},
      writable() {},
      closed: (_, code) => reject(new Error(code)),
    });
    t.teardown(() => stream.abort());
  });
  for (const one of [echo, streams]) one.kill('SIGKILL');
});

t.test('a server that falls silent is passed over', async (t) => {
  // Not at eth0: the first server may take any address that turns up there.
  provider.run('ip', 'addr', 'add', '198.18.0.3/32', 'dev', 'lo');
  resolve('nameserver 198.18.0.1\nnameserver 198.18.0.3\n');
  await provider.nameServer('--bind-interfaces', '--listen-address=198.18.0.3', '--address=/backup.test/10.1.1.1');
  public_.kill('SIGSTOP');
  for (let i = 0; i < 4; i++) t.match(await dig(`n${i}.backup.test`), /\sA\s+10\.1\.1\.1\n/);
  public_.kill('SIGCONT');
});

t.test('net dns shows whom names are asked of, and who asked', async (t) => {
  const watching = start(launcher, 'net', 'dns', '--api', api, '--watch', '--json');
  await said(watching, 'stdout', /"name":"none\.public\.test"/);
  const seen = said(watching, 'stdout', /"name":"seen\.dev\.test"/);
  await dig('seen.dev.test');
  t.ok(await seen);
  watching.kill('SIGINT');
  t.same(await once(watching, 'exit'), [0, null]);
  const report = JSON.parse(slipway('net', 'dns', '--api', api, '--json')) as DnsReport;
  t.match(report.servers[0], { zone: 'corp', servers: [{ server: '10.8.0.53' }] });
  const find = (name: string) => report.queries.find((one) => one.name === name);
  t.match(find('web.public.test'), {
    guest: '192.168.65.3',
    type: 'A',
    source: 'server',
    server: '198.18.0.1',
    answers: 1,
  });
  t.match(find('secret.corp'), { zone: 'corp', source: 'none', code: 'SERVFAIL' });
  t.match(find('x.y.dev.test'), { source: 'record' });
  t.match(slipway('net', 'dns', '--api', api), /^names in corp are asked of 10\.8\.0\.53\nnames are asked of /);
  await guest.end();
});
