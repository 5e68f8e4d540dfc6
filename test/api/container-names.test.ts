/** Containers' addresses by name, from a Docker API that the test serves. */

import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ContainerNames } from '../../src/api/container-names.ts';
import { formatAddress } from '../../src/stack/wire/address.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-names-'));
const path = join(folder, 'docker.sock');
let looks = 0;
let answer: unknown;
let status = 200;
const docker = createServer((request, response) => {
  looks++;
  response.writeHead(request.url === '/containers/json' ? status : 404);
  response.end(JSON.stringify(answer));
});
await once(docker.listen(path), 'listening');
const names = new ContainerNames(path);
t.teardown(async () => {
  await names.close();
  docker.close();
  docker.closeAllConnections();
  rmSync(folder, { recursive: true });
});

const container = (name: string, id: string, ...addresses: string[]) => ({
  Id: id.repeat(64),
  Names: [`/${name}`, `/other/${name}`],
  NetworkSettings: {
    Networks: Object.fromEntries(addresses.map((IPAddress, i) => [`network${i}`, { IPAddress }])),
  },
});

const addressOf = async (name: string): Promise<string | undefined> => {
  const address = await names.addressOf(name);
  return address && formatAddress(address);
};

t.test('by name, in any case, the exact one first; by id', async (t) => {
  answer = [
    container('Web', 'a', '172.17.0.2'),
    container('web', 'b', '', '172.18.0.5'),
    container('db_1', 'c', 'fd00::7', '10.1.0.9'),
    container('host-networked', 'd', ''),
  ];
  t.equal(await addressOf('Web'), '172.17.0.2');
  t.equal(await addressOf('web'), '172.18.0.5', 'of the network that it has an address in');
  t.equal(await addressOf('WEB'), '172.17.0.2');
  t.equal(await addressOf('DB_1'), '10.1.0.9');
  t.equal(await addressOf('c'.repeat(12)), '10.1.0.9');
  for (const none of ['c'.repeat(11), 'nobody', 'host-networked', 'toString'])
    t.equal(await addressOf(none), undefined, none);
});

t.test('one look for those that ask at once, another later', async (t) => {
  looks = 0;
  await Promise.all([addressOf('web'), addressOf('Web'), addressOf('x')]);
  t.equal(looks, 1);
  answer = [container('web', 'b', '172.19.0.1')];
  t.equal(await addressOf('web'), '172.19.0.1');
});

t.test('answers of no use, and none', async (t) => {
  for (const odd of [
    [],
    [{}],
    [{ Names: ['/web'] }],
    [{ Names: ['/web'], NetworkSettings: { Networks: { a: {} } } }],
  ]) {
    answer = odd;
    t.equal(await addressOf('web'), undefined);
  }
  status = 500;
  await t.rejects(addressOf('web'), { message: /500/ });
  docker.close();
  docker.closeAllConnections();
  await t.rejects(addressOf('web'));
});
