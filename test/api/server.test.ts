import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BehaviorSubject } from 'rxjs';
import t from 'tap';
import { Agent, request } from 'undici';
import { type PlatformPort, type PlatformStatus, StateError } from '../../src/api/port.ts';
import { routes } from '../../src/api/routes.ts';
import { ApiServer } from '../../src/api/server.ts';
import { standardNames } from '../../src/proxy/dns/built-in-names.ts';
import { checkPolicy } from '../../src/proxy/policy/explanation.ts';
import { parsePolicyRules } from '../../src/proxy/policy/rule.ts';
import { Policy } from '../../src/proxy/policy.ts';
import { Capture } from '../../src/stack/link/capture.ts';
import { type Address, FrameBatch } from '../../src/stack/port.ts';
import { parseAddress, parseSubnet } from '../../src/stack/wire/address.ts';
import { MemorySettings } from '../config/memory-settings.ts';
import { arenaOf } from '../stack/fake-link.ts';
import { icmpFrame, pattern, udpFrame } from '../stack/frames.ts';
import { readPcapng } from '../stack/link/pcapng-file.ts';
import { dnsReport } from './dns-report.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-api-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'api.sock');

const status: PlatformStatus = {
  state: 'running',
  docker: { ready: true, version: '26.1.5' },
  accelerator: 'tcg',
  versions: { slipway: '0.1.0' },
  boot: { kernel: 1.5, dockerd: 9 },
  home: folder,
  sockets: { docker: join(folder, 'docker.sock') },
  pids: { slipway: 1 },
  network: { subnet: '192.168.65.0/24', mtu: 1500, connected: true },
  ports: [],
  restarts: 0,
  pendingRestart: [],
};

const settings = new MemorySettings();
const changes = new BehaviorSubject(status);
const calls: string[] = [];
const captures: Capture[] = [];
const [gateway, hostAlias] = ['192.168.65.1', '192.168.65.2'].map((text) => parseAddress(text)!) as [Address, Address];
const policy = new Policy({
  subnets: [parseSubnet('192.168.65.0/24')!],
  gateways: [gateway],
  hostAliases: [hostAlias],
  names: standardNames([gateway], [hostAlias]),
  rules: parsePolicyRules('allow tcp 10.0.0.5 port 443; deny 10.0.0.0/8'),
});
const platform: PlatformPort = {
  status: () => changes.value,
  changes,
  settings,
  flows: () => [
    { protocol: 'tcp', guest: 'g', peer: 'p', state: 'ESTABLISHED', octetsToGuest: 5, octetsToHost: 7 },
    { protocol: 'udp', guest: 'g', peer: 'p', state: 'open', octetsToGuest: 1, octetsToHost: 1 },
  ],
  drops: () => ({ 'bad "checksum"': 3 }),
  dns: (after) => dnsReport(after),
  addressesOf: async (name) => (name === 'localhost' ? [parseAddress('127.0.0.1')!] : []),
  policy: () => policy.report(),
  checkPolicy: (host, question) => checkPolicy(policy, host, question),
  capture: (options) => {
    const capture = new Capture({ epochMs: 0, ...options });
    captures.push(capture);
    return capture;
  },
  restart: async () => void calls.push('restart'),
  pause: async () => {
    throw new StateError('the VM is stopped, not running');
  },
  resume: async () => {
    throw new Error('boom');
  },
  shutdown: async () => void calls.push('shutdown'),
};

const umask = process.umask(0);
const api = await ApiServer.listen(platform, path, routes);
process.umask(umask);
const agent = new Agent({ connect: { socketPath: path } });
t.teardown(async () => {
  await agent.destroy();
  await api.close(0);
});

async function call(method: string, url: string, body?: string) {
  const options = { method: method as 'GET', dispatcher: agent, ...(body !== undefined && { body }) };
  const answer = await request(`http://slipway${url}`, options);
  const text = await answer.body.text();
  return { status: answer.statusCode, headers: answer.headers, text, json: () => JSON.parse(text) };
}

t.test('the socket is for the user alone', async (t) => {
  t.equal(statSync(path).mode & 0o777, 0o600);
});

t.test('what there is to read', async (t) => {
  t.same((await call('GET', '/v1/status')).json(), JSON.parse(JSON.stringify(status)));
  t.match((await call('GET', '/v1/flows')).json(), { flows: [{ protocol: 'tcp' }, {}], drops: {} });
  t.same((await call('GET', '/v1/ports?x=1')).json(), { ports: [] });
  const metrics = await call('GET', '/metrics');
  t.match(metrics.headers['content-type'], /^text\/plain; version=0\.0\.4/);
  for (const line of [
    'slipway_state{state="running"} 1',
    'slipway_state{state="failed"} 0',
    'slipway_boot_seconds{step="kernel"} 1.5',
    'slipway_flows{protocol="tcp"} 1',
    'slipway_drops_total{reason="bad _checksum_"} 3',
    'slipway_live_flow_octets{direction="to_host"} 8',
    'slipway_dns_total{event="forwarded"} 2',
  ])
    t.ok(metrics.text.split('\n').includes(line), line);
  t.match(metrics.text, /^(# (HELP|TYPE) .*\n|[a-z_]+(\{[^}]*\})? [-\d.e+]+\n)+$/);
});

t.test('whom names are asked of, and queries after a number', async (t) => {
  t.same((await call('GET', '/v1/dns')).json(), JSON.parse(JSON.stringify(dnsReport())));
  t.match((await call('GET', '/v1/dns?after=2')).json(), { queries: [{ number: 3 }] });
  t.match(await call('GET', '/v1/dns?after=x'), { status: 400, text: /'x' is no number/ });
});

t.test('the policy, and what it says of a flow', async (t) => {
  t.match((await call('GET', '/v1/policy')).json(), {
    hostLoopback: 'list',
    ownPorts: [2375, 2376],
    rules: [{ rule: 'allow tcp 10.0.0.5 port 443', decided: 0 }, { rule: 'deny 10.0.0.0/8' }],
    denials: [],
  });
  const check = async (query: string) => (await call('GET', `/v1/policy/check?${query}`)).json();
  t.match(await check('address=10.0.0.5&port=443'), { answers: [{ allowed: true, number: 1 }] });
  t.match(await check('address=10.0.0.5&port=443&protocol=udp'), {
    answers: [{ allowed: false, number: 2, rule: 'deny 10.0.0.0/8', answer: 'ICMP administratively prohibited' }],
  });
  t.match(await check('address=127.0.0.1&port=80'), { answers: [{ reason: 'forbidden-address', answer: 'RST' }] });
  t.match(await check('address=Host.Docker.Internal&port=80'), { answers: [{ allowed: true, dialled: '127.0.0.1' }] });
  t.match(await check('address=localhost&port=80'), { answers: [{ allowed: false, name: 'localhost' }] });
  t.match(await check('address=10.0.0.9&protocol=icmp'), { answers: [{ allowed: false, port: 0 }] });
  t.match(await check('address=10.0.0.9&port=80&direction=in'), { answers: [{ allowed: true }] });
  for (const [query, words] of [
    ['address=10.0.0.5', /'0' is no port/],
    ['address=10.0.0.5&port=65536', /'65536' is no port/],
    ['address=10.0.0.5&port=80&protocol=sctp', /'sctp' is not one of tcp, udp, icmp/],
    ['address=0x7f.1/8&port=80', /is no address and no name/],
    ['address=nope.invalid&port=80', /a guest finds no address for 'nope.invalid'/],
  ] as const)
    t.match((await call('GET', `/v1/policy/check?${query}`)).json(), { error: words }, query);
});

t.test('settings', async (t) => {
  t.match((await call('GET', '/v1/config')).json(), { 'vm.memory': { value: 2048, chosen: false, unit: 'MiB' } });
  const put = await call('PUT', '/v1/config/vm.memory', '{"value": 4096}');
  t.match([put.status, put.json()], [200, { value: 4096, chosen: true, default: 2048, restarts: 'vm' }]);
  t.match((await call('PUT', '/v1/config', '{"vm.cpus": "3", "ports.limit": 9}')).json(), { ok: true });
  t.equal(settings.current['vm.cpus'], 3);
  t.match((await call('DELETE', '/v1/config/vm.memory')).json(), { value: 2048, chosen: false });
  for (const [method, url, body, code, words] of [
    ['PUT', '/v1/config/vm.memory', '{"value": "x"}', 400, /must be a whole number/],
    ['PUT', '/v1/config/vm.memory', '{}', 400, /must be text or a number/],
    ['PUT', '/v1/config/vm.memory', undefined, 400, /must be text or a number/],
    ['PUT', '/v1/config', '[]', 400, /must be a JSON object/],
    ['PUT', '/v1/config', '{', 400, /not JSON/],
    ['PUT', '/v1/config', '{"vm.cpus": 4, "nope": 1}', 400, /there is no setting 'nope'/],
    ['PUT', '/v1/config', `"${'x'.repeat(70_000)}"`, 413, /larger than 65536/],
    ['GET', '/v1/config/nope', undefined, 404, /there is no setting/],
    ['GET', '/v1/config/__proto__', undefined, 404, /there is no setting/],
    ['GET', '/v1/config/%ff', undefined, 400, /not a valid path/],
    ['GET', '/v1/config/a/b', undefined, 404, /there is no/],
    ['POST', '/v1/status', undefined, 405, /POST is not one of GET/],
    ['GET', '/v2', undefined, 404, /there is no \/v2/],
    ['POST', '/v1/pause', undefined, 409, /the VM is stopped, not running/],
    ['POST', '/v1/resume', undefined, 500, /boom/],
  ] as const) {
    const answer = await call(method, url, body);
    t.equal(answer.status, code, `${method} ${url} ${body?.slice(0, 40)}`);
    t.match(answer.json().error, words);
  }
  t.equal((await call('POST', '/v1/status')).headers.allow, 'GET');
  t.equal(settings.current['vm.cpus'], 3, 'nothing of a refused set is taken');
});

t.test('operations', async (t) => {
  await call('POST', '/v1/restart');
  await call('POST', '/v1/shutdown');
  t.same(calls, ['restart', 'shutdown']);
});

t.test('a capture goes on for as long as it is read', async (t) => {
  const show = (capture: Capture): void => {
    const batch = new FrameBatch(2, 1);
    for (const frame of [udpFrame(5, 53, pattern(100)), icmpFrame(8, 0, 1, pattern(6))])
      batch.push(arenaOf(frame), 0, frame.length);
    capture.batch({ link: 'l', ingress: 1, mtu: 1500, direction: 'from-guest', batch, nowMs: 0 });
  };
  const reader = new AbortController();
  const options = { dispatcher: agent, signal: reader.signal };
  const { body, headers } = await request('http://slipway/v1/capture?filter=udp%20port%2053&snap=60', options);
  t.equal(headers['content-type'], 'application/x-pcapng');
  const [first] = captures;
  let octets = Buffer.alloc(0);
  for await (const chunk of body) {
    octets = Buffer.concat([octets, chunk as Buffer]);
    const { packets } = readPcapng(octets);
    if (packets.length === 0) show(first!);
    else break;
  }
  const { packets, interfaces } = readPcapng(octets);
  t.same([packets.length, packets[0]!.bytes.length, interfaces[0]!.filter], [1, 60, 'udp port 53']);
  const stopped = first!.frames;
  reader.abort();
  for (let frames = stopped + 1; first!.frames === frames - 1; frames++) {
    // Until the server has seen that nobody reads.
    await new Promise((resolve) => setTimeout(resolve, 5));
    show(first!);
  }

  const { body: ending } = await request('http://slipway/v1/capture', { dispatcher: agent });
  captures[1]!.stop();
  t.equal(readPcapng(new Uint8Array(await ending.arrayBuffer())).packets.length, 0, 'a network that goes ends it');
  for (const [url, words] of [
    ['/v1/capture?filter=tcp%20and', /the capture filter 'tcp and' is wrong/],
    ['/v1/capture?snap=-1', /no number of octets/],
  ] as const) {
    const answer = await call('GET', url);
    t.equal(answer.status, 400);
    t.match(answer.json().error, words);
  }
  const many = new AbortController();
  const open = () => request('http://slipway/v1/capture', { dispatcher: agent, signal: many.signal });
  const answers = [];
  for (let i = 0; i < 9; i++) answers.push(await open());
  for (const { body } of answers) body.on('error', () => undefined);
  t.same(
    answers.map(({ statusCode }) => statusCode),
    [...new Array(8).fill(200), 429],
  );
  many.abort();
});

t.test('the description names every route and resolves every reference', async (t) => {
  const document = (await call('GET', '/openapi.json')).json();
  for (const { path: url, method } of routes) t.ok(document.paths[url][method.toLowerCase()], `${method} ${url}`);
  const references = JSON.stringify(document.paths).matchAll(/#\/components\/schemas\/(\w+)/g);
  for (const [, name] of references) t.ok(document.components.schemas[name!], name!);
});

t.test('events: the status now, then each change; settings too', async (t) => {
  const { body, headers } = await request('http://slipway/v1/events', { dispatcher: agent });
  t.equal(headers['content-type'], 'text/event-stream');
  let text = '';
  const until = async (pattern: RegExp) => {
    while (!pattern.test(text)) {
      const { value, done } = await chunks.next();
      if (done) throw new Error(`ended before ${pattern}: ${text}`);
      text += value;
    }
  };
  const chunks = body[Symbol.asyncIterator]();
  await until(/^event: status\ndata: \{"state":"running".*\}\n\n/);
  changes.next({ ...status, state: 'paused' });
  await until(/event: status\ndata: \{"state":"paused"/);
  await settings.set({ 'ports.limit': '11' });
  await until(/event: settings\ndata: .*"ports.limit":11/);
  body.destroy();
});

t.test('octets that are not HTTP are answered with 400', async (t) => {
  const answer = await new Promise<string>((resolve) => {
    let text = '';
    const socket = connect(path, () => void socket.write('\0\xff nonsense\r\n\r\n'));
    socket.on('data', (octets) => {
      text += octets;
    });
    socket.on('close', () => resolve(text));
  });
  t.match(answer, /^HTTP\/1\.1 400/);
});
