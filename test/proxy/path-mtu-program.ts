/** A guest's datagrams over the system's own sockets, run in a namespace whose loopback has an MTU of 1400; prints what came of them. */

import { setTimeout as sleep } from 'node:timers/promises';
import { LinuxHostNet } from '../../src/proxy/adapter/linux-host-net.ts';
import { Policy } from '../../src/proxy/policy.ts';
import { UdpProxy } from '../../src/proxy/udp-proxy.ts';
import { parseSubnet } from '../../src/stack/wire/address.ts';
import { address, datagram, FakeNetstack, guest } from './fake-stack.ts';
import { fragmentsOf } from './host-peer.ts';

const peers = { '10.9.0.1': guest, 'fd99::1': 'fd65::3' } as const;
const host = new LinuxHostNet(
  () => undefined,
  () => undefined,
);
const netstack = new FakeNetstack();
const clock = { nowMs: () => performance.now() };
const policy = new Policy({
  subnets: [parseSubnet('192.168.65.0/24')!, parseSubnet('fd65::/64')!],
  gateways: [address('192.168.65.1')],
  hostAliases: [address('192.168.65.2')],
});
const proxy = new UdpProxy({ host, policy, netstack, clock, hostAliases: [] });
const heard: string[] = [];
const handler = { received: (_: unknown, payload: Uint8Array) => void heard.push(`${payload.length}`), failed() {} };
for (const at of Object.keys(peers)) await host.listenDatagram(at, 7, handler);
for (const [to, from] of Object.entries(peers))
  for (const [octets, dontFragment] of [
    [1000, true],
    [1450, true],
    [1450, false],
    [1300, true],
  ] as const) {
    proxy.udp({ ...datagram(from, 5000, to, 7, fragmentsOf(new Uint8Array(octets))), dontFragment });
    host.flush();
  }
while (heard.length < 6 || netstack.unreachable.length < 2) await sleep(10);
process.stdout.write(JSON.stringify({ heard, unreachable: netstack.unreachable }));
process.exit(0);
