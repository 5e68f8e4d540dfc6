/** `--capture` of `net run` and `net serve`: what tshark makes of the files, their modes, rotation, and what goes wrong. */

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { CaptureFile } from '../../src/cli/capture-file.ts';
import { Capture } from '../../src/stack/link/capture.ts';
import { FrameBatch } from '../../src/stack/port.ts';
import { ensureDebianPackages } from '../../tools/debian.ts';
import { arenaOf } from '../stack/fake-link.ts';
import { pattern, udpFrame } from '../stack/frames.ts';
import { readPcapng } from '../stack/link/pcapng-file.ts';

ensureDebianPackages([
  { name: 'tshark', proof: 'tshark' },
  { name: 'iproute2', proof: 'ip' },
  { name: 'socat', proof: 'socat' },
  { name: 'util-linux', proof: 'setpriv' },
]);

const launcher = join(import.meta.dirname, '../../bin/slipway');
const folder = mkdtempSync(join(tmpdir(), 'slipway-capture-'));
t.teardown(() => rmSync(folder, { recursive: true }));

async function slipway(...argv: string[]) {
  // tap's hooks must not reach the programs under test. The umask would give everybody everything.
  const child = spawn('sh', ['-c', 'umask 0; exec env -u NODE_OPTIONS "$@"', 'sh', launcher, ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  child.stdout.resume();
  const [status] = await once(child, 'close');
  return { status, stderr };
}

function tshark(path: string, ...argv: string[]): string[] {
  const done = spawnSync('tshark', ['-n', '-r', path, ...argv], { encoding: 'utf8' });
  if (done.status !== 0) throw new Error(done.stderr);
  return done.stdout.split('\n').filter((line) => line !== '');
}

const fields = (path: string, filter: string, ...names: string[]): string[] =>
  tshark(path, '-Y', filter, '-T', 'fields', '-E', 'separator=|', ...names.flatMap((name) => ['-e', name]));

t.test('a command’s frames, with offload: tshark finds nothing malformed', async (t) => {
  const server = createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const path = join(folder, 'run.pcapng');
  writeFileSync(path, 'what was there before');
  chmodSync(path, 0o644);
  const script = `head -c 300000 /dev/zero | socat -t 5 - TCP:host.docker.internal:${port} | wc -c`;
  t.same(await slipway('net', 'run', '--capture', path, '--', 'sh', '-c', script), { status: 0, stderr: '' });
  t.equal(statSync(path).mode & 0o777, 0o600);

  t.same(tshark(path, '-Y', '_ws.malformed || _ws.short'), []);
  const [syn] = fields(path, 'tcp.flags.syn == 1 && tcp.flags.ack == 0', 'frame.interface_name', 'frame.comment');
  t.match(syn, new RegExp(`^tap:tap0\\|flow \\d+: tcp 192\\.168\\.65\\.3:\\d+ > 192\\.168\\.65\\.2:${port}$`));
  const bothWays = fields(path, `tcp.len > 1460`, 'frame.packet_flags_direction', 'frame.packet_flags');
  const directions = new Set(bothWays.map((line) => line.split('|')[0]));
  t.same([...directions].sort(), ['0x00000001', '0x00000002'], 'super-segments, each way');
  t.ok(
    bothWays.every((line) => (Number(line.split('|')[1]) & 0x800) !== 0),
    'marked as not cut',
  );
  for (const to of ['==', '!=']) {
    const octets = fields(path, `tcp.dstport ${to} ${port} && tcp.len > 0`, 'tcp.len');
    t.equal(
      octets.reduce((sum, text) => sum + Number(text), 0),
      300_000,
    );
  }
  t.ok(fields(path, 'dns', 'dns.qry.name').length >= 2, 'the question and the answer');
  const { statistics, packets } = readPcapng(readFileSync(path));
  t.same(statistics, [{ interfaceId: 0, received: BigInt(packets.length), dropped: 0n }]);
  const ages = packets.map(({ ns }) => Number(ns / 1_000_000n) - Date.now());
  t.ok(
    ages.every((age) => age <= 1 && age > -120_000),
    'stamped with the time of day',
  );
});

t.test('a filter and a snap length', async (t) => {
  const path = join(folder, 'filtered.pcapng');
  const script = 'echo x | socat -t 0 - UDP:192.168.65.2:9; ping -c 1 -W 1 192.168.65.1 >/dev/null; true';
  const options = ['--capture', path, '--capture-filter', 'icmp and host 192.168.65.1', '--capture-snap', '60'];
  t.same(await slipway('net', 'run', ...options, 'sh', '-c', script), { status: 0, stderr: '' });
  t.same(fields(path, 'frame', 'icmp.type', 'frame.cap_len', 'frame.len'), ['8|60|98', '0|60|98']);
});

t.test('net serve: a guest’s frames are in the file when it ends', async (t) => {
  const { Guest } = await import('../clients/guest.ts');
  const socket = join(folder, 'serve.sock');
  const path = join(folder, 'serve.pcapng');
  const child = spawn('env', ['-u', 'NODE_OPTIONS', launcher, 'net', 'serve', '--qemu', socket, '--pcap', path]);
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  const guest = await Guest.start(socket, 1500);
  t.teardown(() => guest.stop());
  await guest.run(async ({ net, once }) => {
    const client = net.connect({ host: '192.168.65.1', port: 53 });
    await once(client, 'connect');
    client.destroy();
  });
  child.kill();
  t.same(await once(child, 'exit'), [0, null]);
  t.same(tshark(path, '-Y', '_ws.malformed'), []);
  t.equal(fields(path, 'tcp.dstport == 53 && tcp.flags.syn == 1', 'frame.comment').length, 1);
});

t.test('wrong usage, and a file that cannot be', async (t) => {
  for (const [argv, why] of [
    [['--capture-filter', 'tcp'], /^slipway: --capture-filter goes with --capture\n$/],
    [['--capture', join(folder, 'x'), '--capture-filter', 'tcp and'], /^slipway: --capture-filter: .* wrong: .*\n$/],
    [['--capture', join(folder, 'x'), '--capture-size', '10'], /^slipway: --capture-size: '10' is no number from/],
    [['--capture', join(folder, 'x'), '--capture-snap', 'all'], /^slipway: --capture-snap: 'all' is no number/],
    [['--capture', ''], /^slipway: --capture wants the name of a file\n$/],
  ] as const) {
    const { status, stderr } = await slipway('net', 'run', ...argv, 'true');
    t.equal(status, 2, argv.join(' '));
    t.match(stderr, why);
  }
  const { status, stderr } = await slipway('net', 'run', '--capture', join(folder, 'absent/x'), 'true');
  t.equal(status, 1);
  t.match(stderr, /^slipway: --capture .*absent\/x: the file cannot be written: ENOENT.*\n$/);
});

const udp = (() => {
  const batch = new FrameBatch(1, 1);
  const frame = udpFrame(5, 53, pattern(1000));
  batch.push(arenaOf(frame), 0, frame.length);
  return { link: 'link', ingress: 1, mtu: 1500, direction: 'from-guest', batch, nowMs: 0 } as const;
})();

t.test('rotation keeps as many files as were asked for', async (t) => {
  const path = join(folder, 'rotated');
  const file = await CaptureFile.create(path, { files: 3, failed: (error) => t.fail(error.message) });
  const capture = new Capture({ sink: file, epochMs: 0, fileOctets: 131_072 });
  file.follow(capture);
  for (let i = 0; i < 1000; i++) {
    capture.batch(udp);
    if (i % 50 === 0) await new Promise(setImmediate);
  }
  await file.close();
  t.equal(capture.dropped, 0);
  for (const name of ['', '.1', '.2']) {
    t.equal(statSync(path + name).mode & 0o777, 0o600);
    t.ok(readPcapng(readFileSync(path + name)).packets.length > 0);
  }
  t.throws(() => statSync(`${path}.3`));
});

t.test('a full disk ends the capture, once', async (t) => {
  const failures: string[] = [];
  const file = await CaptureFile.create('/dev/full', { failed: ({ message }) => failures.push(message) });
  const capture = new Capture({ sink: file, epochMs: 0 });
  for (let i = 0; i < 5000; i++) capture.batch(udp);
  await file.close();
  t.same(failures.length, 1);
  t.match(failures[0], /^the capture into \/dev\/full has ended: ENOSPC/);
  t.ok(capture.dropped > 0);
});
