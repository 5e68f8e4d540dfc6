import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { hostNetworks, parseRoute, parseRoute6 } from '../../src/proxy/adapter/host-networks.ts';
import { freeSubnet, freeSubnet6 } from '../../src/proxy/free-subnet.ts';
import { formatAddress, isIpv4, parseSubnet } from '../../src/stack/wire/address.ts';

const taken = (...texts: readonly string[]) => texts.map((text) => parseSubnet(text)!);

t.test('the wanted network stands unless it overlaps one of the host', async (t) => {
  const wanted = '192.168.65.0/24';
  t.equal(freeSubnet(wanted, taken('192.168.1.0/24', '10.0.0.0/8')), wanted);
  t.equal(freeSubnet(wanted, taken('192.168.65.7/32')), '192.168.66.0/24');
  t.equal(freeSubnet(wanted, taken('192.168.64.0/22')), '192.168.68.0/24');
  t.equal(freeSubnet(wanted, taken('192.168.0.0/16', '10.65.0.0/16')), '10.66.65.0/24');
  t.equal(freeSubnet(wanted, taken('0.0.0.0/0')), wanted, 'everything is taken');
});

t.test('the IPv6 network goes with the IPv4 one, unless it overlaps one of the host', async (t) => {
  const subnet = parseSubnet('192.168.65.0/24')!;
  t.equal(freeSubnet6('auto', subnet, taken('fd00::/64', '192.168.65.0/24')), 'fd53:6c69:c0a8:4100::/64');
  t.equal(freeSubnet6('auto', subnet, taken('fd53:6c69:c0a8:4100::7/128')), 'fd53:6c6a:c0a8:4100::/64');
  t.equal(freeSubnet6('auto', subnet, taken('fd53:6c69::/32', 'fd53:6c6a:c0a8::/48')), 'fd53:6c6b:c0a8:4100::/64');
  t.equal(freeSubnet6('auto', subnet, taken('fd00::/8')), 'auto', 'everything is taken');
  for (const text of ['off', 'fd00::/64'])
    t.equal(freeSubnet6(text, subnet, taken('fd00::/64')), text, 'a choice stands');
});

t.test("the host's IPv6 routes", async (t) => {
  const none = '0'.repeat(32);
  const line = (destination: string, prefix: string, device: string): string =>
    `${destination.padEnd(32, '0')} ${prefix} ${none} 00 ${none} 00000100 00000001 00000000 00000001     ${device}`;
  const route = (text: string): string | undefined => {
    const subnet = parseRoute6(text);
    return subnet && `${formatAddress(subnet.address)}/${subnet.prefix}`;
  };
  t.equal(route(line('fd536c69c0a84100', '40', 'eth0')), 'fd53:6c69:c0a8:4100::/64');
  t.equal(route(line('', '00', 'eth0')), '::/0');
  t.equal(route(line('fd536c69c0a84100', '80', 'lo')), undefined);
  t.equal(route(line('fd', 'ff', 'eth0')), undefined);
  t.equal(route(''), undefined);
  fc.assert(
    fc.property(fc.string(), (text) => {
      parseRoute6(text);
    }),
  );
  const folder = mkdtempSync(join(tmpdir(), 'slipway-routes-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'ipv6_route');
  const lines = [
    ['', '00'],
    ['fe80', '40'],
    ['ff', '08'],
    ['fc', '07'],
    ['fd536c69c0a84100', '40'],
  ] as const;
  writeFileSync(path, lines.map(([destination, prefix]) => line(destination, prefix, 'eth0')).join('\n'));
  const found = hostNetworks('/nonexistent', path).filter(({ address }) => !isIpv4(address));
  t.equal(formatAddress(found.at(-1)!.address), 'fd53:6c69:c0a8:4100::');
  t.notOk(
    found.some(({ address, prefix }) => prefix < 8 || formatAddress(address) === 'fe80::' || address[0] === 0xff),
    'ways out, and what every link has, hide nothing',
  );
});

t.test("the host's routes", async (t) => {
  const route = (line: string) => {
    const subnet = parseRoute(line);
    return subnet && `${formatAddress(subnet.address)}/${subnet.prefix - 96}`;
  };
  t.equal(route('eth0\t0041A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0'), '192.168.65.0/24');
  t.equal(route('eth0\t00000000\t0141A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0'), '0.0.0.0/0');
  t.equal(route('tun0\t0500000A\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0'), '10.0.0.5/32');
  t.equal(route(''), undefined);
  fc.assert(
    fc.property(fc.string(), (line) => {
      parseRoute(line);
    }),
  );
  const folder = mkdtempSync(join(tmpdir(), 'slipway-routes-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'route');
  const lines = ['Iface', 'e\t00000000\tx\tx\t0\t0\t0\t00000000', 'e\t0041A8C0\tx\tx\t0\t0\t0\t00FFFFFF'];
  writeFileSync(path, lines.join('\n'));
  const found = hostNetworks(path, '/nonexistent').map(
    ({ address, prefix }) => `${formatAddress(address)}/${prefix - 96}`,
  );
  t.equal(found.at(-1), '192.168.65.0/24');
  t.notOk(found.includes('0.0.0.0/0'), 'the default route hides nothing');
  t.ok(Array.isArray(hostNetworks('/nonexistent', '/nonexistent')));
});
