/** Two guests with Linux's own network stack on one network, by a switch: DHCPv6, each other, and what is not theirs. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { QemuStreamLink } from '../src/hypervisor/link/qemu-stream.ts';
import { Network } from '../src/network.ts';
import { ensureDebianPackages } from '../tools/debian.ts';
import { Guest } from './clients/guest.ts';
import { FakeLink } from './stack/fake-link.ts';

ensureDebianPackages([{ name: 'iputils-ping', proof: 'ping' }]);

const folder = mkdtempSync(join(tmpdir(), 'slipway-network-ipv6-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const program = fileURLToPath(new URL('./cli/dhcpv6-program.ts', import.meta.url));

t.test('a network that ends tells its guests that their router is no more', async (t) => {
  const network = new Network({ subnet: '192.168.65.0/24', mtu: 1500, resolvConf: join(folder, 'none') });
  const link = new FakeLink();
  network.attach(link);
  link.take();
  network.close();
  const [last] = link.take().map(({ bytes }) => bytes);
  t.equal(last![54], 134, 'a router advertisement');
  t.same(last!.subarray(60, 62), [0, 0], 'of a lifetime of nothing');
  t.ok(link.closed);
});

t.test(
  'guests have addresses of their own by DHCPv6, reach each other by them, and cannot take another’s',
  async (t) => {
    const network = new Network({
      subnet: '192.168.65.0/24',
      mtu: 1500,
      resolvConf: join(folder, 'none'),
      switched: true,
    });
    const guests: Guest[] = [];
    t.teardown(async () => {
      network.close();
      for (const guest of guests) await guest.stop();
    });
    const addresses: string[] = [];
    for (const [i, name] of ['a', 'b'].entries()) {
      const path = join(folder, name);
      network.attach(await QemuStreamLink.listen(path, { mtu: 1500 }));
      const guest = await Guest.start(path);
      guests.push(guest);
      const said = await guest.run(
        async ({ execute }, node, path, client) => String((await execute(node, [path, 'eth0', client])).stdout),
        process.execPath,
        program,
        String(i + 1),
      );
      addresses.push(said.split(' ')[1]!);
    }
    const [one, other] = addresses as [string, string];
    t.match(one, /^fd53:6c69:c0a8:4100:0:1:/);
    t.match(other, /^fd53:6c69:c0a8:4100:0:1:/);
    t.not(one, other);
    const use = (guest: Guest, address: string): Promise<void> =>
      guest.run(({ exec }, address) => {
        exec('ip', ['addr', 'add', `${address}/64`, 'dev', 'eth0', 'nodad']);
      }, address);
    const ping = (guest: Guest, from: string, to: string, seconds: string): Promise<boolean> =>
      guest.run(
        ({ execute }, from, to, seconds) =>
          execute('ping', ['-6', '-c', '1', '-w', seconds, '-I', from, to]).then(
            () => true,
            () => false,
          ),
        from,
        to,
        seconds,
      );
    await use(guests[0]!, one);
    await use(guests[1]!, other);
    t.ok(await ping(guests[0]!, one, other, '20'), 'each other');
    t.ok(await ping(guests[1]!, other, 'fd53:6c69:c0a8:4100::2', '20'), 'and the host');
    await guests[1]!.run(
      ({ exec }, own, address) => {
        exec('ip', ['addr', 'del', `${own}/64`, 'dev', 'eth0']);
        exec('ip', ['addr', 'add', `${address}/64`, 'dev', 'eth0', 'nodad']);
      },
      other,
      one,
    );
    t.notOk(await ping(guests[1]!, one, 'fd53:6c69:c0a8:4100::2', '1'));
    t.ok(network.drops()['switch-source-address']! > 0, 'what is leased to another is dropped at the switch');
  },
);
