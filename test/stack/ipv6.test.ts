/** A network with IPv6: what a guest does from its first frame to a connection, both ways. */

import t from 'tap';
import type { TcpConnection, TcpHandler, UdpDatagram } from '../../src/stack/port.ts';
import { formatAddress } from '../../src/stack/wire/address.ts';
import { macToBytes } from '../../src/stack/wire/ethernet.ts';
import { pattern } from './frames.ts';
import {
  ALIAS,
  advertisement,
  advertisements,
  concat,
  GATEWAY,
  GUEST,
  GUEST_LINK_LOCAL,
  groupMac,
  icmp6Frame,
  ip,
  LINK_LOCAL,
  linkLayer,
  PEER,
  replies6,
  solicitation,
  solicited,
  tcp6Frame,
  udp6Frame,
} from './ipv6-frames.ts';
import { address, GUEST_MAC, World } from './world.ts';

const SYN = 2;
const ACK = 16;

/** A world that has heard of the guest, with nothing sent. */
function worldOf(options: ConstructorParameters<typeof World>[0] = {}): World {
  const world = new World({ ipv6: {}, ...options });
  world.link.input([solicitation(GATEWAY)]);
  world.poll();
  world.link.take();
  return world;
}

class Owner implements TcpHandler {
  readonly octets: number[] = [];
  reason: string | undefined;
  isEstablished = false;
  established(): void {
    this.isEstablished = true;
  }
  room(): number {
    return 65_535;
  }
  received(_connection: TcpConnection, list: Parameters<TcpHandler['received']>[1]): number {
    for (let i = 0; i < list.count; i++) {
      const { arena, offset, length } = list.items[i]!;
      this.octets.push(...arena.bytes.subarray(offset, offset + length));
    }
    return list.octets;
  }
  receivedEnd(): void {}
  writable(): void {}
  closed(_connection: TcpConnection, reason: string): void {
    this.reason = reason;
  }
}

t.test('without IPv6 its frames fall, and nothing is advertised', async (t) => {
  const world = new World();
  world.link.input([solicitation(GATEWAY)]);
  world.advance(1_000_000);
  t.same(world.link.take(), []);
  t.same(world.drops(), { 'ethernet-type': 1 });
});

t.test('a link that carries less than 1280 octets has no IPv6', async (t) => {
  const world = new World({ ipv6: {}, mtu: 1279 });
  world.link.input([solicitation(GATEWAY)]);
  world.advance(1_000_000);
  t.same(world.link.take(), []);
  t.same(world.drops(), { 'ipv6-malformed': 1 });
});

t.test('a guest comes up: router, gateway and alias are found, and a ping is answered', async (t) => {
  const world = new World({ ipv6: {} });
  world.advance(100);
  t.equal(advertisements(world).length, 1);
  world.link.input([icmp6Frame(133, 0, 0, [], { from: '::', to: 'ff02::2', hopLimit: 255 })]);
  const [router] = advertisements(world);
  t.same([router!.source, router!.destination, router!.destinationMac], [LINK_LOCAL, 'ff02::1', GUEST_MAC]);
  for (const target of [LINK_LOCAL, GATEWAY, ALIAS]) {
    world.link.input([solicitation(target)]);
    const [answer] = replies6(world);
    t.same([answer!.source, answer!.destination, answer!.destinationMac], [target, GUEST, GUEST_MAC]);
    t.equal(answer!.hopLimit, 255);
    t.same(answer!.payload.subarray(4), concat([0xe0, 0, 0, 0], ip(target), linkLayer(2, 0x02_00_00_00_00_01)));
    world.link.input([icmp6Frame(128, 0, 0x0001_0002, pattern(40), { to: target })]);
    const [reply] = replies6(world);
    t.same([reply!.source, reply!.destination], [target, GUEST]);
    t.same(reply!.payload.subarray(4), concat([0, 1, 0, 2], pattern(40)));
    t.equal(reply!.payload[0], 129);
  }
  t.same(world.drops(), {});
});

t.test('what nobody claims goes to the forwarder', async (t) => {
  const world = worldOf();
  world.link.input([udp6Frame(1111, 53, pattern(100), { to: PEER })]);
  world.link.input([udp6Frame(1111, 53, pattern(100), { to: ALIAS })]);
  world.link.input([icmp6Frame(128, 0, 0x0007_0001, pattern(10), { to: PEER })]);
  t.same(world.forwarded, [
    `udp ${GUEST}:1111 > ${PEER}:53 100`,
    `udp ${GUEST}:1111 > ${ALIAS}:53 100`,
    `echo 7/1 ${GUEST}:0 > ${PEER}:0 10`,
  ]);
  t.equal(world.netstack.sendUdp(datagram(PEER, 53), pattern(200)), true);
  const [answer] = replies6(world);
  t.same([answer!.source, answer!.destination, answer!.protocol], [PEER, GUEST, 17]);
  t.same(answer!.payload.subarray(8), pattern(200));
  const echo = { guestAddress: ip(GUEST), peerAddress: ip(PEER), identifier: 7, sequence: 1 };
  t.equal(world.netstack.sendEchoReply(echo, pattern(10)), true);
  const [pong] = replies6(world);
  t.same([pong!.source, ...pong!.payload.subarray(4, 8)], [PEER, 0, 7, 0, 1]);
});

const datagram = (peer: string, port: number, guest = GUEST) => ({
  guestAddress: ip(guest),
  guestPort: 1111,
  peerAddress: ip(peer),
  peerPort: port,
});

t.test('listeners hear their address, a group, or all', async (t) => {
  const world = worldOf();
  const heard: string[] = [];
  const note = (what: string) => (got: UdpDatagram) => heard.push(`${what} ${formatAddress(got.peerAddress)}`);
  world.netstack.listenUdp(ip('ff02::1:2'), 547, note('dhcp'));
  world.netstack.listenUdp(ip(GATEWAY), 53, note('dns'));
  world.netstack.listenUdp(ip('::'), 123, note('ntp'));
  t.throws(() => world.netstack.listenUdp(ip(GATEWAY), 53, note('twice')), { code: 'EADDRINUSE' });
  world.link.input([
    udp6Frame(546, 547, pattern(4), { from: GUEST_LINK_LOCAL, to: 'ff02::1:2' }),
    udp6Frame(9, 53, pattern(4)),
    udp6Frame(9, 123, pattern(4), { to: PEER }),
    udp6Frame(9, 123, pattern(4), { to: LINK_LOCAL }),
    udp6Frame(9, 547, pattern(4), { to: 'ff05::1:3' }),
  ]);
  t.same(heard, ['dhcp ff02::1:2', `dns ${GATEWAY}`, `ntp ${PEER}`, `ntp ${LINK_LOCAL}`]);
  t.same(world.drops(), { 'udp-no-listener': 1 });
  t.equal(world.netstack.sendUdp(datagram(LINK_LOCAL, 547, GUEST_LINK_LOCAL), pattern(9)), true);
  t.equal(replies6(world)[0]!.destination, GUEST_LINK_LOCAL);
  world.netstack.unlistenUdp(ip(GATEWAY), 53);
  world.link.input([udp6Frame(9, 53, pattern(4))]);
  const [refusal] = replies6(world);
  t.same([refusal!.source, ...refusal!.payload.subarray(0, 2)], [GATEWAY, 1, 4]);
});

t.test('nothing goes from an address of one family to one of the other', async (t) => {
  const world = worldOf();
  const [ipv4, ipv6] = [address('192.168.65.3'), ip(GUEST)];
  world.netstack.pinNeighbor(ipv4, world.ingress, macToBytes(GUEST_MAC));
  for (const [guestAddress, peerAddress] of [
    [ipv4, ip(PEER)],
    [ipv6, address('10.0.0.1')],
  ] as const) {
    const ends = { guestAddress, guestPort: 1, peerAddress, peerPort: 2, ingress: world.ingress };
    t.equal(world.netstack.sendUdp(ends, pattern(8)), false);
    t.equal(world.netstack.sendEchoReply({ ...ends, identifier: 1, sequence: 1 }, pattern(8)), false);
    t.equal(world.netstack.sendTimeExceeded({ ...ends, peerAddress: guestAddress }, peerAddress), false);
  }
  t.same(replies6(world), []);
  t.same(world.drops(), { 'address-family': 6 });
});

t.test('an address that nobody knows is asked for, a datagram to it is dropped, the next arrives', async (t) => {
  const world = new World({ ipv6: {} });
  world.advance(100);
  world.link.take();
  t.equal(world.netstack.sendUdp(datagram(PEER, 53), pattern(8)), false);
  const [question] = replies6(world);
  t.same([question!.source, question!.destination], [LINK_LOCAL, solicited(GUEST)]);
  t.equal(question!.destinationMac, groupMac(solicited(GUEST)));
  t.same(question!.payload.subarray(8), concat(ip(GUEST), linkLayer(1, 0x02_00_00_00_00_01)));
  world.link.input([advertisement(GUEST)]);
  t.equal(world.netstack.sendUdp(datagram(PEER, 53), pattern(8)), true);
  t.equal(replies6(world)[0]!.destinationMac, GUEST_MAC);
});

t.test('a connection of the guest: accepted, octets both ways, refused', async (t) => {
  const world = worldOf();
  world.link.input([tcp6Frame(4000, 80, 100, 0, SYN, undefined, { to: PEER, tcpOptions: [2, 4, 5, 0xa0] })]);
  const owner = new Owner();
  t.equal(formatAddress(world.dialled[0]!.peerAddress), PEER);
  world.dialled[0]!.accept(owner);
  const [synAck] = replies6(world);
  const view = new DataView(synAck!.payload.buffer);
  t.same([synAck!.source, synAck!.destination, view.getUint16(0), view.getUint16(2)], [PEER, GUEST, 80, 4000]);
  t.equal(view.getUint32(8), 101);
  t.equal(view.getUint16(22), 1440, 'the MSS is the MTU less 60 octets');
  const next = (view.getUint32(4) + 1) >>> 0;
  world.link.input([
    tcp6Frame(4000, 80, 101, next, ACK, undefined, { to: PEER }),
    tcp6Frame(4000, 80, 101, next, ACK, pattern(100), { to: PEER }),
    tcp6Frame(4000, 80, 201, next, ACK, pattern(50), { to: PEER }),
  ]);
  t.ok(owner.isEstablished);
  t.same(owner.octets, [...pattern(100), ...pattern(50)]);
  const [connection] = world.dialled;
  t.ok(connection!.reserveSend());
  connection!.sendArena.bytes.set(pattern(3000), connection!.sendOffset);
  connection!.commitSend(3000);
  const segments = replies6(world);
  t.same(
    segments.map(({ payload }) => payload.length - 20),
    [1440, 1440, 120],
  );
  t.same(concat(...segments.map(({ payload }) => payload.subarray(20))), pattern(3000));
  t.match(world.netstack.flows(), [{ guest: `[${GUEST}]:4000`, peer: `[${PEER}]:80` }]);
  connection!.abort();
  t.equal(replies6(world)[0]!.payload[13]! & 4, 4, 'RST');
  world.link.input([tcp6Frame(4001, 81, 100, 0, SYN)]);
  t.equal(replies6(world)[0]!.payload[13], 0x14, 'nobody listens to the gateway');
  world.link.input([tcp6Frame(4002, 81, 100, 0, SYN, undefined, { to: PEER })]);
  world.dialled[1]!.reject('unreachable');
  t.same([...replies6(world)[0]!.payload.subarray(0, 2)], [1, 3]);
  world.link.input([tcp6Frame(4003, 81, 100, 0, SYN, undefined, { to: PEER })]);
  world.dialled[2]!.reject('prohibited');
  t.same([...replies6(world)[0]!.payload.subarray(0, 2)], [1, 1]);
});

t.test('a connection to the guest waits for its neighbour, and begins', async (t) => {
  const world = new World({ ipv6: {} });
  world.advance(100);
  world.link.take();
  const owner = new Owner();
  const to = { guestAddress: ip(GUEST), guestPort: 80, peerAddress: ip(GATEWAY), peerPort: 0 };
  world.netstack.connect(to, owner);
  t.equal(replies6(world)[0]!.payload[0], 135);
  world.link.input([advertisement(GUEST)]);
  const [syn] = replies6(world);
  const view = new DataView(syn!.payload.buffer);
  t.same([syn!.source, syn!.destination, syn!.payload[13]], [GATEWAY, GUEST, SYN]);
  const port = view.getUint16(0);
  world.link.input([tcp6Frame(80, port, 7, view.getUint32(4) + 1, SYN | ACK)]);
  t.ok(owner.isEstablished);
  t.throws(() => world.netstack.connect({ ...to, peerAddress: new Uint8Array(16).fill(255, 10) }, owner), {
    code: 'EAFNOSUPPORT',
  });
});

t.test('a listener inside the stack takes connections', async (t) => {
  const world = worldOf();
  const accepted: TcpConnection[] = [];
  world.netstack.listenTcp(ip(GATEWAY), 53, (connection) => accepted.push(connection));
  world.link.input([tcp6Frame(4000, 53, 100, 0, SYN)]);
  t.equal(accepted.length, 1);
  t.same(world.dialled, []);
});

t.test('leases and routes say where addresses are', async (t) => {
  const world = new World({ ipv6: {} });
  const [pinned, routed] = [0x02_00_00_00_00_77, 0x02_00_00_00_00_78];
  const router = ip('fd00:1:2:3::9');
  world.netstack.pinNeighbor(router, world.ingress, macToBytes(routed));
  world.netstack.pinNeighbor(ip(GUEST), world.ingress, macToBytes(pinned));
  world.netstack.route(ip('fd99::'), 64, router);
  world.poll();
  world.link.take();
  for (const [guest, mac] of [
    [GUEST, pinned],
    ['fd99::5', routed],
    ['fd98::5', pinned],
  ] as const) {
    t.equal(world.netstack.sendUdp(datagram(PEER, 53, guest), pattern(8)), true);
    t.equal(replies6(world)[0]!.destinationMac, mac);
  }
  world.netstack.unpinNeighbor(ip(GUEST));
  t.equal(world.netstack.sendUdp(datagram(PEER, 53), pattern(8)), false);
});

t.test('a whole segment for a link that cuts itself', async (t) => {
  const world = worldOf({ offload: { checksum: true, segmentOctets: 65535 } });
  world.link.input([tcp6Frame(4000, 80, 100, 0, SYN, undefined, { to: PEER, tcpOptions: [2, 4, 5, 0xa0] })]);
  world.dialled[0]!.accept(new Owner());
  const [synAck] = replies6(world);
  const next = new DataView(synAck!.payload.buffer).getUint32(4) + 1;
  world.link.input([tcp6Frame(4000, 80, 101, next, ACK, undefined, { to: PEER })]);
  const [connection] = world.dialled;
  t.ok(connection!.reserveSend());
  connection!.commitSend(Math.min(connection!.sendLength, 14_400));
  world.poll();
  const [frame] = world.link.take();
  t.equal(frame!.segmentOctets, 1440);
  t.same([frame!.checksumStart, frame!.checksumOffset], [54, 16]);
  t.equal(frame!.bytes.length, 74 + 14_400);
});
