/** RFC 4861, Neighbor Discovery for IP version 6, by section. */

import t from 'tap';
import { macToBytes } from '../../src/stack/wire/ethernet.ts';
import { AbsentGuest } from '../stack/absent-guest.ts';
import { pattern } from '../stack/frames.ts';
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
} from '../stack/ipv6-frames.ts';
import { TcpScript } from '../stack/tcp/tcp-script.ts';
import { address, GATEWAY_MAC, GUEST_MAC, World } from '../stack/world.ts';
import { ipv6World } from './ipv6-replies.ts';

const OTHER_MAC = 0x02_00_00_00_00_09;
/** A guest that has just answered what it was asked. */
function reachable(seed = 1): AbsentGuest {
  const guest = new AbsentGuest('IPv6', { seed });
  guest.datagram();
  guest.sees();
  guest.answers();
  guest.sees();
  return guest;
}

const router = { from: GUEST_LINK_LOCAL, to: 'ff02::2', hopLimit: 255 };
const routerSolicitation = (options = {}): Uint8Array => icmp6Frame(133, 0, 0, linkLayer(1), { ...router, ...options });

const toGuest = { guestAddress: ip(GUEST), guestPort: 1, peerAddress: ip(PEER), peerPort: 2 };
/** Where a datagram to the guest goes; undefined: nobody knows. */
function placeOf(world: World): number | undefined {
  world.poll();
  world.link.take();
  return world.netstack.sendUdp(toGuest, pattern(1)) ? replies6(world)[0]!.destinationMac : undefined;
}

t.test('4.2: an advertisement tells lifetime, hop limit, link-layer address, MTU and prefix', async (t) => {
  const world = ipv6World({ mtu: 1400 });
  world.link.input([routerSolicitation()]);
  const [message] = advertisements(world);
  t.same([message!.source, message!.destination, message!.hopLimit], [LINK_LOCAL, GUEST_LINK_LOCAL, 255]);
  t.equal(message!.destinationMac, GUEST_MAC);
  t.same(
    message!.payload.subarray(4, 64),
    concat(
      [64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0],
      linkLayer(1, GATEWAY_MAC),
      [5, 1, 0, 0, 0, 0, 0x05, 0x78],
      [3, 4, 64, 0xc0, 0, 0x27, 0x8d, 0, 0, 0x09, 0x3a, 0x80, 0, 0, 0, 0],
      ip('fd00:1:2:3::'),
    ),
  );
});

t.test('4.2: O says that there is more to ask a DHCPv6 server for, M that addresses are', async (t) => {
  for (const [dhcp, flags] of [
    [undefined, 0],
    ['information', 0x40],
    ['addresses', 0xc0],
  ] as const) {
    const world = ipv6World({ ipv6: { dhcp } });
    world.link.input([routerSolicitation()]);
    t.equal(advertisements(world)[0]!.payload[5], flags);
  }
});

t.test('6.1.1: a router solicitation from beyond the link, or malformed, is not answered', async (t) => {
  const world = ipv6World();
  world.link.input([
    routerSolicitation({ hopLimit: 254 }),
    icmp6Frame(133, 1, 0, [], router),
    icmp6Frame(133, 0, 0, [1, 0, 0, 0, 0, 0, 0, 0], router),
    icmp6Frame(133, 0, 0, [1, 2, 0, 0, 0, 0, 0, 0], router),
    icmp6Frame(133, 0, 0, linkLayer(1), { ...router, from: '::' }),
  ]);
  t.same(advertisements(world), []);
  t.same(world.drops(), { 'ndp-malformed': 5 });
});

t.test('6.2.4: a few advertisements when a link is new, then one from time to time', async (t) => {
  const world = new World({ ipv6: {} });
  world.advance(1_000);
  const [first] = advertisements(world);
  t.same([first!.destination, first!.destinationMac], ['ff02::1', groupMac('ff02::1')]);
  world.advance(40_000);
  t.equal(advertisements(world).length, 2);
  world.advance(190_000);
  t.equal(advertisements(world).length, 0);
  world.advance(3_600_000);
  const { length } = advertisements(world);
  t.ok(length >= 6 && length <= 18, `${length} an hour: 200 to 600 seconds between them`);
});

t.test('6.2.5: a last advertisement says that there is no router any more', async (t) => {
  const world = ipv6World();
  world.netstack.close();
  t.ok(world.link.flushes > 0);
  const [message, ...more] = advertisements(world);
  t.same(more, []);
  t.same([message!.destination, message!.destinationMac], ['ff02::1', groupMac('ff02::1')]);
  t.same(message!.payload.subarray(6, 8), [0, 0], 'the router lifetime');
  t.same(message!.payload.subarray(64, 72), [25, 3, 0, 0, 0, 0, 0, 0], 'nor are there name servers');
  world.advance(3_600_000);
  t.same(advertisements(world), []);
  const host = ipv6World({ ipv6: { isRouter: false } });
  host.netstack.close();
  t.same(advertisements(host), []);
});

t.test('6.2.6: whoever asks is answered, without an address too', async (t) => {
  const world = ipv6World();
  world.link.input([icmp6Frame(133, 0, 0, [], { ...router, from: '::' })]);
  const [message] = advertisements(world);
  t.same([message!.destination, message!.destinationMac], ['ff02::1', GUEST_MAC], 'RFC 6085');
});

t.test('6.1.2: guests are no routers', async (t) => {
  const world = ipv6World();
  const advert = concat([64, 0, 7, 8], new Uint8Array(8)).subarray(4);
  world.link.input([icmp6Frame(134, 0, 0x40000708, advert, { ...router, to: 'ff02::1' })]);
  t.same(world.drops(), { 'ndp-source': 1 });
});

t.test('7.1.1: a solicitation from beyond the link, in a fragment, or malformed, is not answered', async (t) => {
  const world = ipv6World();
  const body = concat(ip(GATEWAY), linkLayer(1));
  const to = { to: solicited(GATEWAY), hopLimit: 255 };
  world.link.input([
    solicitation(GATEWAY, { hopLimit: 64 }),
    icmp6Frame(135, 1, 0, body, to),
    icmp6Frame(135, 0, 0, body.subarray(0, 12), to),
    icmp6Frame(135, 0, 0, concat(ip(GATEWAY), [1, 0, 0, 0, 0, 0, 0, 0]), to),
    icmp6Frame(135, 0, 0, concat(ip('ff02::1'), linkLayer(1)), { ...to, to: 'ff02::1' }),
    solicitation(GATEWAY, { from: '::', option: linkLayer(1) }),
    solicitation(GATEWAY, { from: '::', to: GATEWAY, option: [] }),
  ]);
  t.same(replies6(world), []);
  t.same(world.drops(), { 'ndp-malformed': 7 });
});

t.test('7.2.2: who is not known is asked for, of the solicited-node group, once a second', async (t) => {
  const world = new World({ ipv6: {} });
  world.advance(40_000);
  world.link.take();
  for (let i = 0; i < 5; i++) world.netstack.sendUdp(toGuest, pattern(1));
  const [question, ...more] = replies6(world);
  t.same(more, []);
  t.same([question!.source, question!.destination, question!.hopLimit], [LINK_LOCAL, solicited(GUEST), 255]);
  t.same(
    question!.payload,
    concat([135, 0], question!.payload.subarray(2, 4), [0, 0, 0, 0], ip(GUEST), linkLayer(1, GATEWAY_MAC)),
  );
  world.advance(1_001);
  world.netstack.sendUdp(toGuest, pattern(1));
  t.equal(replies6(world).length, 1);
});

t.test('7.2.2: after three solicitations the address is unreachable, for those who wait', async (t) => {
  const guest = new AbsentGuest('IPv6');
  const owner = guest.connect();
  guest.datagram();
  t.same(guest.sees(), [`who has ${GUEST}`]);
  t.equal(guest.seesWithin(10).length, 2);
  t.same(owner.take(), ['closed EHOSTUNREACH']);
  t.equal(guest.world.drops()['no-neighbour'], 1);
});

t.test('7.2.2: a packet waits for the answer', async (t) => {
  const guest = new AbsentGuest('IPv6');
  guest.datagram(7);
  guest.sees();
  guest.answers();
  t.same(guest.sees(), ['to 3: 7']);
});

t.test('7.2.3: who asks for the gateway is known from then on', async (t) => {
  const world = new World({ ipv6: {} });
  world.link.input([solicitation(GATEWAY)]);
  t.equal(placeOf(world), GUEST_MAC);
});

t.test('7.2.4: the gateway answers for its own addresses, and for no others', async (t) => {
  const world = ipv6World();
  for (const target of [LINK_LOCAL, GATEWAY, ALIAS]) {
    world.link.input([solicitation(target)]);
    const [answer] = replies6(world);
    t.same([answer!.source, answer!.destination, answer!.destinationMac], [target, GUEST, GUEST_MAC]);
    t.equal(answer!.payload[4], 0xe0, 'router, solicited, override');
    t.same(answer!.payload.subarray(8), concat(ip(target), linkLayer(2, GATEWAY_MAC)));
  }
  for (const target of ['fd00:1:2:3::99', 'fe80::99', PEER])
    world.link.input([solicitation(target, { to: solicited(GATEWAY) })]);
  t.same(replies6(world), []);
});

t.test('7.2.5: an advertisement that nobody asked for makes no entry', async (t) => {
  const world = new World({ ipv6: {} });
  world.link.input([advertisement(GUEST, { from: GUEST_LINK_LOCAL })]);
  t.equal(placeOf(world), undefined);
  world.link.input([advertisement(GUEST, { from: GUEST_LINK_LOCAL })]);
  t.equal(placeOf(world), GUEST_MAC, 'now somebody has');
});

t.test('7.2.5: without the override flag what is known stays', async (t) => {
  const world = new World({ ipv6: {} });
  world.netstack.sendUdp(toGuest, pattern(1));
  world.link.input([advertisement(GUEST, { from: GUEST_LINK_LOCAL })]);
  const moved = { from: 'fe80::9', sourceMac: OTHER_MAC };
  const told = (flags: number) =>
    icmp6Frame(136, 0, flags, concat(ip(GUEST), linkLayer(2, OTHER_MAC)), { ...moved, to: LINK_LOCAL, hopLimit: 255 });
  world.link.input([told(0x4000_0000)]);
  t.equal(placeOf(world), GUEST_MAC);
  world.link.input([told(0x6000_0000)]);
  t.equal(placeOf(world), OTHER_MAC);
});

t.test('7.2.5: an advertisement without the override flag makes what is known doubtful', async (t) => {
  const guest = reachable();
  guest.answers(OTHER_MAC, 0x4000_0000);
  guest.datagram();
  t.same(guest.sees(), ['to 3: 1']);
  t.same(guest.seesWithin(5), [[5, `to 3: who has ${GUEST}`]]);
});

t.test('7.2.5: an advertisement that was not solicited confirms nothing', async (t) => {
  const guest = new AbsentGuest('IPv6');
  guest.speaks();
  guest.answers(GUEST_MAC, 0x2000_0000);
  guest.datagram();
  t.equal(guest.seesWithin(5).length, 2, 'the datagram and a probe');
});

t.test('7.3.1: what TCP acknowledges confirms that the guest hears us', async (t) => {
  for (const acknowledges of [true, false]) {
    const s = new TcpScript(t, { isSilent: true });
    s.establish();
    s.world.advance(60_000);
    s.world.netstack.sendUdp(
      { guestAddress: address(s.guest), guestPort: 1, peerAddress: address(s.peer), peerPort: 2 },
      pattern(1),
    );
    s.write(10);
    s.world.advance(1_000);
    if (acknowledges) s.guestSends('. 1:1(0) ack 11');
    s.world.advance(3_990);
    // What is only sent confirms nothing.
    s.flight(10);
    s.world.advance(10);
    const probes = s.world.link.take().filter(({ bytes }) => bytes[13] === 6);
    t.equal(probes.length, acknowledges ? 0 : 1);
  }
});

t.test('7.3.2: an answer is good for 15 to 45 seconds, for another time each time', async (t) => {
  const times = new Set<number>();
  for (let i = 1; i <= 20; i++) {
    const seed = i * 0x9e37_79b9;
    const { world } = reachable(seed);
    const begin = world.nowMs;
    // One timer is armed: for as long as the answer is good.
    for (let at = world.netstack.pollAt(); at < Number.POSITIVE_INFINITY; at = world.netstack.pollAt()) {
      world.nowMs = Math.max(world.nowMs, at);
      world.poll();
    }
    const at = world.nowMs - begin;
    t.ok(at >= 15_000 && at <= 45_000, `${at} ms`);
    times.add(Math.round(at / 100));
  }
  t.ok(times.size > 10);
});

t.test('7.3.3: what is doubtful is used, and asked for itself after 5 seconds', async (t) => {
  const guest = reachable();
  guest.datagram();
  t.same(guest.seesWithin(14), [[1, 'to 3: 1']]);
  guest.world.advance(40_000);
  guest.datagram();
  t.same(guest.seesWithin(5), [
    [1, 'to 3: 1'],
    [5, `to 3: who has ${GUEST}`],
  ]);
  guest.answers();
  t.same(guest.seesWithin(14), []);
});

t.test('7.3.3: a probe comes from the router, and has its link-layer address', async (t) => {
  const guest = new AbsentGuest('IPv6');
  guest.speaks();
  guest.datagram();
  guest.sees();
  guest.world.advance(5_000);
  const [probe] = replies6(guest.world);
  t.same([probe!.source, probe!.destination, probe!.hopLimit], [LINK_LOCAL, GUEST, 255]);
  t.same(probe!.payload.subarray(8), concat(ip(GUEST), linkLayer(1, GATEWAY_MAC)));
});

t.test('7.3.3: after three probes the entry goes, and the address is asked for', async (t) => {
  const guest = new AbsentGuest('IPv6');
  guest.speaks();
  guest.datagram();
  guest.sees();
  const probe = `to 3: who has ${GUEST}`;
  t.same(guest.seesWithin(8), [
    [5, probe],
    [6, probe],
    [7, probe],
    [8, `who has ${GUEST}`],
  ]);
  t.notOk(guest.datagram());
  guest.answers(OTHER_MAC);
  t.same(guest.sees(), ['to 9: 1']);
});

t.test('7.1.2: an advertisement to all says that it was not asked for', async (t) => {
  const world = ipv6World();
  world.link.input([advertisement(GUEST, { to: 'ff02::1' }), advertisement(GUEST, { hopLimit: 254 })]);
  t.same(world.drops(), { 'ndp-malformed': 2 });
});

t.test(
  '11.1: a guest speaks for itself alone: its MAC address is the frame’s, and the gateway’s addresses are not its',
  async (t) => {
    const world = ipv6World();
    world.link.input([
      solicitation(GATEWAY, { option: linkLayer(1, OTHER_MAC) }),
      advertisement(GATEWAY, { from: GUEST }),
      advertisement(ALIAS, { from: GUEST }),
    ]);
    t.same(replies6(world), []);
    t.same(world.drops(), { 'ndp-source': 3 });
    t.equal(placeOf(world), GUEST_MAC);
  },
);

t.test('11.1: what a lease pins stays where it is', async (t) => {
  const world = new World({ ipv6: {} });
  const elsewhere = world.netstack.attach(new World().link);
  world.netstack.pinNeighbor(ip(GUEST), world.ingress, macToBytes(OTHER_MAC));
  t.equal(placeOf(world), OTHER_MAC);
  t.ok(elsewhere > world.ingress);
});

t.test('5.1: entries are bounded, the oldest go', async (t) => {
  const world = new World({ ipv6: {} });
  world.netstack.pinNeighbor(ip('fd00:1:2:3::aaaa'), world.ingress, macToBytes(OTHER_MAC));
  for (let i = 0; i < 3000; i++)
    world.link.input([solicitation(GATEWAY, { from: `fd00:1:2:3:1::${(i + 1).toString(16)}` })]);
  world.poll();
  world.link.take();
  const to = (guest: string) => ({ ...toGuest, guestAddress: ip(guest) });
  t.equal(world.netstack.sendUdp(to('fd00:1:2:3:1::1'), pattern(1)), false);
  t.equal(world.netstack.sendUdp(to(`fd00:1:2:3:1::${(3000).toString(16)}`), pattern(1)), true);
  t.equal(world.netstack.sendUdp(to('fd00:1:2:3::aaaa'), pattern(1)), true, 'but for those of leases');
});
