/** `--conditions` of `net run`: a real kernel behind a bad network, and what is said of conditions that are none. */

import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import t from 'tap';
import { ensureDebianPackages } from '../../tools/debian.ts';

t.setTimeout(120_000);

ensureDebianPackages([
  { name: 'iproute2', proof: 'ip' },
  { name: 'iputils-ping', proof: 'ping' },
  { name: 'socat', proof: 'socat' },
  { name: 'util-linux', proof: 'setpriv' },
]);

const launcher = join(import.meta.dirname, '../../bin/slipway');

async function netRun(...argv: string[]) {
  // tap's hooks must not reach the programs under test.
  const words = ['-u', 'NODE_OPTIONS', launcher, 'net', 'run', ...argv];
  const child = spawn('env', words, { stdio: ['ignore', 'pipe', 'pipe'] });
  const [stdout, stderr, [status]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { status, stdout, stderr };
}

t.test('a delay is felt, each way', async (t) => {
  const { stdout } = await netRun('--conditions', 'delay=60ms', 'ping', '-c', '1', '192.168.65.1');
  const [, ms] = / time=([\d.]+) ms/.exec(stdout) ?? [];
  t.ok(Number(ms) >= 120, stdout);
  const { status } = await netRun('--conditions', 'loss=100%,to=192.168.65.1', 'ping', '-c1', '-W1', '192.168.65.1');
  t.equal(status, 1);
});

t.test('octets arrive whole whatever happens to frames', async (t) => {
  const server = createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const folder = mkdtempSync(join(tmpdir(), 'slipway-conditions-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const octets = randomBytes(400_000);
  writeFileSync(join(folder, 'octets'), octets);
  const script = `socat -t 30 - TCP:192.168.65.2:${port} < ${folder}/octets | sha256sum`;
  const conditions = 'delay=2ms,jitter=1ms,loss=1%,reorder=2%,duplicate=1%,corrupt=0.5%,rate=200mbit';
  const { status, stdout } = await netRun('--conditions', conditions, '--conditions', 'seed=3', 'sh', '-c', script);
  t.equal(status, 0);
  t.equal(stdout.slice(0, 64), createHash('sha256').update(octets).digest('hex'));
});

t.test('conditions that are none are wrong usage', async (t) => {
  const { status, stderr } = await netRun('--conditions', 'delay=40', 'true');
  t.equal(status, 2);
  t.equal(stderr, "slipway: --conditions: 'delay=40': a time has a unit: 500us, 40ms or 1.5s\n");
});
