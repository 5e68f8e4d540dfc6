/** Push and pull through a plain registry on the host, by the one address that the engine trusts without TLS. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, listeners } from './host-ports.ts';
import { busybox, importBusybox } from './images.ts';
import { withInstance } from './instance.ts';
import { Running, until } from './programs.ts';

withInstance('registries', async (t, slipway) => {
  const folder = mkdtempSync(join(tmpdir(), 'slipway-registry-'));
  const port = await freePort();
  const image = `host.docker.internal:${port}/tools/busybox:1`;
  const configuration = {
    version: 0.1,
    log: { level: 'error' },
    storage: { filesystem: { rootdirectory: join(folder, 'images') } },
    http: { addr: `127.0.0.1:${port}` },
  };
  writeFileSync(join(folder, 'config.yml'), JSON.stringify(configuration));
  const registry = new Running('docker-registry', ['serve', join(folder, 'config.yml')], slipway.env);
  t.teardown(async () => {
    registry.child.kill();
    await slipway.tryDocker(['rmi', '-f', image]);
    rmSync(folder, { recursive: true, force: true });
  });
  await importBusybox(slipway);
  await until('the registry to listen', () => listeners('tcp', port).includes('127.0.0.1'));

  await t.test('an image pushed to the host comes back by pull', async (t) => {
    await slipway.docker('tag', busybox, image);
    await slipway.docker('push', image);
    const catalogue = await fetch(`http://127.0.0.1:${port}/v2/tools/busybox/tags/list`);
    t.same(await catalogue.json(), { name: 'tools/busybox', tags: ['1'] }, 'the registry on the host has it');
    await slipway.docker('rmi', image);
    await slipway.docker('pull', image);
    t.equal(await slipway.docker('run', '--rm', image, 'echo', 'pulled'), 'pulled\n');
  });

  await t.test('a registry without TLS at any other address is refused', async (t) => {
    t.teardown(() => slipway.remove('registry-other'));
    await slipway.docker('run', '-d', '--name', 'registry-other', busybox, 'httpd', '-f', '-p', '5000');
    const format = '{{.NetworkSettings.IPAddress}}';
    const address = (await slipway.docker('inspect', '-f', format, 'registry-other')).trim();
    const { status, stderr } = await slipway.tryDocker(['pull', `${address}:5000/tools/busybox:1`]);
    t.equal(status, 1);
    t.match(stderr, /server gave HTTP response to HTTPS client/);
  });
});
