/** Containers at their own addresses, by the entrance; and their HTTP through an upstream proxy that they know nothing of. */

import { once } from 'node:events';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { freePort } from './host-ports.ts';
import { busybox, importBusybox, page } from './images.ts';
import { withInstance } from './instance.ts';
import { run, until } from './programs.ts';

withInstance('the entrance and upstream proxies', async (t, slipway) => {
  const settings = ['network.entrance', 'network.httpProxy', 'network.noProxy'];
  t.teardown(async () => {
    await slipway.remove('inner_Web');
    await slipway.slipway('config', 'unset', ...settings);
  });
  await importBusybox(slipway);
  const serve = 'httpd -p 80 -h /www; exec sleep 100000';
  await slipway.docker('run', '-d', '--name', 'inner_Web', busybox, 'sh', '-c', serve);
  const socket = join(slipway.home, 'entrance.sock');
  const curl = (...words: string[]) => run('curl', ['-sS', '--max-time', '60', ...words], slipway.env);

  await t.test('a container without a published port, by name and by address', async (t) => {
    await slipway.slipway('config', 'set', 'network.entrance=socket');
    await until(
      'the entrance',
      async () => (await curl('--proxy', `socks5h://localhost${socket}`, 'http://vm.docker.internal:1/')).status === 97,
    );
    t.equal(statSync(socket).mode & 0o777, 0o600);
    const by = ['--proxy', `socks5h://localhost${socket}`];
    const { stdout, stderr } = await curl(...by, 'http://inner_web.container.slipway.internal/');
    t.equal(stdout, page, stderr);
    const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
    const address = (await slipway.docker('inspect', '-f', format, 'inner_Web')).trim();
    t.equal((await curl(...by, `http://${address}/`)).stdout, page);
    t.match((await curl(...by, 'http://nobody.container.slipway.internal/')).stderr, /\(4\)/);
  });

  await t.test('on loopback, with the credential that was made', async (t) => {
    const port = await freePort();
    await slipway.slipway('config', 'set', `network.entrance=127.0.0.1:${port}`);
    const file = join(slipway.home, 'entrance.credential');
    const by = ['--proxy', `http://127.0.0.1:${port}`, 'http://inner_web.container.slipway.internal/'];
    await until('the entrance on loopback', async () => /407|401/.test((await curl('-i', ...by)).stdout));
    t.equal(statSync(file).mode & 0o777, 0o600);
    t.equal((await curl('--proxy-user', readFileSync(file, 'utf8').trim(), ...by)).stdout, page);
  });

  await t.test('an upstream proxy, live: set, excluded, unset', async (t) => {
    const asked: (string | undefined)[] = [];
    const proxy = createServer((request, response) => {
      asked.push(request.url, request.headers['proxy-authorization']);
      response.end('from the proxy\n');
    });
    await once(proxy.listen(0, '127.0.0.1'), 'listening');
    t.teardown(() => {
      proxy.close();
      proxy.closeAllConnections();
    });
    const credential = join(slipway.home, 'proxy.credential');
    writeFileSync(credential, 'me:secret\n', { mode: 0o600 });
    const { port } = proxy.address() as AddressInfo;
    const fetch = () =>
      slipway.tryDocker(['exec', 'inner_Web', 'timeout', '5', 'wget', '-q', '-O', '-', 'http://203.0.113.80/x']);
    await slipway.slipway('config', 'set', `network.httpProxy=http://127.0.0.1:${port}`);
    await until('the proxy to be asked', async () => (await fetch()).stdout === 'from the proxy\n');
    t.same(asked.slice(-2), ['http://203.0.113.80/x', `Basic ${Buffer.from('me:secret').toString('base64')}`]);
    const log = readFileSync(join(slipway.home, 'logs', 'slipway.log'), 'utf8');
    t.notMatch(log, /secret/);
    await slipway.slipway('config', 'set', 'network.noProxy=203.0.113.0/24');
    await until('it to be excluded', async () => (await fetch()).stdout === '');
    await slipway.slipway('config', 'unset', 'network.httpProxy', 'network.noProxy');
    t.equal((await fetch()).stdout, '');
  });

  await t.test('containers are told of the proxy as the README has it, for this daemon alone', async (t) => {
    const asked: string[] = [];
    const proxy = createServer((request, response) => {
      asked.push(request.url!);
      response.end('from the proxy\n');
    });
    await once(proxy.listen(0, '127.0.0.1'), 'listening');
    const config = join(slipway.env.DOCKER_CONFIG!, 'config.json');
    const before = existsSync(config) ? readFileSync(config, 'utf8') : '{}';
    t.teardown(async () => {
      writeFileSync(config, before);
      proxy.close();
      proxy.closeAllConnections();
      await slipway.slipway('config', 'unset', 'network.httpProxy');
    });
    const readme = readFileSync(join(import.meta.dirname, '../../README.md'), 'utf8');
    const example = /```json\n(\{\n {2}"proxies"[\s\S]*?)```/.exec(readme)![1]!;
    const socket = 'unix:///home/me/.local/share/slipway/docker.sock';
    const proxies = JSON.parse(example.replace(socket, `unix://${slipway.dockerSocket}`));
    writeFileSync(config, JSON.stringify({ ...JSON.parse(before), ...proxies }));
    const { port } = proxy.address() as AddressInfo;
    await slipway.slipway('config', 'set', `network.httpProxy=http://127.0.0.1:${port}`);
    // A port that nothing is intercepted at. A busybox of glibc alone cannot look up the proxy's name.
    const asking = `printf 'GET http://203.0.113.80:8080/x HTTP/1.0\\r\\n\\r\\n' | nc -w 20 192.168.65.1 3128`;
    const script = `env | grep -i _proxy= | sort; ${asking}`;
    const told = await slipway.docker('run', '--rm', busybox, 'sh', '-c', script);
    t.match(told, /^HTTPS_PROXY=http:\/\/http\.docker\.internal:3128$/m);
    t.match(told, /^http_proxy=http:\/\/http\.docker\.internal:3128$/m);
    t.match(told, /^NO_PROXY=localhost,/m);
    t.match(told, /^from the proxy$/m);
    t.same(asked, ['http://203.0.113.80:8080/x']);

    const elsewhere = JSON.stringify({ ...JSON.parse(before), ...JSON.parse(example) });
    writeFileSync(config, elsewhere);
    t.equal(await slipway.docker('run', '--rm', busybox, 'sh', '-c', 'env | grep -ic _proxy= || true'), '0\n');
  });
});
