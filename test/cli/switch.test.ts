/** `net serve` with two QEMU sockets: two real kernels on one network. */

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Guest } from '../clients/guest.ts';

t.setTimeout(120_000);

const launcher = join(import.meta.dirname, '../../bin/slipway');
const folder = mkdtempSync(join(tmpdir(), 'slipway-switch-'));
t.teardown(() => rmSync(folder, { recursive: true }));

t.test('guests reach each other and the host, and nobody else’s address', async (t) => {
  const sockets = [join(folder, 'a.sock'), join(folder, 'b.sock')];
  const words = ['-u', 'NODE_OPTIONS', launcher, 'net', 'serve', ...sockets.flatMap((path) => ['--qemu', path])];
  const capture = join(folder, 'frames.pcapng');
  words.push('--capture', capture);
  const child = spawn('env', words, { stdio: ['ignore', 'pipe', 'ignore'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  const [a, b] = (await Promise.all(sockets.map((path) => Guest.start(path)))) as [Guest, Guest];
  t.teardown(() => Promise.all([a.stop(), b.stop()]));
  await b.run(({ exec }) => {
    exec('ip', ['addr', 'flush', 'dev', 'eth0']);
    exec('ip', ['addr', 'add', '192.168.65.4/24', 'dev', 'eth0']);
    exec('ip', ['route', 'add', 'default', 'via', '192.168.65.1']);
  });
  const server = createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  for (const guest of [a, b])
    t.equal(
      await guest.run(async ({ net, once }, port) => {
        const socket = net.connect({ host: '192.168.65.2', port });
        socket.write('x');
        const [chunk] = await once(socket, 'data');
        socket.destroy();
        return String(chunk);
      }, port),
      'x',
    );
  await a.run(async ({ net, once }) => {
    const listening = net.createServer((socket) => void socket.on('error', () => undefined).pipe(socket));
    await once(listening.listen(7, '192.168.65.3'), 'listening');
  });
  const octets = await b.run(async ({ net }) => {
    const socket = net.connect({ host: '192.168.65.3', port: 7 });
    socket.end(Buffer.alloc(3_000_000, 7));
    let octets = 0;
    for await (const chunk of socket) octets += (chunk as Buffer).length;
    return octets;
  });
  t.equal(octets, 3_000_000);
  const spoofed = b.run(async ({ exec, net, once }) => {
    exec('ip', ['addr', 'add', '192.168.65.3/32', 'dev', 'eth0']);
    const socket = net.connect({ host: '192.168.65.1', port: 53, localAddress: '192.168.65.3' });
    const timer = setTimeout(() => socket.destroy(Object.assign(new Error('silence'), { code: 'SILENCE' })), 1500);
    await once(socket, 'connect');
    clearTimeout(timer);
  });
  await t.rejects(spoofed, { message: 'SILENCE' }, 'the address of the first guest is not the second’s to use');
  child.kill();
  t.same(await once(child, 'exit'), [0, null]);
  const fields = ['-T', 'fields', '-e', 'frame.interface_name', '-e', '_ws.malformed'];
  const { stdout } = spawnSync('tshark', ['-n', '-r', capture, '-Y', 'tcp.port == 7', ...fields], { encoding: 'utf8' });
  const between = new Set(stdout.split('\n').filter((line) => line !== ''));
  t.same(
    [...between].sort(),
    sockets.map((path) => `qemu:${path}\t`),
    'the frames between guests are in the capture, as each of their links had them',
  );
});

t.test('--leases-only: no address without a lease', async (t) => {
  const path = join(folder, 'leases.sock');
  const child = spawn('env', ['-u', 'NODE_OPTIONS', launcher, 'net', 'serve', '--leases-only', '--qemu', path], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  const guest = await Guest.start(path);
  t.teardown(() => guest.stop());
  const pings = (): Promise<string> =>
    guest.run(({ execute }) =>
      execute('ping', ['-c', '1', '-W', '1', '192.168.65.1']).then(
        () => 'yes',
        () => 'no',
      ),
    );
  t.equal(await pings(), 'no');
  const script = join(folder, 'lease');
  writeFileSync(script, '#!/bin/sh\n[ "$1" = bound ] && ip addr add "$ip/24" dev "$interface" || exit 0\n', {
    mode: 0o755,
  });
  await guest.run(async ({ exec, execute }, script) => {
    exec('ip', ['addr', 'flush', 'dev', 'eth0']);
    await execute('busybox', ['udhcpc', '-i', 'eth0', '-n', '-q', '-f', '-t', '10', '-T', '1', '-s', script]);
  }, script);
  t.equal(await pings(), 'yes');
  child.kill();
  t.same(await once(child, 'exit'), [0, null]);
});
