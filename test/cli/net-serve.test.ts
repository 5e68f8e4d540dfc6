/** `slipway net serve` as a process: what it prints, how it ends, what it refuses. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { request } from '../../src/hypervisor/vhost-user/message.ts';
import { Guest } from '../clients/guest.ts';
import { FrontEnd } from '../hypervisor/vhost-user/front-end.ts';

const program = fileURLToPath(new URL('../../bin/slipway', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'slipway-serve-'));
t.teardown(() => rmSync(folder, { recursive: true }));
let paths = 0;
const freshPath = (): string => join(folder, `${paths++}.sock`);

function start(t: Test, words: readonly string[], fd3 = false): ChildProcess {
  const child = spawn(program, ['net', 'serve', ...words], {
    stdio: ['ignore', 'pipe', 'pipe', ...(fd3 ? ['pipe' as const] : [])],
  });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

/** Started, and ready; what it printed so far. */
async function serving(t: Test, words: readonly string[]) {
  const child = start(t, words);
  let errors = '';
  child.stderr!.on('data', (chunk) => {
    errors += chunk;
  });
  const gone = once(child, 'exit').then(() => Promise.reject(new Error(errors)));
  const [line] = await Promise.race([once(child.stdout!, 'data'), gone]);
  gone.catch(() => undefined);
  return { child, line: String(line), errors: () => errors };
}

async function outcome(t: Test, words: readonly string[]) {
  const child = start(t, words);
  const [out, err, [status]] = await Promise.all([text(child.stdout!), text(child.stderr!), once(child, 'close')]);
  return { out, err, status };
}

t.test('ready, a private socket, and an end with 0 that takes the socket along', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const path = freshPath();
    const { child, line } = await serving(t, ['--qemu', path]);
    t.equal(line, 'ready\n');
    t.equal(statSync(path).mode & 0o777, 0o600);
    const peer = net.connect({ path });
    peer.on('error', () => undefined);
    await once(peer, 'connect');
    child.kill(signal);
    t.same(await once(child, 'exit'), [0, null]);
    t.notOk(existsSync(path));
  }
});

t.test('--vhost-user: a private socket that a front end finds a device behind', async (t) => {
  for (const [words, offloads] of [
    [[], true],
    [['--no-offload'], false],
  ] as [string[], boolean][]) {
    const path = freshPath();
    const { child, line, errors } = await serving(t, ['--vhost-user', path, ...words]);
    t.equal(line, 'ready\n');
    t.equal(statSync(path).mode & 0o777, 0o600);
    const frontEnd = new FrontEnd(path, [256, 256]);
    t.teardown(() => frontEnd.close());
    const features = await frontEnd.u64(request.GET_FEATURES);
    const [checksum, merged, version1] = [0n, 15n, 32n].map((bit) => ((features >> bit) & 1n) === 1n);
    t.same([checksum, merged, version1], [offloads, true, true]);
    await frontEnd.start();
    child.kill();
    t.same(await once(child, 'exit'), [0, null]);
    await frontEnd.closed;
    t.notOk(existsSync(path));
    t.equal(errors(), '');
  }
});

t.test('--ready-fd is written and closed', async (t) => {
  const child = start(t, ['--qemu', freshPath(), '--ready-fd', '3'], true);
  t.equal(await text(child.stdio[3] as Readable), 'ready\n');
  child.kill();
  await once(child, 'exit');
});

t.test('it serves a guest, with a published port', async (t) => {
  const path = freshPath();
  const { child, errors } = await serving(t, [
    '--qemu',
    path,
    '--mtu',
    '9000',
    '--publish',
    '127.0.0.1:0-0:7-7',
    '--publish',
    '0:8',
  ]);
  const guest = await Guest.start(path, 9000);
  t.teardown(() => guest.stop());
  const server = net.createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const echoed = await guest.run(
    async ({ net, once }, port) => {
      const socket = net.connect({ host: '192.168.65.2', port });
      socket.write('there and back');
      const [chunk] = await once(socket, 'data');
      socket.end();
      return String(chunk);
    },
    (server.address() as net.AddressInfo).port,
  );
  t.equal(echoed, 'there and back');
  t.match(errors(), /connected/);
  child.kill();
  t.same(await once(child, 'exit'), [0, null]);
  server.close();
});

t.test('connect: waits for who listens, and comes back', async (t) => {
  const path = freshPath();
  const { child } = await serving(t, ['--qemu', `connect:${path}`]);
  for (let round = 0; round < 2; round++) {
    const server = net.createServer().listen(path);
    const [peer] = (await once(server, 'connection')) as [net.Socket];
    peer.destroy();
    server.close();
    await once(server, 'close');
  }
  child.kill();
  t.same(await once(child, 'exit'), [0, null]);
});

t.test('help has an example', async (t) => {
  const { out, status } = await outcome(t, ['--help']);
  t.equal(status, 0);
  t.match(out, /Examples?:\n {2}\$ slipway net serve --qemu/);
});

t.test('wrong usage is 2, with one line', async (t) => {
  for (const [words, why] of [
    [[], /say what to attach to/],
    [['--qemu', 'connect:'], /say what to attach to/],
    [['--vhost-user', 'x', '--qemu', 'y'], /exclude each other/],
    [['--qemu', 'x', '--no-offload'], /--no-offload goes with --tap or --vhost-user/],
    [['--vmnet', 'x'], /--vmnet is not part of this version/],
    [['--qemu', 'x', '--mtu', '100'], /--mtu: .*from 576 to 65520/],
    [['--qemu', 'x', '--subnet', '10.0.0.1/24'], /--subnet: .*host bits/],
    [['--qemu', 'x', '--publish', '80'], /--publish 80: /],
    [['--qemu', 'x', '--dns', '/no/such/file'], /--dns: there is no such file, and .* is not a DNS server/],
    [['--qemu', 'x', '--host-sockets', 'fast'], /--host-sockets: 'fast' is neither native nor portable/],
    [['--qemu', 'x', '--ready-fd', 'x'], /--ready-fd/],
    [['--nonsense'], /--nonsense/],
    [['--qemu', 'x', 'more'], /more/],
  ] as [string[], RegExp][]) {
    const { err, status } = await outcome(t, words);
    t.equal(status, 2, words.join(' '));
    t.match(err, why);
    t.equal(err.trim().split('\n').length, 1, 'one line');
  }
});

t.test('failures are 1, and leave nothing', async (t) => {
  const taken = net.createServer();
  await once(taken.listen(0, '127.0.0.1'), 'listening');
  const { port } = taken.address() as net.AddressInfo;
  const path = freshPath();
  const busy = await outcome(t, ['--qemu', path, '--publish', `127.0.0.1:${port}:80`]);
  t.equal(busy.status, 1);
  t.equal(busy.err, `slipway: listen tcp4 127.0.0.1:${port}: bind: address already in use\n`);
  t.notOk(existsSync(path));
  taken.close();
  const nowhere = await outcome(t, ['--qemu', join(folder, 'no', 'such.sock')]);
  t.equal(nowhere.status, 1);
  t.match(nowhere.err, /its folder does not exist/);
});
