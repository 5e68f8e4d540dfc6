/** Names for the HTTP proxy: the network's own, the hosts file, and the name servers that are in force. */

import dgram from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode, encode } from 'dns-packet';
import t, { type Test } from 'tap';
import { NameLookup } from '../../src/proxy/adapter/name-lookup.ts';
import type { NameTarget } from '../../src/proxy/dns/built-in-names.ts';
import type { ResolverConfig } from '../../src/proxy/port.ts';
import { formatAddress, parseAddress } from '../../src/stack/wire/address.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-names-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const hosts = join(folder, 'hosts');
const address = (text: string) => parseAddress(text)!;

/** Answers every name with these addresses; none: there is no such name. */
async function server(t: Test, ...addresses: string[]): Promise<ResolverConfig> {
  const socket = dgram.createSocket('udp4');
  socket.on('message', (bytes, { address, port }) => {
    const { id, questions = [] } = decode(bytes);
    const [{ name, type } = { name: '', type: 'A' }] = questions;
    const answers = addresses
      .filter((data) => data.includes(':') === (type === 'AAAA'))
      .map((data) => ({ type: type as 'A' | 'AAAA', name, ttl: 0, data }));
    socket.send(
      encode({ type: 'response', id: id!, flags: addresses.length > 0 ? 0x80 : 0x83, questions, answers }),
      port,
      address,
    );
  });
  await once(socket.bind(0, '127.0.0.1'), 'listening');
  t.teardown(() => socket.close());
  return { servers: [{ address: address('127.0.0.1'), port: socket.address().port }], search: [] };
}

t.test('in this order: the network’s own names, loopback, the hosts file, DNS of both families', async (t) => {
  writeFileSync(hosts, '# nothing\n127.0.1.1 listed.example Alias # and so on\n::1 alias\nnonsense x\n');
  let config: ResolverConfig = { servers: [], search: [] };
  const own = new Map<string, NameTarget>([
    ['host.docker.internal', [address('192.168.65.2')]],
    ['vm.docker.internal', 'guest'],
  ]);
  const lookup = new NameLookup({ current: () => config }, own, hosts);
  const find = async (name: string): Promise<string[]> => (await lookup.addressesOf(name)).map(formatAddress);
  t.same(await find('host.docker.internal'), ['192.168.65.2']);
  for (const name of ['localhost', 'a.localhost', hostname().toLowerCase()])
    t.same(await find(name), ['127.0.0.1'], name);
  t.same(await find('listed.example'), ['127.0.1.1']);
  t.same(await find('alias'), ['127.0.1.1', '::1']);
  t.same(await find('web.example'), [], 'no name server');

  config = await server(t, '10.0.0.1', '10.0.0.2', 'fd00::1');
  t.same((await find('web.example')).sort(), ['10.0.0.1', '10.0.0.2', 'fd00::1']);
  t.same(await find('listed.example'), ['127.0.1.1'], 'the file is asked first');
  config = await server(t);
  t.same(await find('web.example'), [], 'another server: at once');
  config = await server(t, '10.0.0.3');
  writeFileSync(hosts, 'longer than it was before, and without it\n');
  t.same(await find('listed.example'), ['10.0.0.3'], 'the file was read again');
  rmSync(hosts);
  t.same(await find('listed.example'), ['10.0.0.3']);
});
