/** Published ports: the host's listeners come with `docker run`, go with the container, and bind as CONTRACTS says. */

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { askUdp, exchange, freePort, listeners } from './host-ports.ts';
import { busybox, importBusybox, page } from './images.ts';
import { withInstance } from './instance.ts';
import { run, until } from './programs.ts';

const loopback = ['127.0.0.1', '::1'];

withInstance('published ports', async (t, slipway) => {
  const names = ['pub', 'pub-busy', 'pub-low', 'pub-reserved', 'pub-many'];
  t.teardown(() => slipway.remove(...names));
  await importBusybox(slipway);
  const port = {
    plain: await freePort(),
    four: await freePort(),
    six: await freePort(),
    udp: await freePort(),
    range: await freePort(3),
  };
  const publish = (...specs: readonly string[]): string[] => specs.flatMap((spec) => ['-p', spec]);
  const curl = async (url: string): Promise<string> => {
    const { status, stdout, stderr } = await run('curl', ['-sS', '-g', '--max-time', '60', url], slipway.env);
    if (status !== 0) throw new Error(`curl ${url}: ${stderr}`);
    return stdout;
  };
  const fails = (name: string, ...specs: readonly string[]): Promise<{ status: number | null; stderr: string }> =>
    slipway.tryDocker(['run', '-d', '--name', name, ...publish(...specs), busybox, 'sleep', '1000']);

  const specs = [
    `${port.plain}:80`,
    `127.0.0.1:${port.four}:80`,
    '0:80',
    `[::1]:${port.six}:80`,
    `${port.udp}:7/udp`,
    `${port.range}-${port.range + 2}:8000-8002`,
  ];
  const serve = 'httpd -p 80 -h /www; for port in 7 8000 8001; do peer $port & done; exec peer 8002';
  await slipway.docker('run', '-d', '--name', 'pub', ...publish(...specs), busybox, 'sh', '-c', serve);

  await t.test('listeners are there when docker run returns, on loopback only', async (t) => {
    t.same(listeners('tcp', port.plain), loopback, '-p PORT:80');
    t.same(listeners('tcp', port.four), ['127.0.0.1'], '-p 127.0.0.1:PORT:80');
    t.same(listeners('tcp', port.six), ['::1'], '-p [::1]:PORT:80');
    t.same(listeners('udp', port.udp), loopback, '-p PORT:7/udp');
    for (const one of [0, 1, 2]) t.same(listeners('tcp', port.range + one), loopback, `-p FIRST-LAST, ${one}`);
  });

  await t.test('a page comes by every way in', async (t) => {
    const dynamic = (await slipway.docker('port', 'pub', '80/tcp')).match(/\d+$/gm)!.map(Number);
    const chosen = dynamic.find((one) => ![port.plain, port.four, port.six].includes(one));
    t.ok(chosen, '-p 0:80 has a port of its own');
    t.same(
      listeners('tcp', chosen!).filter((address) => !loopback.includes(address)),
      [],
    );
    for (const url of [
      `http://localhost:${port.plain}/`,
      `http://127.0.0.1:${port.plain}/`,
      `http://[::1]:${port.plain}/`,
      `http://127.0.0.1:${port.four}/`,
      `http://127.0.0.1:${chosen}/`,
      `http://[::1]:${port.six}/`,
    ])
      t.equal(await curl(url), page, url);
  });

  await t.test('datagrams come back, by either family', async (t) => {
    t.equal(await askUdp('127.0.0.1', port.udp, 'ping'), 'ping');
    t.equal(await askUdp('::1', port.udp, 'six'), 'six');
  });

  await t.test('each port of a range leads to its own', async (t) => {
    for (const one of [0, 1, 2]) {
      const said = await exchange('127.0.0.1', port.range + one, `echo\nthrough ${one}`);
      t.equal(said.toString(), `through ${one}`);
    }
  });

  await t.test("a busy port fails in Docker's usual words", async (t) => {
    const busy = createServer().listen(0, '127.0.0.1');
    await once(busy, 'listening');
    t.teardown(() => busy.close());
    const taken = (busy.address() as { port: number }).port;
    const { status, stderr } = await fails('pub-busy', `${taken}:80`);
    t.equal(status, 125);
    t.match(stderr, new RegExp(`listen tcp4? [\\d.]+:${taken}: bind: address already in use`));
    t.same(listeners('tcp', taken), ['127.0.0.1'], 'nothing is left behind');
  });

  await t.test('a port that is privileged on the host is refused', async (t) => {
    const first = Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'latin1'));
    const { status, stderr } = await fails('pub-low', '81:80');
    // Docker's client turns every error that has these words into 126.
    t.equal(status, first > 81 ? 126 : 0);
    if (first > 81) t.match(stderr, /:81: bind: permission denied/);
    t.same(listeners('tcp', 81), first > 81 ? [] : loopback);
  });

  await t.test('what the user reserves is refused, and more listeners than the limit', async (t) => {
    const reserved = await freePort();
    const beyond = await freePort(40);
    t.teardown(() => slipway.slipway('config', 'unset', 'ports.reserved', 'ports.limit'));
    await slipway.slipway('config', 'set', `ports.reserved=${reserved}`, 'ports.limit=30');
    const kept = await fails('pub-reserved', `${reserved}:80`);
    t.equal(kept.status, 125);
    t.match(kept.stderr, new RegExp(`:${reserved}: .*ports\\.reserved`));
    t.same(listeners('tcp', reserved), []);
    const many = await fails('pub-many', `${beyond}-${beyond + 39}:8000-8039`);
    t.equal(many.status, 125);
    t.match(many.stderr, /ports\.limit/);
    await until('the listeners of what failed to go', () => listeners('tcp', beyond).length === 0);
  });

  await t.test('a listener goes with its proxy', async (t) => {
    const { status } = await slipway.trySlipway('shell', `kill $(pidof slipway-proxy)`);
    t.equal(status, 0);
    await until('the listeners to go', () => listeners('tcp', port.plain).length === 0);
    t.same(listeners('udp', port.udp), []);
  });

  await t.test('listeners go when the container is killed', async (t) => {
    await slipway.docker('restart', '-t', '0', 'pub');
    t.same(listeners('tcp', port.plain), loopback, 'back with the container');
    await slipway.docker('kill', 'pub');
    await until('the listeners to go', () =>
      [port.plain, port.four, port.six, port.range, port.range + 2].every((one) => listeners('tcp', one).length === 0),
    );
    await until('the UDP listener to go', () => listeners('udp', port.udp).length === 0);
    t.pass('gone');
  });
});
