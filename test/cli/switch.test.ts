/** `net serve` with two QEMU sockets: two real kernels on one network. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Guest } from '../clients/guest.ts';

const launcher = join(import.meta.dirname, '../../bin/slipway');
const folder = mkdtempSync(join(tmpdir(), 'slipway-switch-'));
t.teardown(() => rmSync(folder, { recursive: true }));

t.test('guests reach each other and the host, and nobody else’s address', async (t) => {
  const sockets = [join(folder, 'a.sock'), join(folder, 'b.sock')];
  const words = ['-u', 'NODE_OPTIONS', launcher, 'net', 'serve', ...sockets.flatMap((path) => ['--qemu', path])];
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
});
