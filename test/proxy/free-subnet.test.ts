import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { hostNetworks, parseRoute } from '../../src/proxy/adapter/host-networks.ts';
import { freeSubnet } from '../../src/proxy/free-subnet.ts';
import { formatAddress, parseSubnet } from '../../src/stack/wire/address.ts';

const taken = (...texts: readonly string[]) => texts.map((text) => parseSubnet(text)!);

t.test('the wanted network stands unless it overlaps one of the host', async (t) => {
  const wanted = '192.168.65.0/24';
  t.equal(freeSubnet(wanted, taken('192.168.1.0/24', '10.0.0.0/8')), wanted);
  t.equal(freeSubnet(wanted, taken('192.168.65.7/32')), '192.168.66.0/24');
  t.equal(freeSubnet(wanted, taken('192.168.64.0/22')), '192.168.68.0/24');
  t.equal(freeSubnet(wanted, taken('192.168.0.0/16', '10.65.0.0/16')), '10.66.65.0/24');
  t.equal(freeSubnet(wanted, taken('0.0.0.0/0')), wanted, 'everything is taken');
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
  const found = hostNetworks(path).map(({ address, prefix }) => `${formatAddress(address)}/${prefix - 96}`);
  t.equal(found.at(-1), '192.168.65.0/24');
  t.notOk(found.includes('0.0.0.0/0'), 'the default route hides nothing');
  t.ok(Array.isArray(hostNetworks('/nonexistent')));
});
