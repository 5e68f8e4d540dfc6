/** IPv6 in the VM: its own address, Docker's IPv6 networks, the way to the host's loopback, and ports published on ::1. */

import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { freePort, listeners } from './host-ports.ts';
import { busybox, importBusybox, page } from './images.ts';
import { withInstance } from './instance.ts';
import { run } from './programs.ts';

const net = 'fd53:6c69:c0a8:4100';
const container = 'fd00:77::10';

withInstance("the guest's IPv6", async (t, slipway) => {
  t.teardown(async () => {
    await slipway.remove('six', 'six-host');
    await slipway.tryDocker(['network', 'rm', 'six']);
  });
  await importBusybox(slipway);
  await slipway.docker('network', 'create', '--ipv6', '--subnet', 'fd00:77::/64', 'six');
  const port = await freePort();
  // At its IPv6 address alone.
  const serve = ['httpd', '-f', '-h', '/www', '-p', `[${container}]:80`];
  const where = ['--network', 'six', '--ip6', container, '-p', `${port}:80`];
  await slipway.docker('run', '-d', '--name', 'six', ...where, busybox, ...serve);
  const inside = (command: string) => slipway.tryDocker(['exec', 'six', 'sh', '-c', command]);

  await t.test('the VM has the host number of its IPv4 address, and a way out', async (t) => {
    const look = ['sh', '-c', 'ip -6 addr show dev eth0; ip -6 route'];
    const said = await slipway.docker('run', '--rm', '--name', 'six-host', '--net', 'host', busybox, ...look);
    t.match(said, `inet6 ${net}::3/64`);
    t.match(said, /^default via fe80::/m, 'by a router advertisement');
  });

  await t.test("a container reaches the host's loopback by IPv6", async (t) => {
    const seen: string[] = [];
    const server = createServer((socket: Socket) => {
      seen.push(socket.localAddress!);
      socket.once('data', () => socket.end('HTTP/1.0 200 OK\r\n\r\nfrom ::1\n'));
    });
    await once(server.listen(0, '::1'), 'listening');
    t.teardown(() => server.close());
    const { port } = server.address() as { port: number };
    const { stdout, stderr } = await inside(`wget -q -O - http://[${net}::2]:${port}/; ping -6 -c 1 -W 20 ${net}::2`);
    t.match(stdout, /^from ::1$/m, stderr);
    t.match(stdout, /1 packets received/, stderr);
    t.same(seen, ['::1']);
  });

  await t.test('what the host cannot reach is unreachable, not silent', async (t) => {
    const { status, stderr } = await inside(`nc ${net}::2 ${await freePort()} < /dev/null`);
    t.match({ status, stderr }, { status: 1, stderr: /Connection refused/ });
  });

  await t.test('a port published on ::1 leads to it', async (t) => {
    t.same(listeners('tcp', port), ['127.0.0.1', '::1']);
    const { stdout, stderr } = await run(
      'curl',
      ['-sS', '-g', '--max-time', '60', `http://[::1]:${port}/`],
      slipway.env,
    );
    t.equal(stdout, page, stderr);
  });
});
