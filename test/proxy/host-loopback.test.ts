/**
 * Every form of an address or a name that leads to the host's loopback somewhere, by every way a guest has: none arrives.
 * What is not refused as a form is refused by the gate, before anything is dialled.
 */

import { PassThrough } from 'node:stream';
import t from 'tap';
import { FakeHostNet } from '../../src/proxy/adapter/fake-host-net.ts';
import { Destinations } from '../../src/proxy/entrance/destinations.ts';
import { parseDatagram, parseRequest } from '../../src/proxy/entrance/socks-message.ts';
import { GuestRoutes } from '../../src/proxy/http-proxy/guest-routes.ts';
import { HttpRefusal, parseAbsolute, parseAuthority } from '../../src/proxy/http-proxy/message.ts';
import { NoProxy } from '../../src/proxy/http-proxy/no-proxy.ts';
import { parseProxyUrl } from '../../src/proxy/http-proxy/proxy-url.ts';
import { IcmpProxy } from '../../src/proxy/icmp-proxy.ts';
import { parsePolicyRules } from '../../src/proxy/policy/rule.ts';
import { Policy } from '../../src/proxy/policy.ts';
import type { HostEchoPort } from '../../src/proxy/port.ts';
import { TcpProxy } from '../../src/proxy/tcp-proxy.ts';
import { UdpProxy } from '../../src/proxy/udp-proxy.ts';
import { parseAddress, parseSubnet } from '../../src/stack/wire/address.ts';
import { address, datagram, FakeConnection, FakeNetstack, guest } from './fake-stack.ts';
import { fragmentsOf } from './host-peer.ts';

/** Destinations of packets. */
const addresses = [
  '127.0.0.1',
  '127.1.2.3',
  '127.255.255.255',
  '0.0.0.0',
  '0.0.0.1',
  '::',
  '::1',
  '::ffff:127.0.0.1',
  '::ffff:0.0.0.0',
  '::127.0.0.1',
  '::ffff:0:127.0.0.1',
  '64:ff9b::127.0.0.1',
  '64:ff9b::',
  '2002:7f00:1::1',
  '2002::1',
  '2001:0:102:304::80ff:fffe',
  '2001:db8::5efe:127.0.0.1',
  '2001:db8::200:5efe:a9fe:a9fe',
  'fe80::1',
  'ff01::1',
  'ff02::1',
  '169.254.169.254',
  '224.0.0.1',
  '240.0.0.1',
  '255.255.255.255',
];

/** IPv6 addresses that carry one of IPv4, which only a router of the host's could take out. */
const transition = /^(?:64:ff9b:|2002:|2001:|::ffff:0:)/;

/** As a host in a URL, a CONNECT or a Host field. */
const written = [
  '127.0.0.1',
  '127.0.0.1.',
  '127.1',
  '127.0.1',
  '0',
  '0.0.0.0',
  '0x7f.0.0.1',
  '0x7f000001',
  '0177.0.0.1',
  '0177.0.0.01',
  '017700000001',
  '2130706433',
  '127.0.0.01',
  '127.000.000.001',
  '127.0.0.1%00',
  '１２７.０.０.１',
  '①②⑦.⓪.⓪.①',
  'localhost',
  'LOCALHOST.',
  'a.localhost',
  '[::]',
  '[::1]',
  '[0:0:0:0:0:0:0:1]',
  '[::ffff:127.0.0.1]',
  '[::ffff:7f00:1]',
  '[0:0:0:0:0:ffff:7f00:1]',
  '[::127.0.0.1]',
  '[64:ff9b::7f00:1]',
  '[2002:7f00:1::]',
  '[::1%lo]',
  '[::1%25lo]',
  '[fe80::1%25lo]',
  '[fe80::1]',
  '[127.0.0.1]',
  '[v1.127.0.0.1]',
  '::1',
  'user@127.0.0.1',
  'www.example.org@127.0.0.1',
  // Names that whoever owns them lets stand for the host.
  'rebound.example',
  'rebound6.example',
  'mapped.example',
  'nat64.example',
];

const resolved: Record<string, string[]> = {
  localhost: ['127.0.0.1'],
  'a.localhost': ['127.0.0.1'],
  'rebound.example': ['127.0.0.1'],
  'rebound6.example': ['::1'],
  'mapped.example': ['::ffff:127.0.0.1'],
  'nat64.example': ['64:ff9b::7f00:1'],
};

function world() {
  const clock = { nowMs: () => 0 };
  const policy = new Policy({
    subnets: [parseSubnet('192.168.65.0/24')!],
    gateways: [address('192.168.65.1')],
    hostAliases: [address('192.168.65.2')],
    hostLoopback: { mode: 'all' },
    rules: parsePolicyRules('allow any'),
    clock,
  });
  const netstack = new FakeNetstack();
  const dialled: string[] = [];
  const host = new FakeHostNet((event) => event());
  host.connect = () => {
    dialled.push('tcp');
    throw new Error('dialled');
  };
  host.bindDatagram = () => {
    dialled.push('udp');
    throw new Error('bound');
  };
  return { clock, policy, netstack, host, dialled };
}

t.test('TCP: refused at once', async (t) => {
  const { policy, host, dialled, clock } = world();
  const proxy = new TcpProxy(host, policy, clock);
  for (const to of addresses) {
    const connection = new FakeConnection(to, 80);
    proxy.tcp(connection);
    t.equal(connection.refused, 'reset', to);
  }
  t.same(dialled, []);
});

t.test('UDP: told at once, and no socket is bound', async (t) => {
  const { policy, netstack, host, dialled, clock } = world();
  const proxy = new UdpProxy({ host, policy, netstack, clock, hostAliases: [] });
  for (const to of addresses) proxy.udp(datagram(guest, 5000, to, 53, fragmentsOf(Buffer.from('x'))));
  t.equal(netstack.unreachable.length, addresses.length);
  t.equal(netstack.unreachable.filter((told) => told.startsWith('prohibited ')).length, addresses.length);
  t.same([dialled, proxy.mappings], [[], 0]);
});

t.test('ICMP: told at once, and nothing is sent', async (t) => {
  const { policy, netstack, clock } = world();
  const load = async (): Promise<HostEchoPort | undefined> => {
    t.fail('an echo was to be sent');
    return undefined;
  };
  const proxy = new IcmpProxy({ policy, netstack, clock, load });
  for (const to of addresses)
    proxy.echo({ ...datagram(guest, 0, to, 0, fragmentsOf(Buffer.from('x'))), identifier: 1, sequence: 1 });
  t.equal(netstack.unreachable.filter((told) => told.startsWith('prohibited ')).length, addresses.length);
});

/** What becomes of a host in a request to the proxy on the gateway; 0: it would have been dialled. */
async function status(host: string, form: 'CONNECT' | 'absolute' | 'Host', upstream: boolean): Promise<number> {
  const { policy } = world();
  const target =
    form === 'absolute'
      ? parseAbsolute(`http://${host}:80/`)?.target
      : parseAuthority(form === 'Host' ? host : `${host}:80`, form === 'Host' ? 80 : undefined);
  if (!target) return 400;
  const proxy = upstream ? parseProxyUrl('http://203.0.113.9:3128') : undefined;
  const names = { addressesOf: async (name: string) => (resolved[name] ?? []).map((text) => parseAddress(text)!) };
  const routes = new GuestRoutes(policy, names, { http: proxy, https: proxy, noProxy: NoProxy.parse('') });
  const client = new PassThrough();
  routes.introduce(client, { ingress: 1, ...(form === 'Host' && { dialled: address('203.0.113.1') }) });
  try {
    await (form === 'CONNECT' ? routes.tunnel(target, client) : routes.route(target, client));
    return 0;
  } catch (error) {
    if (error instanceof HttpRefusal) return error.status;
    throw error;
  }
}

for (const upstream of [false, true])
  for (const form of ['CONNECT', 'absolute', 'Host'] as const)
    t.test(`the HTTP proxy, ${form}${upstream ? ', with an upstream proxy' : ''}: 400 or 403`, async (t) => {
      for (const host of written) {
        // Of an intercepted connection the address that was dialled is what counts; without a proxy no name is asked for.
        const narrowed = form === 'Host' && !upstream && resolved[host.toLowerCase().replace(/\.$/, '')];
        t.ok([400, 403, ...(narrowed ? [0] : [])].includes(await status(host, form, upstream)), host);
      }
    });

t.test('SOCKS, the host’s way to guests: nothing but guests is behind it', async (t) => {
  const network = {
    subnet: parseSubnet('192.168.65.0/24')!,
    own: [address('192.168.65.1'), address('192.168.65.2')],
    firstGuest: address('192.168.65.3'),
  };
  const names = { addressOf: async () => address('127.0.0.1') };
  const destinations = new Destinations(network, names);
  const bare = written.map((host) => host.replace(/^\[(.*)\]$/, '$1'));
  const named = ['rebound.container.slipway.internal', 'host.docker.internal', 'gateway.docker.internal'];
  for (const host of [...addresses.filter((text) => !transition.test(text)), ...bare, ...named]) {
    const found = await destinations.find(host);
    if ('address' in found) t.match(host, transition, `${host}: an IPv6 address like any other, and no guest's`);
    else t.ok(found.refused, host);
  }
  // Address types of RFC 1928 5: IPv4, a name, IPv6.
  const ipv6 = [...parseAddress('::1')!];
  for (const [kind, ...body] of [
    [1, 127, 0, 0, 1],
    [1, 0, 0, 0, 0],
    [3, 9, ...Buffer.from('localhost')],
    [3, 9, ...Buffer.from('127.0.0.1')],
    [3, 3, ...Buffer.from('::1')],
    [4, ...ipv6],
    [4, ...parseAddress('::ffff:127.0.0.1')!],
  ]) {
    const request = parseRequest(Uint8Array.of(5, 1, 0, kind!, ...body, 0, 80));
    if (!request || request === 'malformed') t.equal(request, 'malformed');
    else t.match(await destinations.find(request.host ?? ''), { refused: /./ }, String(request.host));
    const udp = parseDatagram(Uint8Array.of(0, 0, 0, kind!, ...body, 0, 80, 1));
    if (udp) t.match(await destinations.find(udp.host ?? ''), { refused: /./ }, `UDP ${udp.host}`);
  }
});
