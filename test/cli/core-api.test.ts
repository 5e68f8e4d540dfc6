/** `--api` of `net run` and `net serve`, and the commands that ask it: flows, policy, metrics of a core alone. */

import { type ChildProcess, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t from 'tap';
import { Agent, request } from 'undici';
import { ensureDebianPackages } from '../../tools/debian.ts';

ensureDebianPackages([
  { name: 'iproute2', proof: 'ip' },
  { name: 'iputils-ping', proof: 'ping' },
  { name: 'socat', proof: 'socat' },
  { name: 'util-linux', proof: 'setpriv' },
]);

t.setTimeout(180_000);

const launcher = join(import.meta.dirname, '../../bin/slipway');
const folder = mkdtempSync(join(tmpdir(), 'slipway-core-api-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'net.sock');

// tap's hooks must not reach the programs under test.
const start = (...argv: string[]): ChildProcess =>
  spawn('env', ['-u', 'NODE_OPTIONS', launcher, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });

async function slipway(...argv: string[]) {
  const child = start(...argv);
  const [stdout, stderr, [status]] = await Promise.all([
    text(child.stdout!),
    text(child.stderr!),
    once(child, 'close'),
  ]);
  return { status, stdout, stderr };
}

t.test('what flows is seen, and ends when the rules deny it', async (t) => {
  const held: Socket[] = [];
  const tcp = createServer((socket) => held.push(socket.on('error', () => undefined))).listen(0, '127.0.0.1');
  await once(tcp, 'listening');
  const udp = createSocket('udp4').bind(0, '127.0.0.1');
  await once(udp, 'listening');
  const port = (tcp.address() as AddressInfo).port;
  const script = `
    socat -u UDP-RECV:9,fork - & ping -c 1 -W 1 198.51.100.1 > /dev/null
    (echo four | socat -t 1 - UDP:192.168.65.2:${udp.address().port})
    socat -d -d -u TCP:192.168.65.2:${port} - 2>&1; echo over; exec sleep 1000`;
  const box = start('net', 'run', '--api', path, '--allow', `tcp any port ${port}`, '--', 'sh', '-c', script);
  t.teardown(() => {
    box.kill();
    tcp.close();
    udp.close();
    for (const socket of held) socket.destroy();
  });
  let said = '';
  box.stdout!.on('data', (octets) => (said += octets));
  const [[socket]] = (await Promise.all([once(tcp, 'connection'), once(udp, 'message')])) as [[Socket], unknown];

  t.equal(statSync(path).mode & 0o777, 0o600);
  const { flows, drops } = JSON.parse((await slipway('net', 'flows', '--json', '--api', path)).stdout);
  t.match(
    flows.find(({ protocol }: { protocol: string }) => protocol === 'tcp'),
    {
      guest: /^192\.168\.65\.3:\d+$/,
      peer: `192.168.65.2:${port}`,
      direction: 'out',
      rule: `allow tcp port ${port}`,
      state: 'ESTABLISHED',
      waitsFor: 'nothing',
    },
  );
  t.match(
    flows.find(({ protocol }: { protocol: string }) => protocol === 'udp'),
    { peer: `192.168.65.2:${udp.address().port}`, octetsToHost: 5, octetsToGuest: 0 },
  );
  t.type(drops['icmp-host-forbids'], 'number');
  const table = await slipway('net', 'flows', '--api', path);
  t.match(table.stdout, new RegExp(`^tcp +192\\.168\\.65\\.3:\\d+ +-> +192\\.168\\.65\\.2:${port} +ESTABLISHED`, 'm'));
  t.match(
    (await slipway('net', 'policy', 'check', '--api', path, '192.168.65.2', String(port))).stdout,
    /rule 1: allow/,
  );

  const watching = start('net', 'flows', '--watch', '--json', '--interval', '0.1', '--api', path);
  let lines = '';
  for await (const octets of watching.stdout!) {
    lines += octets;
    if (lines.split('\n').length > 2) break;
  }
  for (const line of lines.split('\n').slice(0, 2)) t.match(JSON.parse(line), { flows: [], drops: {} });
  watching.kill('SIGINT');
  t.same(await once(watching, 'close'), [0, null]);
  const rules = start('net', 'policy', '-f', '--api', path);
  let shown = '';
  for await (const octets of rules.stdout!) {
    shown += octets;
    if (shown.split(/^ports of the host/m).length > 2) break;
  }
  rules.kill('SIGTERM');
  t.same(await once(rules, 'close'), [0, null]);

  // `once` would be told of the reset as an error.
  const ended = new Promise((resolve) => socket.once('close', resolve));
  t.match(await slipway('net', 'policy', 'set', '--api', path, `deny tcp any port ${port}`), { status: 0, stdout: '' });
  await ended;
  while (!said.includes('over')) await once(box.stdout!, 'data');
  t.match(said, /reset by peer/i, 'both ends are reset');
  t.match(JSON.parse((await slipway('net', 'policy', '--json', '--api', path)).stdout), {
    denied: { rule: 1 },
    denials: [{ protocol: 'tcp', port, rule: `deny tcp port ${port}` }],
  });
  const wrong = await slipway('net', 'policy', 'set', '--api', path, 'denied any');
  t.match(wrong, { status: 1, stderr: /^slipway: 'denied any': a rule is .*\n$/ });

  const dispatcher = new Agent({ connect: { socketPath: path } });
  const { body } = await request('http://slipway/metrics', { dispatcher });
  t.match(await body.text(), /^slipway_flows\{protocol="udp"\} 1$/m);
  const other = await request('http://slipway/v1/status', { dispatcher });
  t.equal(other.statusCode, 404, 'there is no platform here');
  await other.body.dump();
  await dispatcher.close();
  box.kill();
  await once(box, 'close');
  t.notOk(existsSync(path));
});

t.test('conditions of a core alone are shown, changed and ended', async (t) => {
  const box = start('net', 'run', '--api', path, '--conditions', 'delay=1ms', '--', 'sh', '-c', 'echo up; sleep 1000');
  t.teardown(() => box.kill());
  await once(box.stdout!, 'data');
  const conditions = (...argv: string[]) => slipway('net', 'conditions', '--api', path, ...argv);
  t.equal((await conditions()).stdout, 'delay=1ms\n');
  t.same(await conditions('loss=5%,seed=4'), { status: 0, stdout: '', stderr: '' });
  t.same(JSON.parse((await conditions('--json')).stdout), { conditions: 'loss=5%,seed=4' });
  t.match(await conditions('loss=5'), { status: 2, stderr: /^slipway: 'loss=5': a share is written/ });
  t.equal((await conditions('none')).status, 0);
  t.equal((await conditions()).stdout, 'none\n');
  const dispatcher = new Agent({ connect: { socketPath: path } });
  for (const body of ['{}', '{"conditions":"nonsense"}']) {
    const headers = { 'content-type': 'application/json' };
    const answer = await request('http://slipway/v1/conditions', { dispatcher, method: 'PUT', headers, body });
    t.equal(answer.statusCode, 400);
    await answer.body.dump();
  }
  await dispatcher.close();
  box.kill();
  await once(box, 'close');
});

t.test('the file of rules is followed; what is wrong with it is told, and the last good rules stay', async (t) => {
  const held: Socket[] = [];
  const server = createServer((socket) => held.push(socket.on('error', () => undefined))).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const rules = join(folder, 'rules');
  writeFileSync(rules, '# none yet\n');
  const script = `socat -d -d -u TCP:192.168.65.2:${port} - 2>&1; echo over; exec sleep 1000`;
  const box = start('net', 'run', '--api', path, '--allow', 'udp', '--policy', rules, '--', 'sh', '-c', script);
  t.teardown(() => {
    box.kill();
    server.close();
    for (const socket of held) socket.destroy();
  });
  let said = '';
  let told = '';
  box.stdout!.on('data', (octets) => (said += octets));
  box.stderr!.on('data', (octets) => (told += octets));
  await once(server, 'connection');
  const inForce = async (): Promise<string[]> => {
    const report = JSON.parse((await slipway('net', 'policy', '--json', '--api', path)).stdout);
    return report.rules.map(({ rule }: { rule: string }) => rule);
  };
  t.same(await inForce(), ['allow udp']);

  writeFileSync(rules, `deny tcp any port ${port}\n`);
  while (!said.includes('over')) await once(box.stdout!, 'data');
  t.match(said, /reset by peer/i, 'what is open and denied now ends');
  t.same(await inForce(), ['allow udp', `deny tcp port ${port}`], 'after those of the command line');

  writeFileSync(rules, 'denied any\n');
  while (!told.includes('\n')) await once(box.stderr!, 'data');
  t.match(told, /^slipway: --policy .*rules: 'denied any': a rule is .*; the rules that were in force stay\n$/);
  told = '';
  rmSync(rules);
  while (!told.includes('\n')) await once(box.stderr!, 'data');
  t.match(told, /cannot be read \(ENOENT\); the rules that were in force stay\n$/);
  t.same(await inForce(), ['allow udp', `deny tcp port ${port}`]);

  writeFileSync(`${rules}.new`, 'deny 10.0.0.0/8\n');
  renameSync(`${rules}.new`, rules);
  while ((await inForce())[1] !== 'deny 10.0.0.0/8');
  t.pass('and another file in its place holds');
  box.kill();
  await once(box, 'close');
});

t.test('a path that is taken, and one where nobody answers', async (t) => {
  const file = join(folder, 'file');
  writeFileSync(file, 'mine');
  t.match(await slipway('net', 'run', '--api', file, 'true'), { status: 1, stderr: /exists and is not a socket/ });
  t.ok(existsSync(file));
  const nobody = await slipway('net', 'flows', '--api', path);
  t.match(nobody, {
    status: 1,
    stderr: `slipway: nobody answers on ${path}; 'slipway net serve --api ${path}' would\n`,
  });
  t.match(await slipway('net', 'flows', '--interval', '0'), {
    status: 2,
    stderr: /--interval wants a number of seconds/,
  });
});
