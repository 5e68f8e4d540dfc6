/** The commands that speak to a daemon, against the real API over a platform in memory. */

import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { BehaviorSubject } from 'rxjs';
import t from 'tap';
import { type PlatformPort, type PlatformStatus, StateError } from '../../src/api/port.ts';
import { routes } from '../../src/api/routes.ts';
import { ApiServer } from '../../src/api/server.ts';
import { openSettings } from '../../src/config/adapter/settings-store.ts';
import { homeAt, makeHome } from '../../src/home.ts';
import { standardNames } from '../../src/proxy/dns/built-in-names.ts';
import { checkPolicy } from '../../src/proxy/policy/explanation.ts';
import { parsePolicyRules } from '../../src/proxy/policy/rule.ts';
import { Policy } from '../../src/proxy/policy.ts';
import { Capture } from '../../src/stack/link/capture.ts';
import { type Address, FrameBatch } from '../../src/stack/port.ts';
import { parseAddress, parseSubnet } from '../../src/stack/wire/address.ts';
import { dnsReport } from '../api/dns-report.ts';
import { arenaOf } from '../stack/fake-link.ts';
import { icmpFrame, pattern, udpFrame } from '../stack/frames.ts';
import { readPcapng } from '../stack/link/pcapng-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-daemon-'));
t.teardown(() => rmSync(folder, { recursive: true }));
t.setTimeout(180_000);
const home = homeAt(join(folder, 'home'));
makeHome(home);

const up: PlatformStatus = {
  state: 'running',
  docker: { ready: true, version: '26.1.5' },
  accelerator: 'tcg',
  acceleratorReason: 'this host has no /dev/kvm',
  channel: 'vsock',
  versions: { slipway: '0.1.0', docker: '26.1.5' },
  boot: { dockerd: 9.25, kernel: 1.5, network: 3 },
  startedAtMs: 1,
  home: home.directory,
  sockets: { docker: home.dockerSocket },
  pids: {},
  network: { subnet: '192.168.65.0/24', mtu: 1500, connected: true },
  ports: [
    {
      protocol: 'tcp',
      hostAddress: '0.0.0.0',
      hostPort: 8080,
      containerAddress: '172.17.0.2',
      containerPort: 80,
      bound: ['127.0.0.1'],
    },
  ],
  restarts: 2,
  pendingRestart: ['vm.memory'],
};

/** What the status is, at each time that it is asked for; the last stays. */
let story: PlatformStatus[] = [up];
const calls: string[] = [];
const store = await openSettings({
  directory: home.database,
  settingsFile: home.settingsFile,
  watching: true,
  log: () => undefined,
});
t.teardown(() => store.close());
const { settings, database } = store;
settings.follow(() => undefined);
const [gateway, hostAlias] = ['192.168.65.1', '192.168.65.2'].map((text) => parseAddress(text)!) as [Address, Address];
const policy = new Policy({
  subnets: [parseSubnet('192.168.65.0/24')!],
  gateways: [gateway],
  hostAliases: [hostAlias],
  names: standardNames([gateway], [hostAlias]),
  rules: parsePolicyRules('allow tcp 10.0.0.5 port 443; deny 10.0.0.0/8'),
});
const platform: PlatformPort = {
  status: () => (story.length > 1 ? story.shift()! : story[0]!),
  changes: new BehaviorSubject(up),
  settings,
  flows: () => [
    {
      protocol: 'tcp',
      direction: 'in',
      client: '127.0.0.1:5000',
      guest: '172.17.0.2:80',
      peer: '192.168.65.1:50000',
      state: 'ESTABLISHED',
      octetsToGuest: 1_500_000,
      octetsToHost: 7,
      rttMs: 0.25,
      retransmissions: 2,
      waitsFor: 'guest window',
      rule: 'allow in any',
    },
    {
      protocol: 'icmp',
      direction: 'out',
      guest: '192.168.65.3:7',
      peer: '192.0.2.1',
      state: 'open',
      octetsToGuest: 0,
      octetsToHost: 56,
      idleMs: 4200,
      waitsFor: 'nothing',
    },
  ],
  drops: () => ({ 'icmp-host-forbids': 3, 'udp-checksum': 0 }),
  dns: (after) => dnsReport(after),
  addressesOf: async (name) => (name === 'localhost' ? [parseAddress('127.0.0.1')!] : []),
  policy: () => policy.report(),
  checkPolicy: (host, question) => checkPolicy(policy, host, question),
  capture: (options) => {
    const capture = new Capture({ epochMs: 0, ...options });
    // Frames come for as long as somebody captures them.
    const frames = setInterval(() => {
      const batch = new FrameBatch(2, 1);
      for (const frame of [udpFrame(5, 53, pattern(100)), icmpFrame(8, 0, 1, pattern(6))])
        batch.push(arenaOf(frame), 0, frame.length);
      capture.batch({ link: 'l', ingress: 1, mtu: 1500, direction: 'from-guest', batch, nowMs: 0 });
    }, 5);
    const stop = capture.stop.bind(capture);
    capture.stop = () => {
      clearInterval(frames);
      stop();
    };
    return capture;
  },
  restart: async () => void calls.push('restart'),
  pause: async () => void calls.push('pause'),
  resume: () => Promise.reject(new StateError('the VM is running, not paused')),
  shutdown: async () => void calls.push('shutdown'),
};
const api = await ApiServer.listen(platform, home.apiSocket, routes);
t.teardown(() => api.close(0));

/** A docker client without contexts. */
const bin = join(folder, 'bin');
mkdirSync(bin);
writeFileSync(join(bin, 'docker'), `#!/bin/sh\n[ "$2" != inspect ] || exit 1\necho "$*" >>${folder}/asked\n`);
chmodSync(join(bin, 'docker'), 0o755);

function slipway(...argv: readonly string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
  const { NODE_OPTIONS: _, ...env } = process.env;
  const child = spawn(join(import.meta.dirname, '../../bin/slipway'), argv, {
    env: { ...env, SLIPWAY_HOME: home.directory, PATH: `${bin}:${env.PATH}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name].on('data', (octets) => {
      said[name] += octets;
    });
  return new Promise((resolve) => child.once('close', (status) => resolve({ status, ...said })));
}

t.test('status', async (t) => {
  const { stdout } = await slipway('status');
  for (const line of [
    /^state: +running$/m,
    /^docker: +answers \(26\.1\.5\)$/m,
    /^accelerator: +tcg \(this host has no \/dev\/kvm\)$/m,
    /^boot: +kernel 1\.5 s, network 3\.0 s, dockerd 9\.3 s$/m,
    /^restarts: +2$/m,
    /^settings: +'slipway restart' puts vm\.memory into force$/m,
    /^ports: +1, see 'slipway ports list'$/m,
  ])
    t.match(stdout, line);
  t.same(JSON.parse((await slipway('status', '--json')).stdout), up);
});

t.test('up finds it running, makes the context and says how to use it', async (t) => {
  const { status, stdout, stderr } = await slipway('up');
  t.equal(status, 0, stderr);
  t.match(stdout, /^Slipway is running already: Docker 26\.1\.5 answers \(tcg\)\.\n/);
  t.match(stdout, /docker --context slipway run/);
  t.same(JSON.parse((await slipway('up', '--json')).stdout), up);
});

t.test('up waits for a boot, and tells why it failed', async (t) => {
  const booting = { ...up, state: 'starting', docker: { ready: false } } as const;
  story = [booting, { ...booting, boot: {} }, { ...up, docker: { ready: false } }, up];
  t.match(await slipway('up'), {
    status: 0,
    stdout: /^Slipway is up: Docker 26\.1\.5 answers 9\.3 s after the VM's start/,
    stderr: /^Starting the VM: done in \d/m,
  });
  story = [booting, { ...booting, state: 'failed', reason: 'no disk space: free some' }];
  t.match(await slipway('up'), { status: 1, stderr: /slipway: no disk space: free some\n$/ });
  story = [up];
});

t.test('net dns', async (t) => {
  const { stdout } = await slipway('net', 'dns');
  t.match(stdout, /^names in corp are asked of 10\.8\.0\.53#5353 \(silent\)\nnames are asked of 10\.0\.0\.53\n/);
  t.match(
    stdout,
    /^search domains: example\.org\n3 queries, 2 forwarded, 1 failed, 1 from the cache \(1 answers\)\n\n/m,
  );
  t.match(stdout, /^\d\d:\d\d:02 +172\.17\.0\.2 +git\.corp +AAAA +SERVFAIL +0 +- +4500\.0$/m);
  t.match(stdout, / A +NOERROR +1 +10\.0\.0\.53 +12\.5$/m);
  t.same(JSON.parse((await slipway('net', 'dns', '--json')).stdout), JSON.parse(JSON.stringify(dnsReport())));
  t.match(await slipway('net', 'dns', 'x'), { status: 2 });
});

t.test('net policy', async (t) => {
  t.match(
    (await slipway('net', 'policy')).stdout,
    /^ports of the host \(list\): every port but 2375, 2376\n\n {3}RULE .*\n1 {2}allow tcp/,
  );
  t.match(JSON.parse((await slipway('net', 'policy', '--json')).stdout), { rules: [{ decided: 0 }, {}] });
  const check = async (...words: string[]) => (await slipway('net', 'policy', 'check', ...words)).stdout;
  t.equal(await check('10.0.0.5', '443'), 'tcp 10.0.0.5:443 is allowed: rule 1: allow tcp 10.0.0.5 port 443\n');
  t.equal(
    await check('10.0.0.5', '443', '--protocol', 'udp'),
    'udp 10.0.0.5:443 is denied, answered by ICMP administratively prohibited: rule 2: deny 10.0.0.0/8\n',
  );
  t.match(
    await check('host.docker.internal', '80'),
    "tcp 192.168.65.2:80 is allowed, as the host's 127.0.0.1: no rule",
  );
  t.match(JSON.parse(await check('::1', '80', '--json')), [{ allowed: false, reason: 'forbidden-address' }]);
  t.match(await slipway('net', 'policy', 'check', '10.0.0.5', 'x'), { status: 1, stderr: "slipway: 'x' is no port\n" });
  t.match(await slipway('net', 'policy', 'check'), { status: 2 });
  t.same(await slipway('net', 'policy', 'set', 'deny 10.0.0.0/8'), { status: 0, stdout: '', stderr: '' });
  t.equal(settings.current['policy.rules'], 'deny 10.0.0.0/8', 'of an instance they are a setting');
  await settings.unset(['policy.rules']);
  t.match(await slipway('net', 'policy', 'set', 'denied'), { status: 1, stderr: /^slipway: .*a rule is .*\n$/ });
  policy.useHostPorts({ mode: 'ask', ports: [[80, 80]] });
  for (const port of [5432, 5432, 6379]) policy.destination(hostAlias, { protocol: 'tcp', port, ingress: 1 });
  const { stdout } = await slipway('net', 'policy');
  t.match(stdout, /^to 192\.168\.65\.2 tcp 5432 +2 +0 s +host-port$/m);
  t.match(stdout, /: slipway config set policy\.hostPorts=80,6379,5432\n$/);
});

t.test('net capture', async (t) => {
  const path = join(folder, 'captured.pcapng');
  writeFileSync(path, 'what was there before', { mode: 0o644 });
  t.match(await slipway('net', 'capture', '-c', '3', '-w', path, '-s', '60', 'udp', 'port', '53'), {
    status: 0,
    stderr: 'slipway: capturing; interrupt to end it\nslipway: 3 frames captured\n',
  });
  t.equal(statSync(path).mode & 0o777, 0o600);
  const { packets, interfaces } = readPcapng(readFileSync(path));
  t.same([packets.length, packets[0]!.bytes.length, interfaces[0]!.filter], [3, 60, 'udp port 53']);

  const { NODE_OPTIONS: _, ...env } = process.env;
  const child = spawn(join(import.meta.dirname, '../../bin/slipway'), ['net', 'capture'], {
    env: { ...env, SLIPWAY_HOME: home.directory },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk) => {
    chunks.push(chunk);
    if (Buffer.concat(chunks).length > 10_000) child.kill('SIGINT');
  });
  t.same(await new Promise((resolve) => child.once('close', (status) => resolve(status))), 0);
  const piped = readPcapng(Buffer.concat(chunks));
  t.ok(piped.packets.length > 50, 'whole blocks, wherever it was interrupted');

  for (const [argv, status, why] of [
    [['tcp', 'and'], 1, /^slipway: the capture filter 'tcp and' is wrong/],
    [['-c', 'x'], 2, /^slipway: --count wants a number\n$/],
    [['-w', join(folder, 'absent/x')], 1, /^slipway: .*absent\/x cannot be written: ENOENT/],
  ] as const) {
    const outcome = await slipway('net', 'capture', ...argv);
    t.equal(outcome.status, status, argv.join(' '));
    t.match(outcome.stderr, why);
  }
});

t.test('net flows', async (t) => {
  const { stdout } = await slipway('net', 'flows');
  t.match(stdout, /^ +GUEST +PEER +STATE +TO GUEST +TO HOST +RTT +RESENT +IDLE +WAITS FOR +RULE\n/);
  t.match(
    stdout,
    /^tcp +172\.17\.0\.2:80 +<- +127\.0\.0\.1:5000 +EST\w+ +1\.5 M +7 +0\.3 ms +2 +guest window +allow in any$/m,
  );
  t.match(stdout, /^icmp +192\.168\.65\.3:7 +-> +192\.0\.2\.1 +open +0 +56 +4 s/m);
  t.match(stdout, /\n\ndropped: icmp-host-forbids 3\nthe host lets nobody ping, .*ping_group_range/);
  t.match(JSON.parse((await slipway('net', 'flows', '--json')).stdout), { flows: [{}, {}], drops: {} });
});

t.test('net conditions', async (t) => {
  const conditions = (...argv: string[]) => slipway('net', 'conditions', ...argv);
  t.equal((await conditions()).stdout, 'none\n');
  t.same(await conditions('delay=40ms,loss=1%'), { status: 0, stdout: '', stderr: '' });
  t.equal(settings.current['network.conditions'], 'delay=40ms,loss=1%');
  t.equal((await conditions()).stdout, 'delay=40ms,loss=1%\n');
  t.match(await conditions('delay=40'), { status: 2, stderr: /^slipway: 'delay=40': a time has a unit/ });
  t.equal((await conditions('none')).status, 0);
  t.equal(settings.current['network.conditions'], '');
});

t.test('ports', async (t) => {
  t.match((await slipway('ports', 'list')).stdout, /^tcp +127\.0\.0\.1:8080 +172\.17\.0\.2:80$/m);
  t.same(JSON.parse((await slipway('ports', 'list', '--json')).stdout), up.ports);
});

t.test('pause, resume, down', async (t) => {
  t.equal((await slipway('pause')).status, 0);
  t.match(await slipway('resume'), { status: 1, stderr: 'slipway: the VM is running, not paused\n' });
  t.equal((await slipway('down')).status, 0);
  t.same(calls, ['pause', 'shutdown']);
});

t.test('settings go through the daemon', async (t) => {
  t.equal((await slipway('config', 'set', 'ports.limit=5', 'vm.cpus=3')).status, 0);
  t.match([settings.current['ports.limit'], settings.current['vm.cpus']], [5, 3]);
  t.match(await slipway('config', 'set', 'ports.limit=x'), { status: 1, stderr: /must be a whole number/ });
  t.equal((await slipway('config', 'get', 'ports.limit')).stdout, '5\n');
  t.equal((await slipway('config', 'unset', 'ports.limit', 'vm.cpus')).status, 0);
  t.same(settings.chosen, {});
  t.equal((await slipway('config', 'set', 'ports.limit=6', 'vm.cpus=5', '-m', 'Two at once')).status, 0);
  const [newest] = await database.log('user');
  t.match([newest!.message, settings.current['ports.limit'], settings.current['vm.cpus']], ['Two at once', 6, 5]);
  t.equal((await slipway('config', 'set', 'vm.cpus=6')).stderr, '', 'what is in force already waits for nothing');
  t.match(await slipway('config', 'set', 'vm.memory=1024'), {
    stderr: /^vm\.memory: in force when the VM next starts/,
  });
  await slipway('config', 'set', 'ports.limit=6', 'vm.cpus=5', 'vm.memory=2048');
});

t.test('what is done beside the daemon takes effect in it at once', async (t) => {
  await slipway('config', 'set', 'ports.limit=7');
  t.equal((await slipway('config', 'revert', 'HEAD')).status, 0);
  t.equal(settings.current['ports.limit'], 6);
  const inForce = { 'ports/limit': '5\n', 'vm/cpus': '5\n', 'vm/memory': '1024\n', 'network/subnet6': 'fd00:1::/64\n' };
  const files = Object.entries(inForce).map(([path, content]) => ({ path, content }));
  await database.commit('state', files, { message: 'In force' });
  t.equal(
    (await slipway('config', 'diff')).stdout,
    'vm.memory: 1024 -> 2048\nports.limit: 5 -> 6\n',
    'what waits for a restart, and not how an automatic network turned out',
  );
  const watch = spawn(join(import.meta.dirname, '../../bin/slipway'), ['config', 'watch', 'ports.limit'], {
    env: { ...process.env, NODE_OPTIONS: '', SLIPWAY_HOME: home.directory },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = createInterface(watch.stdout)[Symbol.asyncIterator]();
  t.equal((await lines.next()).value, 'ports.limit=6');
  await settings.set({ 'ports.limit': '8' });
  t.equal((await lines.next()).value, 'ports.limit=8');
  watch.kill('SIGINT');
  t.equal(await new Promise((resolve) => watch.once('exit', resolve)), 0);
});
