/** RFC 8200, Internet Protocol, Version 6, by section. */

import t from 'tap';
import { pattern } from '../stack/frames.ts';
import {
  concat,
  GATEWAY,
  GUEST,
  type Ipv6Options,
  icmp6Bytes,
  icmp6Frame,
  ip,
  ipv6Frame,
  PEER,
  readIpv6,
  replies6,
  udp6Bytes,
  udp6Frame,
} from '../stack/ipv6-frames.ts';
import { ipv6World, problems } from './ipv6-replies.ts';

const DATAGRAM = udp6Bytes(1, 2, pattern(16), { to: PEER });
const chained = (first: number, bytes: readonly number[], options: Ipv6Options = {}): Uint8Array =>
  ipv6Frame(17, udp6Bytes(1, 2, pattern(16), { to: PEER, ...options }), {
    to: PEER,
    chain: { first, bytes: Uint8Array.from(bytes) },
    ...options,
  });

t.test('3: version 6, and a payload length that is there; octets behind it are padding', async (t) => {
  const world = ipv6World();
  const other = udp6Frame(1, 2, pattern(16), { to: PEER });
  other[14] = 0x40;
  const long = udp6Frame(1, 2, pattern(16), { to: PEER });
  long[19]!++;
  world.link.input([other, long, other.slice(0, 53)]);
  t.same(world.drops(), { 'ipv6-malformed': 3 });
  world.link.input([concat(udp6Frame(1, 2, pattern(16), { to: PEER }), [1, 2, 3])]);
  t.same(world.payloads, [pattern(16)]);
});

t.test('3: a packet out of hops is dropped, and its source told, unless it is for the gateway itself', async (t) => {
  const world = ipv6World();
  for (const hopLimit of [0, 1]) {
    world.link.input([udp6Frame(1, 2, pattern(16), { to: PEER, hopLimit })]);
    const [error] = replies6(world);
    t.same([error!.source, ...error!.payload.subarray(0, 2)], [GATEWAY, 3, 0]);
  }
  world.link.input([icmp6Frame(128, 0, 1, [], { hopLimit: 1 })]);
  t.equal(replies6(world)[0]!.payload[0], 129);
  t.same(world.forwarded, []);
});

t.test('4: extension headers are passed over, whatever their order', async (t) => {
  const world = ipv6World();
  world.link.input([
    chained(0, [60, 0, 1, 4, 0, 0, 0, 0, 43, 0, 1, 4, 0, 0, 0, 0, 17, 0, 4, 0, 0, 0, 0, 0]),
    chained(60, [60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0]),
  ]);
  t.same(world.payloads, [pattern(16), pattern(16)]);
});

t.test('4: a next header that is not known, or hop-by-hop options that come late', async (t) => {
  const world = ipv6World();
  world.link.input([ipv6Frame(132, pattern(20), { to: PEER })]);
  world.link.input([ipv6Frame(132, pattern(20), { chain: { first: 60, bytes: concat([132, 0, 1, 4, 0, 0, 0, 0]) } })]);
  world.link.input([chained(60, [0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0])]);
  t.same(problems(world), [
    [1, 6],
    [1, 40],
    [1, 40],
  ]);
  t.same(world.forwarded, []);
});

t.test('4.2: options that are not known say what is to be done', async (t) => {
  const world = ipv6World();
  const option = (type: number, options: Ipv6Options = {}) => chained(60, [17, 0, type, 4, 0, 0, 0, 0], options);
  world.link.input([option(0x1e)]);
  t.equal(world.forwarded.length, 1, '00: skip');
  world.link.input([option(0x5e)]);
  t.same(replies6(world), [], '01: discard');
  world.link.input([option(0x9e), option(0xde)]);
  t.same(
    problems(world),
    [
      [2, 42],
      [2, 42],
    ],
    '10 and 11: say so',
  );
  world.netstack.listenUdp(ip('ff02::1:2'), 2, () => t.fail('not delivered'));
  world.link.input([option(0x9e, { to: 'ff02::1:2' }), option(0xde, { to: 'ff02::1:2' })]);
  t.same(problems(world), [[2, 42]], '11: not of a multicast');
  t.equal(world.forwarded.length, 1);
});

t.test('4.4: a routing header that is not used up is a problem; one that is, is passed over', async (t) => {
  const world = ipv6World();
  world.link.input([chained(43, [17, 0, 0, 0, 0, 0, 0, 0]), chained(43, [17, 0, 99, 1, 0, 0, 0, 0])]);
  t.equal(world.forwarded.length, 1);
  t.same(problems(world), [[0, 42]]);
});

/** A fragment of what IPv6 carries. */
const fragment = (
  whole: Uint8Array,
  begin: number,
  end: number,
  options: Ipv6Options & { readonly next?: number; readonly more?: boolean } = {},
): Uint8Array => {
  const more = options.more ?? end < whole.length;
  const { identification = 1, next = 17 } = options;
  const field = begin | (more ? 1 : 0);
  const header = [next, 0, field >> 8, field & 0xff, 0, 0, identification >> 8, identification & 0xff];
  return ipv6Frame(next, whole.subarray(begin, end), {
    to: PEER,
    ...options,
    chain: { first: 44, bytes: Uint8Array.from(header) },
  });
};

const whole = udp6Bytes(1, 2, pattern(3000), { to: PEER });

t.test('4.5: fragments are put together, in whatever order they come', async (t) => {
  const world = ipv6World();
  const pieces = [fragment(whole, 0, 1000), fragment(whole, 1000, 2000), fragment(whole, 2000, 3008)];
  for (const order of [
    [0, 1, 2],
    [2, 1, 0],
    [1, 2, 0],
  ])
    for (const piece of order) world.link.input([pieces[piece]!]);
  t.same(world.payloads, [pattern(3000), pattern(3000), pattern(3000)]);
  t.match(world.forwarded[0], `udp ${GUEST}:1 > ${PEER}:2 3000`);
});

t.test('4.5: headers before the fragment header are the first fragment’s', async (t) => {
  const world = ipv6World();
  const first = fragment(whole, 0, 2000);
  const options = [44, 0, 1, 4, 0, 0, 0, 0];
  const behind = concat(first.subarray(0, 54), options, first.subarray(54));
  behind[20] = 60;
  behind[19] = (first.length - 54 + 8) & 0xff;
  behind[18] = (first.length - 54 + 8) >> 8;
  world.link.input([fragment(whole, 2000, 3008), behind]);
  t.same(world.payloads, [pattern(3000)]);
});

t.test('4.5: of other addresses or another identification are others', async (t) => {
  const world = ipv6World();
  world.link.input([
    fragment(whole, 0, 2000),
    fragment(whole, 2000, 3008, { identification: 2 }),
    fragment(whole, 2000, 3008, { from: 'fd00:1:2:3::4' }),
    fragment(whole, 2000, 3008, { to: '2001:db8::2' }),
  ]);
  t.same(world.payloads, []);
  world.link.input([fragment(whole, 2000, 3008)]);
  t.equal(world.payloads.length, 1);
});

t.test('4.5: lengths that are no multiple of 8, and packets beyond 65535 octets, are problems', async (t) => {
  const world = ipv6World();
  world.link.input([fragment(whole, 0, 1001)]);
  world.link.input([fragment(whole.subarray(0, 1000), 0, 1000, { more: true })]);
  const beyond = fragment(whole, 0, 1000);
  new DataView(beyond.buffer).setUint16(56, 0xfff8);
  world.link.input([beyond]);
  t.same(problems(world), [
    [0, 4],
    [0, 42],
  ]);
});

t.test('4.5: the first fragment has all headers', async (t) => {
  const world = ipv6World();
  world.link.input([fragment(whole, 0, 0, { more: true })]);
  world.link.input([fragment(concat([17, 0, 1, 4, 0, 0, 0, 0], whole), 0, 8, { next: 60 })]);
  t.same(problems(world), [
    [3, 0],
    [3, 0],
  ]);
});

t.test(
  '4.5: what is not complete after 60 seconds is dropped, and where the first is here its source told',
  async (t) => {
    const world = ipv6World();
    world.link.input([fragment(whole, 0, 1000), fragment(whole, 2000, 3008, { identification: 2 })]);
    world.advance(59_000);
    t.same(replies6(world), []);
    world.advance(2_000);
    const errors = replies6(world);
    t.equal(errors.length, 1);
    t.same([...errors[0]!.payload.subarray(0, 2)], [3, 1]);
    t.same(world.drops(), { 'fragment-timeout': 2 });
  },
);

t.test('4.5: the stack cuts at the source what is larger than the link carries', async (t) => {
  const world = ipv6World();
  const to = { guestAddress: ip(GUEST), guestPort: 1, peerAddress: ip(PEER), peerPort: 2 };
  t.equal(world.netstack.sendUdp(to, pattern(4000)), true);
  world.poll();
  const frames = world.link.take().map(({ bytes }) => bytes);
  t.ok(frames.every((frame) => frame.length <= 1514));
  const back: Uint8Array[] = [];
  for (const frame of frames) {
    const { protocol, payload } = readIpv6(frame);
    t.equal(protocol, 44);
    back.push(payload.subarray(8));
  }
  t.same(concat(...back).subarray(8), pattern(4000));
});

t.test('4.7: nothing follows no next header', async (t) => {
  const world = ipv6World();
  world.link.input([ipv6Frame(59, pattern(8), { to: PEER })]);
  t.same(replies6(world), []);
  t.same(world.drops(), { 'ipv6-protocol': 1 });
});

t.test('5: fragments of a packet of 1500 octets are taken, and of much larger ones', async (t) => {
  const world = ipv6World();
  const large = udp6Bytes(1, 2, pattern(65527), { to: PEER });
  for (let at = 0; at < large.length; at += 1400)
    world.link.input([fragment(large, at, Math.min(large.length, at + 1400))]);
  t.same(world.payloads, [pattern(65527)]);
});

t.test('8.1: UDP has a checksum, of a pseudo-header with the addresses', async (t) => {
  const world = ipv6World();
  const none = udp6Frame(1, 2, pattern(16), { to: PEER });
  none[60] = none[61] = 0;
  const wrong = ipv6Frame(17, DATAGRAM, { to: '2001:db8::2' });
  world.link.input([none, wrong]);
  t.same(world.drops(), { 'udp-checksum': 2 });
  t.same(world.forwarded, []);
});

t.test('8.2: a hop limit for packets of our own', async (t) => {
  const world = ipv6World();
  world.link.input([ipv6Frame(58, icmp6Bytes(128, 0, 1, []))]);
  t.equal(replies6(world)[0]!.hopLimit, 64);
});
