/** RFC 4443, Internet Control Message Protocol (ICMPv6), by section. */

import t from 'tap';
import { formatAddress } from '../../src/stack/wire/address.ts';
import { pattern } from '../stack/frames.ts';
import {
  ALIAS,
  concat,
  GATEWAY,
  GUEST,
  GUEST_LINK_LOCAL,
  groupMac,
  icmp6Bytes,
  icmp6Frame,
  ip,
  ipv6Frame,
  LINK_LOCAL,
  PEER,
  replies6,
  tcp6Frame,
  udp6Frame,
} from '../stack/ipv6-frames.ts';
import type { World } from '../stack/world.ts';
import { ipv6World } from './ipv6-replies.ts';

const kinds = ['network', 'prohibited', 'host', 'port', 'too-big'] as const;

t.test('2.2: an error about an address of ours comes from it, others from the gateway', async (t) => {
  const world = ipv6World();
  world.link.input([udp6Frame(1, 9, pattern(8), { from: GUEST, to: LINK_LOCAL })]);
  world.link.input([udp6Frame(1, 9, pattern(8), { to: PEER, hopLimit: 1 })]);
  t.same(
    replies6(world).map(({ source, payload }) => [source, payload[0], payload[1]]),
    [
      [LINK_LOCAL, 1, 4],
      [GATEWAY, 3, 0],
    ],
  );
});

t.test('2.3: a checksum of header, payload and pseudo-header', async (t) => {
  const world = ipv6World();
  const wrong = icmp6Frame(128, 0, 1, pattern(5));
  wrong[60]! ^= 1;
  const elsewhere = icmp6Frame(128, 0, 1, pattern(5), { to: ALIAS });
  elsewhere.set(ip(GATEWAY), 38);
  world.link.input([wrong, elsewhere]);
  t.same(replies6(world), []);
  t.same(world.drops(), { 'icmp-checksum': 2 });
});

t.test('2.4: an error quotes as much as fits into 1280 octets', async (t) => {
  const world = ipv6World();
  world.link.input([udp6Frame(1, 9, pattern(1400), { to: PEER, hopLimit: 1 })], undefined, 256);
  const frame = udp6Frame(1, 9, pattern(1400), { to: PEER, hopLimit: 1 });
  const [error] = replies6(world);
  t.equal(error!.payload.length, 1240);
  t.same(error!.payload.subarray(8), frame.subarray(14, 14 + 1232));
});

t.test('2.4: no error about an error, a redirect, a multicast, or a source that is not one host', async (t) => {
  const world = ipv6World();
  const quoted = pattern(48);
  world.link.input([
    icmp6Frame(1, 0, 0, quoted, { to: PEER, hopLimit: 1 }),
    icmp6Frame(137, 0, 0, pattern(32), { to: PEER, hopLimit: 1 }),
    udp6Frame(1, 9, pattern(8), { from: GUEST_LINK_LOCAL, to: 'ff02::1' }),
    udp6Frame(1, 9, pattern(8), { destinationMac: groupMac('ff02::1') }),
    udp6Frame(1, 9, pattern(8), { from: '::', to: GATEWAY }),
    udp6Frame(1, 9, pattern(8), { from: 'ff02::5', to: GATEWAY }),
  ]);
  t.same(replies6(world), []);
});

t.test('2.4: whoever sent a datagram hears that it was refused', async (t) => {
  const world = ipv6World();
  const told: string[] = [];
  world.netstack.listenUdp(ip(GATEWAY), 53, t.fail, (guest, port) => told.push(`${formatAddress(guest)} ${port}`));
  const quote = (port: number): Uint8Array => udp6Frame(port, 7, pattern(8), { from: GATEWAY, to: GUEST }).subarray(14);
  world.link.input([icmp6Frame(1, 4, 0, quote(53)), icmp6Frame(1, 3, 0, quote(53)), icmp6Frame(1, 4, 0, quote(54))]);
  t.same(told, [`${GUEST} 7`, `${GUEST} 7`]);
  t.same(world.drops(), { 'icmp-type': 1 });
});

t.test('2.4: errors are limited', async (t) => {
  const world = ipv6World();
  for (let i = 0; i < 1000; i++) world.link.input([udp6Frame(1, 9, pattern(8), { to: PEER, hopLimit: 1 })]);
  const { length } = replies6(world);
  t.equal(length, 200);
  t.equal(world.drops()['icmp-rate'], 800);
  world.advance(1000);
  world.link.input([udp6Frame(1, 9, pattern(8), { to: PEER, hopLimit: 1 })]);
  t.equal(replies6(world).length, 1);
});

t.test('3.1, 3.2: why a datagram or an echo request went nowhere', async (t) => {
  for (const [i, kind] of kinds.entries()) {
    const world: World = ipv6World({
      forwarder: {
        udp: (datagram) => world.netstack.sendUnreachable(kind, datagram, 1300),
        echo: (request) => world.netstack.sendUnreachable(kind, request, 1300),
      },
    });
    world.link.input([udp6Frame(111, 222, pattern(8), { to: PEER })]);
    world.link.input([icmp6Frame(128, 0, 0x0007_0009, pattern(8), { to: PEER })]);
    const [datagram, echo] = replies6(world);
    const wanted = kind === 'too-big' ? [2, 0] : [1, [0, 1, 3, 4][i]!];
    for (const [error, protocol] of [
      [datagram!, 17],
      [echo!, 58],
    ] as const) {
      const view = new DataView(error.payload.buffer, error.payload.byteOffset);
      t.same([...error.payload.subarray(0, 2)], wanted);
      t.equal(view.getUint32(4), kind === 'too-big' ? 1300 : 0);
      t.equal(error.source, kind === 'port' ? PEER : GATEWAY);
      t.same(error.payload.subarray(16, 48), concat(ip(GUEST), ip(PEER)));
      t.equal(error.payload[14], protocol);
    }
    t.same([...datagram!.payload.subarray(48, 52)], [0, 111, 0, 222]);
    t.same(echo!.payload.subarray(48), icmp6Bytes(128, 0, 0x0007_0009, pattern(8), { to: PEER }));
  }
});

t.test('3.1: beyond the scope of the source’s address', async (t) => {
  const world = ipv6World();
  world.link.input([udp6Frame(1, 9, pattern(8), { from: GUEST_LINK_LOCAL, to: PEER })]);
  const [error] = replies6(world);
  t.same([error!.source, ...error!.payload.subarray(0, 2)], [LINK_LOCAL, 1, 2]);
  t.same(world.forwarded, []);
});

t.test('3.3: a router further on where hops ran out', async (t) => {
  const world: World = ipv6World({
    forwarder: { udp: (datagram) => world.netstack.sendTimeExceeded(datagram, ip('2001:db8::99')) },
  });
  world.link.input([udp6Frame(111, 222, pattern(8), { to: PEER, hopLimit: 3 })]);
  const [error] = replies6(world);
  t.same([error!.source, ...error!.payload.subarray(0, 2)], ['2001:db8::99', 3, 0]);
});

t.test('2.4: as much is quoted of what is no longer at hand, made anew as it was', async (t) => {
  const world: World = ipv6World({
    forwarder: {
      udp: (datagram) => world.netstack.sendTimeExceeded(datagram, ip('2001:db8::99')),
      echo: (request) => world.netstack.sendUnreachable('host', request),
    },
  });
  for (const octets of [0, 1, 9, 1183, 1184, 1185, 1400]) {
    const sent = [
      udp6Frame(111, 222, pattern(octets), { to: PEER, hopLimit: 1 }),
      icmp6Frame(128, 0, 0x0007_0009, pattern(octets), { to: PEER }),
    ];
    // The frames' headers alone are contiguous: payloads come in pieces.
    for (const frame of [sent[0]!.with(21, 9), sent[1]!]) world.link.input([frame], undefined, 80);
    for (const [i, { payload }] of replies6(world).entries()) {
      const quoted = sent[i]!.subarray(14, 14 + 1232);
      // Of what is not quoted whole, the sum is not known.
      if (octets > 1184) quoted.fill(0, i === 0 ? 46 : 42, i === 0 ? 48 : 44);
      t.equal(payload.length, 8 + Math.min(48 + octets, 1232));
      t.same(payload.subarray(8).with(7, 0), quoted.with(7, 0), `${octets} octets`);
    }
  }
});

t.test('3.1: an error of the guest about a SYN of ours ends the opening', async (t) => {
  for (const [code, reason] of [
    [4, 'ECONNREFUSED'],
    [0, 'EHOSTUNREACH'],
  ] as const) {
    const world = ipv6World();
    let closed = '';
    const quiet = { established() {}, room: () => 0, received: () => 0, receivedEnd() {}, writable() {} };
    const to = { guestAddress: ip(GUEST), guestPort: 80, peerAddress: ip(PEER), peerPort: 1234 };
    world.netstack.connect(to, { ...quiet, closed: (_connection, why) => (closed = why) });
    world.poll();
    const syn = world.link.take().at(-1)!.bytes.subarray(14);
    const other = syn.slice();
    other[44]! ^= 1;
    world.link.input([icmp6Frame(1, code, 0, other)]);
    t.equal(closed, '', 'RFC 5927: about what is not in flight');
    world.link.input([icmp6Frame(1, code, 0, syn)]);
    t.equal(closed, reason);
  }
});

t.test('4.1, 4.2: echo requests to the gateway are answered with what they carry, from where they went', async (t) => {
  const world = ipv6World();
  for (const to of [GATEWAY, ALIAS, LINK_LOCAL])
    for (const octets of [0, 1, 1400]) {
      world.link.input([icmp6Frame(128, 0, 0x1234_0001, pattern(octets), { to })], undefined, 80);
      const [reply] = replies6(world);
      t.same([reply!.source, reply!.destination], [to, GUEST]);
      t.same(
        concat(reply!.payload.subarray(0, 2), reply!.payload.subarray(4)),
        concat([129, 0, 0x12, 0x34, 0, 1], pattern(octets)),
      );
    }
});

t.test('4.2: an echo request to a group has no answer', async (t) => {
  const world = ipv6World();
  world.link.input([icmp6Frame(128, 0, 1, pattern(8), { to: 'ff02::1' })]);
  t.same(replies6(world), []);
});

t.test('5.2: sources that no guest can have', async (t) => {
  const world = ipv6World();
  const sources = ['::1', '::ffff:127.0.0.1', '::127.0.0.1', 'ff02::1', GATEWAY, ALIAS, LINK_LOCAL];
  for (const from of sources) world.link.input([udp6Frame(1, 2, pattern(8), { from, to: PEER })]);
  t.same(world.drops(), { 'ipv6-source': sources.length });
  const nowhere = ['::', '::1', '::ffff:127.0.0.1', '::127.0.0.1', 'fe80::99', 'ff02::fb'];
  for (const to of nowhere)
    world.link.input([udp6Frame(1, 2, pattern(8), { to }), tcp6Frame(1, 2, 3, 0, 2, undefined, { to })]);
  t.equal(world.drops()['ipv6-destination'], 2 * nowhere.length);
  t.same(world.forwarded, []);
  t.same(world.dialled, []);
  world.link.input([ipv6Frame(58, pattern(3))]);
  t.equal(world.drops()['icmp-malformed'], 1);
});
