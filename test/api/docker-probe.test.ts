import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { filter, firstValueFrom } from 'rxjs';
import t from 'tap';
import { DockerProbe } from '../../src/api/docker-probe.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-probe-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const path = join(folder, 'docker.sock');

interface Docker {
  readonly server: Server;
  readonly asked: string[];
  version: string;
  pings: number;
}

async function docker(pings = 200): Promise<Docker> {
  const fake: Docker = {
    asked: [],
    version: '26.1.5',
    pings,
    server: createServer((request, response) => {
      const [url] = request.url!.split('?') as [string];
      fake.asked.push(url);
      if (url === '/_ping') response.writeHead(fake.pings).end('OK');
      else if (url === '/version') response.end(JSON.stringify({ Version: fake.version }));
      else response.writeHead(200).flushHeaders();
    }),
  };
  rmSync(path, { force: true });
  await once(fake.server.listen(path), 'listening');
  return fake;
}

async function stop({ server }: Docker): Promise<void> {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
}

t.test('ready once Docker answers, away when its event stream ends, ready again', async (t) => {
  const probe = new DockerProbe(path);
  const ready = () => firstValueFrom(probe.changes.pipe(filter((state) => state.ready)));
  const away = () => firstValueFrom(probe.changes.pipe(filter((state) => !state.ready)));
  t.same(probe.state, { ready: false });
  probe.start();
  probe.start();
  const first = await docker();
  t.same(await ready(), { ready: true, version: '26.1.5' });
  while (!first.asked.includes('/events')) await once(first.server, 'request');
  const asked = first.asked.length;
  const gone = away();
  await stop(first);
  await gone;
  t.equal(first.asked.length, asked, 'nothing was polled meanwhile');
  const second = await docker();
  second.version = '27.0.1';
  t.same(await ready(), { ready: true, version: '27.0.1' });
  probe.stop();
  t.same(probe.state, { ready: false });
  await stop(second);
  await probe.close();
});

t.test('an answer that is no success is none', async (t) => {
  const fake = await docker(503);
  const probe = new DockerProbe(path);
  probe.start();
  for (let tries = 0; tries < 2; tries++) await once(fake.server, 'request');
  t.same(probe.state, { ready: false });
  fake.pings = 200;
  t.match(await firstValueFrom(probe.changes.pipe(filter((state) => state.ready))), { ready: true });
  await probe.close();
  await stop(fake);
});
