/** Datagrams to the outside, and through published ports, over a host that exists in memory. */

import t from 'tap';
import { FakeHostNet } from '../../src/proxy/adapter/fake-host-net.ts';
import { parsePolicyRules } from '../../src/proxy/policy/rule.ts';
import { defaultLimits, Policy } from '../../src/proxy/policy.ts';
import type { HostDatagramSocket } from '../../src/proxy/port.ts';
import { PortForwarder } from '../../src/proxy/port-forward.ts';
import { withScope } from '../../src/proxy/scoped-address.ts';
import { UdpProxy } from '../../src/proxy/udp-proxy.ts';
import { formatAddress, parseSubnet } from '../../src/stack/wire/address.ts';
import { address, datagram, FakeNetstack, guest } from './fake-stack.ts';
import { fragmentsOf, HostPeer } from './host-peer.ts';

const text = (words: string) => fragmentsOf(Buffer.from(words));

function world(limits?: { udp: number }) {
  const events: (() => void)[] = [];
  const host = new FakeHostNet((event) => events.push(event));
  const netstack = new FakeNetstack();
  const policy = new Policy({
    subnets: [parseSubnet('192.168.65.0/24')!, parseSubnet('fd65::/64')!],
    gateways: [address('192.168.65.1'), address('fd65::1')],
    hostAliases: [address('192.168.65.2'), address('fd65::2')],
    ...(limits && { limits }),
  });
  const clock = { now: 0, nowMs: () => clock.now };
  const hostAliases = [address('192.168.65.2'), address('fd65::2')];
  const proxy = new UdpProxy({ host, policy, netstack, clock, hostAliases });
  const gateways = [address('192.168.65.1'), address('fd65::1')];
  const forwarder = new PortForwarder({ host, netstack, clock, gateways, policy });
  const settle = (): void => {
    for (let event = events.shift(); event; event = events.shift()) event();
  };
  return { host, netstack, policy, clock, proxy, forwarder, settle };
}

/** The sockets that are bound from now on. */
function boundOf(host: FakeHostNet): HostDatagramSocket[] {
  const bound: HostDatagramSocket[] = [];
  const bind = host.bindDatagram.bind(host);
  host.bindDatagram = (family, handler) => {
    bound.push(bind(family, handler));
    return bound.at(-1)!;
  };
  return bound;
}

/** A host peer that keeps what it gets and answers. */
async function peer(host: FakeHostNet, at: string, port: number) {
  const got: { from: string; port: number; payload: string }[] = [];
  const { socket } = await host.listenDatagram(at, port, {
    received(socket, payload, from, fromPort) {
      got.push({ from: formatAddress(from), port: fromPort, payload: Buffer.from(payload).toString() });
      socket.send(text(`re: ${Buffer.from(payload)}`), from, fromPort);
    },
    failed() {},
  });
  return { got, socket };
}

t.test('one host port for all peers of a source, and replies with their own addresses', async (t) => {
  const { host, netstack, proxy, settle } = world();
  const peers = [await peer(host, '10.0.0.1', 53), await peer(host, '10.0.0.2', 53), await peer(host, '10.0.0.3', 99)];
  proxy.udp(datagram(guest, 5000, '10.0.0.1', 53, text('a')));
  proxy.udp(datagram(guest, 5000, '10.0.0.2', 53, text('b')));
  settle();
  t.equal(proxy.mappings, 1);
  t.equal(peers[0]!.got[0]!.port, peers[1]!.got[0]!.port);
  t.same(
    netstack.sent.map(({ from, to, payload }) => [from, to, payload.toString()]),
    [
      ['10.0.0.1 53', `${guest} 5000`, 're: a'],
      ['10.0.0.2 53', `${guest} 5000`, 're: b'],
    ],
  );
  // A third party that was never spoken to.
  peers[2]!.socket.send(text('hello'), address('192.0.2.1'), peers[0]!.got[0]!.port);
  settle();
  t.equal(netstack.sent[2]?.from, '10.0.0.3 99');
  proxy.udp(datagram(guest, 5001, '10.0.0.1', 53, text('c')));
  settle();
  t.equal(proxy.mappings, 2, 'another source is another mapping');
});

t.test('a thousand peers of one source', async (t) => {
  const { host, netstack, proxy, settle } = world();
  for (let i = 0; i < 1000; i++) await peer(host, `10.0.${i >> 8}.${i & 255}`, 7);
  for (let i = 0; i < 1000; i++) proxy.udp(datagram(guest, 5000, `10.0.${i >> 8}.${i & 255}`, 7, text(`${i}`)));
  settle();
  t.equal(proxy.mappings, 1);
  t.same(
    netstack.sent.map(({ from, payload }) => `${from} ${payload}`),
    Array.from({ length: 1000 }, (_, i) => `10.0.${i >> 8}.${i & 255} 7 re: ${i}`),
  );
});

t.test('the host loopback is behind the alias, both ways', async (t) => {
  const { host, netstack, proxy, settle } = world();
  const { got } = await peer(host, '127.0.0.1', 7);
  proxy.udp(datagram(guest, 5000, '192.168.65.2', 7, text('x')));
  settle();
  t.equal(got.length, 1);
  t.equal(netstack.sent[0]!.from, '192.168.65.2 7');
});

for (const [alias, at, other, name] of [
  ['192.168.65.2', '127.0.0.1', '::1', guest],
  ['fd65::2', '::1', '127.0.0.1', 'fd65::3'],
] as const) {
  t.test(`a port of the host's loopback may be at either of its addresses: ${alias}`, async (t) => {
    const { host, netstack, proxy, settle } = world();
    const first = await peer(host, at, 7);
    const second = await peer(host, other, 8);
    const send = (port: number, words: string): void => proxy.udp(datagram(name, 5000, alias, port, text(words)));
    send(7, 'a');
    send(8, 'b');
    settle();
    send(8, 'c');
    settle();
    send(7, 'd');
    settle();
    t.same(
      [first, second].map(({ got }) => got.map(({ payload }) => payload)),
      [
        ['a', 'd'],
        ['b', 'c'],
      ],
    );
    t.same(
      netstack.sent.map(({ from }) => from).sort(),
      [7, 7, 8, 8].map((port) => `${alias} ${port}`),
    );
    t.same(netstack.unreachable, []);
    send(9, 'nobody');
    settle();
    t.same(netstack.unreachable, [`port ${alias} 9`]);
    await peer(host, other, 9);
    send(9, 'e');
    settle();
    t.equal(netstack.sent.length, 5, 'and found when it is there');
  });

  t.test(`a host without one of the families has the other: ${alias}`, async (t) => {
    const { host, netstack, proxy, settle } = world();
    const { bindDatagram } = host;
    host.bindDatagram = (family, handler) => {
      if ((family === 6) === at.includes(':')) {
        const socket = { owner: undefined, port: 0, send: () => false, close() {} };
        setImmediate(() => handler.failed(socket, 'EAFNOSUPPORT'));
        return socket;
      }
      return bindDatagram.call(host, family, handler);
    };
    const { got } = await peer(host, other, 7);
    proxy.udp(datagram(name, 5000, alias, 7, text('a')));
    await new Promise(setImmediate);
    settle();
    t.equal(got.length, 1);
    t.equal(netstack.sent[0]!.from, `${alias} 7`);
  });
}

t.test('what the gate denies and the host cannot send is answered', async (t) => {
  const { host, netstack, proxy, settle } = world();
  host.unreachable.add('10.0.0.9');
  proxy.udp(datagram(guest, 5000, '127.0.0.1', 7, text('x')));
  proxy.udp(datagram(guest, 5000, '192.168.65.77', 7, text('x')));
  t.equal(proxy.mappings, 0, 'and takes no mapping');
  proxy.udp(datagram(guest, 5000, '10.0.0.9', 7, text('x')));
  settle();
  t.same(netstack.unreachable, ['prohibited 127.0.0.1 7', 'host 192.168.65.77 7', 'host 10.0.0.9 7']);
});

t.test('an ICMP error is passed on about the peer that it was about', async (t) => {
  const { host, netstack, proxy, settle } = world();
  await peer(host, '10.0.0.1', 7);
  proxy.udp(datagram(guest, 5000, '192.168.65.2', 9, text('nobody listens on the host loopback')));
  proxy.udp(datagram(guest, 5000, '10.0.0.8', 9, text('nor there')));
  proxy.udp(datagram(guest, 5000, '10.0.0.1', 7, text('but here')));
  settle();
  t.same(netstack.unreachable.toSorted(), ['port 10.0.0.8 9', 'port 192.168.65.2 9']);
  t.same(
    netstack.sent.map(({ from, to }) => `${from} to ${to}`),
    [`10.0.0.1 7 to ${guest} 5000`],
  );
  t.equal(proxy.drops['host-failed'], 2);
});

t.test('what a datagram carried is quoted with every reason why it went nowhere', async (t) => {
  const { host, netstack, proxy, settle } = world();
  const bound = boundOf(host);
  proxy.udp(datagram(guest, 5000, '10.0.0.1', 7, text('nobody')));
  settle();
  proxy.udp(datagram(guest, 5000, '169.254.169.254', 80, text('denied')));
  proxy.tooBig(bound[0]!, 1300, address('10.0.0.1'), 7, Buffer.from('too big'));
  proxy.failed(bound[0]!, 'EHOSTUNREACH', address('10.0.0.1'), 7);
  t.same(netstack.quoted, ['nobody', 'denied', 'too big', '']);
});

t.test('what a router says of a datagram that is out of hops is passed on as its word', async (t) => {
  const { host, netstack, proxy, settle } = world();
  const bound = boundOf(host);
  host.blackHoles.add('10.0.0.1');
  proxy.udp(datagram(guest, 5000, '10.0.0.1', 33434, text('out of hops')));
  settle();
  const mapped = bound[0]!;
  proxy.expired(mapped, address('203.0.113.1'), address('10.0.0.1'), 33434, Buffer.from('out of hops'));
  proxy.expired(mapped, address('127.0.0.1'), address('10.0.0.1'), 33435);
  t.same(netstack.unreachable, ['expired 10.0.0.1 33434 at 203.0.113.1']);
  t.same(netstack.quoted, ['out of hops'], 'a traceroute knows its probe by what it carried');
});

t.test('nothing of link-local neighbours of the host reaches a guest', async (t) => {
  const { host, netstack, proxy, settle } = world();
  const bound = boundOf(host);
  proxy.udp(datagram(guest, 5000, '10.0.0.1', 7, text('x')));
  settle();
  netstack.unreachable.length = 0;
  const mapped = bound[0]!;
  for (const peer of [withScope(address('fe80::1'), 2), address('169.254.169.254')]) {
    proxy.received(mapped, Buffer.from('hello'), peer, 80);
    proxy.failed(mapped, 'ECONNREFUSED', peer, 80);
    proxy.tooBig(mapped, 1300, peer, 80);
  }
  proxy.expired(mapped, withScope(address('fe80::1'), 2), address('10.0.0.1'), 7);
  t.same([netstack.sent, netstack.unreachable, proxy.drops['no-name']], [[], [], 2]);
});

t.test('rules are gone through once for each peer, and again when they change', async (t) => {
  const { host, netstack, policy, proxy, settle } = world();
  const peers = [await peer(host, '10.0.0.1', 53), await peer(host, '10.0.0.2', 53)];
  policy.useRules(parsePolicyRules('allow 10.0.0.1 port 53; allow 10.0.0.2 port 53; deny any'));
  const send = (to: string, port = 53): void => proxy.udp(datagram(guest, 5000, to, port, text('x')));
  for (let i = 0; i < 5; i++) for (const to of ['10.0.0.1', '10.0.0.2']) send(to);
  settle();
  t.same(
    peers.map(({ got }) => got.length),
    [5, 5],
  );
  t.same(
    policy.report().rules.map(({ decided }) => decided),
    [1, 1, 0],
  );
  send('10.0.0.1', 54);
  send('10.0.0.3');
  t.same(netstack.unreachable, ['prohibited 10.0.0.1 54', 'prohibited 10.0.0.3 53']);
  policy.useRules(parsePolicyRules('deny 10.0.0.1'));
  send('10.0.0.1');
  send('10.0.0.2');
  settle();
  t.same(
    peers.map(({ got }) => got.length),
    [5, 6],
  );
  t.equal(proxy.drops.denied, 3);
});

t.test('clients of a published port that may not enter are dropped, also when the rules change', async (t) => {
  const { host, netstack, policy, settle, clock } = world();
  const gateways = [address('192.168.65.1'), address('fd65::1')];
  const forwarder = new PortForwarder({ host, netstack, clock, gateways, policy });
  const exposed = await forwarder.expose({
    protocol: 'udp',
    hostAddress: '127.0.0.1',
    hostPort: 8053,
    guestAddress: guest,
    guestPort: 53,
  });
  const { socket } = await peer(host, '127.0.0.1', 9000);
  const knock = (): number => {
    socket.send(text('?'), address('127.0.0.1'), 8053);
    settle();
    return netstack.sent.length;
  };
  t.equal(knock(), 1);
  policy.useRules(parsePolicyRules('deny in udp 127.0.0.0/8 port 8053'));
  t.equal(knock(), 1);
  policy.useRules([]);
  t.equal(knock(), 2);
  exposed.close();
});

t.test('an active mapping stays, an idle one goes after two minutes and more', async (t) => {
  const { host, proxy, settle, clock, policy, netstack } = world();
  const { got, socket } = await peer(host, '10.0.0.1', 53);
  proxy.udp(datagram(guest, 5000, '10.0.0.1', 53, text('up')));
  proxy.udp(datagram(guest, 5001, '10.0.0.1', 53, text('down')));
  proxy.udp(datagram(guest, 5002, '10.0.0.1', 53, text('idle')));
  settle();
  for (clock.now = 100_000; clock.now <= 400_000; clock.now += 100_000) {
    proxy.udp(datagram(guest, 5000, '10.0.0.1', 53, text('up')));
    socket.send(text('down'), address('192.0.2.1'), got[1]!.port);
    settle();
    proxy.expire();
    t.equal(proxy.mappings, clock.now < 180_000 ? 3 : 2);
  }
  t.equal(policy.held('udp', 1), 2);
  const before = netstack.sent.length;
  socket.send(text('late'), address('192.0.2.1'), got[2]!.port);
  settle();
  t.equal(netstack.sent.length, before);
  proxy.close();
  t.equal(policy.held('udp', 1), 0);
});

t.test('thousands of sources, each with its replies, up to the limit', async (t) => {
  const { host, netstack, proxy, settle, clock } = world();
  await peer(host, '10.0.0.1', 53);
  for (let port = 1; port <= 5000; port++) {
    clock.now++;
    proxy.udp(datagram(guest, port, '10.0.0.1', 53, text(`${port}`)));
    settle();
  }
  t.equal(proxy.mappings, defaultLimits.udp);
  t.same(
    netstack.sent.map(({ to, payload }) => `${to} ${payload}`),
    Array.from({ length: 5000 }, (_, i) => `${guest} ${i + 1} re: ${i + 1}`),
  );
  t.equal(proxy.flows()[0]?.guest, `${guest}:${5001 - defaultLimits.udp}`, 'the oldest have gone');
  proxy.close();
});

t.test('at the limit the one unused longest goes', async (t) => {
  const { host, netstack, proxy, settle, clock } = world({ udp: 3 });
  await peer(host, '10.0.0.1', 53);
  for (const port of [1, 2, 3]) {
    clock.now++;
    proxy.udp(datagram(guest, port, '10.0.0.1', 53, text('x')));
  }
  clock.now++;
  proxy.udp(datagram(guest, 1, '10.0.0.1', 53, text('again')));
  settle();
  proxy.udp(datagram(guest, 4, '10.0.0.1', 53, text('new')));
  t.equal(proxy.mappings, 3);
  netstack.sent.length = 0;
  for (const port of [1, 3, 4]) proxy.udp(datagram(guest, port, '10.0.0.1', 53, text('y')));
  settle();
  t.equal(netstack.sent.filter(({ payload }) => payload.toString() === 're: y').length, 3);
  t.equal(proxy.drops.limit, 0);
});

t.test('published UDP: each client has a port of the gateway, and its replies', async (t) => {
  const { host, netstack, forwarder, settle, clock } = world();
  const exposed = await forwarder.expose({
    protocol: 'udp',
    hostAddress: '0.0.0.0',
    hostPort: 5353,
    guestAddress: '172.17.0.2',
    guestPort: 53,
  });
  t.equal(exposed.port, 5353);
  const got: string[] = [];
  const clients = ['10.0.0.1', '10.0.0.2'].map((at) =>
    host.listenDatagram(at, 9, {
      received: (_, payload, from, port) => got.push(`${at} ${formatAddress(from)} ${port} ${Buffer.from(payload)}`),
      failed() {},
    }),
  );
  for (const client of clients) (await client).socket.send(text('q'), address('192.0.2.1'), 5353);
  settle();
  t.equal(netstack.sent.length, 2);
  t.same(new Set(netstack.sent.map(({ to }) => to)), new Set(['172.17.0.2 53']));
  const ports = netstack.sent.map(({ from }) => Number(from.split(' ')[1]));
  t.ok(ports.every((port) => port >= 49152));
  t.not(ports[0], ports[1]);
  for (const port of ports) {
    const receive = netstack.listeners.get(`192.168.65.1 ${port}`)!;
    receive(datagram('172.17.0.2', 54, '192.168.65.1', port, text('not from the port that was asked')));
    receive(datagram('172.17.0.2', 53, '192.168.65.1', port, text(`a${port}`)));
  }
  settle();
  t.same(got, [`10.0.0.1 192.0.2.1 5353 a${ports[0]}`, `10.0.0.2 192.0.2.1 5353 a${ports[1]}`]);
  clock.now = 200_000;
  (await clients[0]!).socket.send(text('q'), address('192.0.2.1'), 5353);
  settle();
  forwarder.expire();
  t.same([...netstack.listeners.keys()], [`192.168.65.1 ${ports[0]}`]);
  exposed.close();
  t.equal(netstack.listeners.size, 0);
});

t.test('published UDP: a guest of both families is reached by IPv6, and by IPv4 where it refuses', async (t) => {
  const { host, netstack, forwarder, settle } = world();
  const exposed = await forwarder.expose({
    protocol: 'udp',
    hostAddress: '::1',
    hostPort: 5353,
    guestAddress: guest,
    guestAddress6: 'fd65::3',
    guestPort: 53,
  });
  const got: string[] = [];
  const client = async (port: number) => {
    const { socket } = await host.listenDatagram('fd00::7', port, {
      received: (_, payload) => got.push(`${port} ${Buffer.from(payload)}`),
      failed() {},
    });
    return (words: string): void => {
      socket.send(text(words), address('::1'), 5353);
      settle();
    };
  };
  const sent = (): string[] => netstack.sent.splice(0).map(({ to, payload }) => `${to} ${Buffer.from(payload)}`);
  const early = await client(1);
  early('a');
  t.same(sent(), [`${guest} 53 a`], 'as long as nobody knows of its IPv6 address');
  netstack.neighbors.add('fd65::3');
  early('b');
  t.same(sent(), [`${guest} 53 b`], 'a client stays where it is');
  const answered = await client(2);
  answered('c');
  const { from } = netstack.sent[0]!;
  t.match(from, /^fd65::1 /);
  t.same(sent(), ['fd65::3 53 c']);
  const port = Number(from.split(' ')[1]);
  netstack.listeners.get(from)!(datagram('fd65::3', 53, 'fd65::1', port, text('c')));
  settle();
  t.same(got, ['2 c']);
  netstack.refusals.get(from)!(address('fd65::3'), 53);
  answered('d');
  t.same(sent(), ['fd65::3 53 d'], 'who has answered there is there');
  const refused = await client(3);
  refused('e');
  refused('f');
  const gateway = netstack.sent[0]!.from;
  t.same(sent(), ['fd65::3 53 e', 'fd65::3 53 f']);
  netstack.refusals.get(gateway)!(address('fd65::3'), 53);
  t.same(sent(), [`${guest} 53 e`], 'what was sent first is sent again');
  t.notOk(netstack.listeners.has(gateway));
  refused('g');
  t.same(sent(), [`${guest} 53 g`]);
  t.match(
    forwarder.flows().map(({ guest: place }) => place),
    [`${guest}:53`, '[fd65::3]:53', `${guest}:53`],
  );
  exposed.close();
  t.equal(netstack.listeners.size, 0);
});

t.test('published TCP: the guest sees the gateway, and a refusal is a reset', async (t) => {
  const { host, netstack, forwarder, policy, settle } = world();
  const request = { protocol: 'tcp', hostAddress: '127.0.0.1', guestAddress: guest, guestPort: 80 } as const;
  const exposed = await forwarder.expose({ ...request, hostPort: 0 });
  const client = new HostPeer();
  client.stream = host.connect(address('127.0.0.1'), exposed.port, client);
  settle();
  const [connection] = netstack.connected;
  t.equal(formatAddress(connection!.peerAddress), '192.168.65.1');
  t.same([formatAddress(connection!.guestAddress), connection!.guestPort], [guest, 80]);
  client.send(Buffer.from('GET /'));
  settle();
  connection!.handler!.established(connection!);
  t.equal(connection!.bytes.toString(), 'GET /', 'what came before the guest answered is not lost');
  connection!.fromGuest(Buffer.from('200'));
  settle();
  t.equal(client.bytes.toString(), '200');
  const refused = new HostPeer();
  refused.stream = host.connect(address('127.0.0.1'), exposed.port, refused);
  settle();
  netstack.connected[1]!.close('ECONNREFUSED');
  settle();
  t.equal(refused.code, 'ECONNRESET');
  await t.rejects(forwarder.expose({ ...request, hostPort: exposed.port }), {
    code: 'EADDRINUSE',
    message: `listen tcp4 127.0.0.1:${exposed.port}: bind: address already in use`,
  });
  const denied = new HostPeer();
  denied.stream = host.connect(address('127.0.0.1'), exposed.port, denied);
  settle();
  t.match(forwarder.originOf(netstack.connected[2]!), { direction: 'in', client: /^127\.0\.0\.1:\d+$/ });
  policy.useRules(parsePolicyRules('deny in 127.0.0.1'));
  forwarder.recheck();
  settle();
  t.equal(denied.code, 'ECONNRESET', 'rules that change are about clients that are there too');
  t.equal(client.code, 'ECONNRESET');
  policy.useRules([]);
  const last = new HostPeer();
  last.stream = host.connect(address('127.0.0.1'), exposed.port, last);
  settle();
  exposed.close();
  const late = new HostPeer();
  host.connect(address('127.0.0.1'), exposed.port, late);
  settle();
  t.equal(late.code, 'ECONNREFUSED');
  t.notOk(last.isClosed, 'what is under way stays');
  forwarder.close();
  settle();
  t.equal(last.code, 'ECONNRESET', 'until everything is taken back');
});

t.test('published TCP: a guest of both families is dialled by IPv6, and by IPv4 where it refuses', async (t) => {
  const { host, netstack, forwarder, settle } = world();
  await forwarder.expose({
    protocol: 'tcp',
    hostAddress: '::1',
    hostPort: 8080,
    guestAddress: guest,
    guestAddress6: 'fd65::3',
    guestPort: 80,
  });
  const visit = (): HostPeer => {
    const client = new HostPeer();
    client.stream = host.connect(address('::1'), 8080, client);
    settle();
    client.send(Buffer.from('hello'));
    settle();
    return client;
  };
  const dialled = (): string[] =>
    netstack.connected.splice(0).map((to) => `${formatAddress(to.guestAddress)} from ${formatAddress(to.peerAddress)}`);
  visit();
  t.same(dialled(), [`${guest} from 192.168.65.1`], 'as long as nobody knows of its IPv6 address');
  netstack.neighbors.add('fd65::3');
  visit();
  const answers = netstack.connected[0]!;
  answers.state = 'ESTABLISHED';
  answers.handler!.established(answers);
  t.equal(answers.bytes.toString(), 'hello');
  t.same(dialled(), ['fd65::3 from fd65::1']);
  visit();
  const refuses = netstack.connected[0]!;
  refuses.close('ECONNREFUSED');
  const second = netstack.connected[1]!;
  second.state = 'ESTABLISHED';
  second.handler!.established(second);
  t.same([refuses.bytes.toString(), second.bytes.toString()], ['', 'hello'], 'nothing is lost on the way');
  t.same(dialled(), ['fd65::3 from fd65::1', `${guest} from 192.168.65.1`]);
  const last = visit();
  for (const connection of [0, 1]) netstack.connected[connection]!.close('ECONNREFUSED');
  settle();
  t.equal(dialled().length, 2, 'and then it is refused');
  t.equal(last.code, 'ECONNRESET');
});

t.test('a wildcard of a family that the host has not is granted without a listener', async (t) => {
  const { host, forwarder } = world();
  host.listen = () => Promise.reject(Object.assign(new Error('no'), { code: 'EAFNOSUPPORT' }));
  const request = { protocol: 'tcp', hostPort: 8080, guestAddress: guest, guestPort: 80 } as const;
  t.equal((await forwarder.expose({ ...request, hostAddress: '::' })).port, 8080);
  await t.rejects(forwarder.expose({ ...request, hostAddress: '::1' }), {
    message: 'listen tcp6 [::1]:8080: bind: address family not supported by protocol',
  });
});

t.test('a datagram socket that could not be had is tried again', async (t) => {
  const { host, netstack, proxy, settle } = world();
  await peer(host, '10.0.0.1', 53);
  const bind = host.bindDatagram.bind(host);
  let closed = 0;
  host.bindDatagram = (_family, handler) => {
    const none: HostDatagramSocket = { owner: undefined, port: 0, send: () => false, close: () => closed++ };
    handler.failed(none, 'EMFILE');
    return none;
  };
  proxy.udp(datagram(guest, 5000, '10.0.0.1', 53, text('a')));
  t.same([closed, proxy.drops['host-full']], [1, 1]);
  host.bindDatagram = bind;
  proxy.udp(datagram(guest, 5000, '10.0.0.1', 53, text('b')));
  settle();
  t.equal(netstack.sent.length, 1);
});

t.test('when the policy changes, sources lose the sockets that reach whom it denies now', async (t) => {
  const { host, netstack, policy, proxy, settle } = world();
  const peers = [await peer(host, '10.0.0.1', 7), await peer(host, '10.0.0.2', 7)];
  for (const [port, to] of [
    [5000, '10.0.0.1'],
    [5000, '10.0.0.2'],
    [5001, '10.0.0.2'],
  ] as const)
    proxy.udp(datagram(guest, port, to, 7, text('a')));
  settle();
  const before = peers[0]!.got[0]!.port;
  policy.useRules(parsePolicyRules('deny 10.0.0.2 port 9; allow any'));
  proxy.recheck();
  t.equal(proxy.mappings, 2);
  proxy.udp(datagram(guest, 5000, '10.0.0.1', 7, text('a')));
  settle();
  t.equal(peers[0]!.got[1]!.port, before, 'what is allowed as before keeps its port');
  policy.useRules(parsePolicyRules('deny 10.0.0.1'));
  proxy.recheck();
  t.equal(proxy.mappings, 1);
  t.match(policy.report().denials, [{ protocol: 'udp', address: '10.0.0.1', port: 7 }]);
  netstack.sent.length = 0;
  peers[0]!.socket.send(text('late'), address('192.0.2.1'), before);
  settle();
  t.same(netstack.sent, [], 'and what its peers still send comes nowhere');
});

t.test('each source, and each client of a published port, is a flow to see', async (t) => {
  const { host, policy, proxy, forwarder, clock, settle } = world();
  await peer(host, '10.0.0.1', 7);
  policy.useRules(parsePolicyRules('allow udp 10.0.0.0/8'));
  proxy.udp(datagram(guest, 5000, '10.0.0.1', 7, text('four')));
  settle();
  clock.now = 5000;
  t.same(proxy.flows(), [
    {
      protocol: 'udp',
      direction: 'out',
      rule: 'allow udp 10.0.0.0/8',
      guest: `${guest}:5000`,
      peer: '10.0.0.1:7',
      state: 'open',
      octetsToGuest: 8,
      octetsToHost: 4,
      idleMs: 5000,
      waitsFor: 'nothing',
    },
  ]);
  const exposed = await forwarder.expose({
    protocol: 'udp',
    hostAddress: '127.0.0.1',
    hostPort: 0,
    guestAddress: guest,
    guestPort: 53,
  });
  const client = host.bindDatagram(4, { received() {}, failed() {} });
  client.send(text('query'), address('127.0.0.1'), exposed.port);
  settle();
  t.match(forwarder.flows(), [
    { protocol: 'udp', direction: 'in', client: /^127\.0\.0\.1:/, guest: `${guest}:53`, octetsToGuest: 5 },
  ]);
});
