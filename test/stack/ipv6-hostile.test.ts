/**
 * Hostile guests in IPv6: random octets, sound packets with octets changed, extension headers, fragments and neighbour
 * discovery at random. Nothing throws, nothing loops, what is sent is sound, and memory stays within its limits.
 */

import fc from 'fast-check';
import t from 'tap';
import { ethernetFrame, pattern } from './frames.ts';
import {
  ALIAS,
  advertisement,
  concat,
  GATEWAY,
  GUEST,
  GUEST_LINK_LOCAL,
  icmp6Frame,
  ipv6Frame,
  linkLayer,
  PEER,
  readIpv6,
  solicitation,
  tcp6Frame,
  udp6Frame,
} from './ipv6-frames.ts';
import { assertRecorded } from './recorded-stack.ts';
import { World } from './world.ts';

const quiet = {
  established() {},
  room: () => 65_535,
  received: (_connection: unknown, list: { octets: number }) => list.octets,
  receivedEnd() {},
  writable() {},
  closed() {},
};

function settle(world: World): void {
  for (const connection of world.dialled) connection.accept(quiet);
  for (let i = 0; i < 8; i++) {
    world.advance(900_000);
    for (const { bytes } of world.link.take()) if (bytes[12] === 0x86) readIpv6(bytes);
  }
  for (const connection of world.dialled) connection.abort();
  world.poll();
  if (world.netstack.pooledOctets > 0) throw new Error('memory');
}

t.test('random octets', async () => {
  assertRecorded(
    'ipv6-hostile-1',
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 30 }),
      fc.integer({ min: 14, max: 120 }),
      fc.constantFrom(GATEWAY, PEER, ALIAS, 'ff02::1', 'ff02::1:2'),
      (frames, split, to) => {
        const world = new World({ ipv6: {} });
        for (const frame of frames) {
          world.link.input([ethernetFrame(0x86dd, frame)], 0, split);
          for (const protocol of [0, 6, 17, 43, 44, 58, 59, 60])
            world.link.input([ipv6Frame(protocol, frame, { to, hopLimit: 255 })], 1, Math.max(split, 54));
        }
        settle(world);
      },
    ),
    { numRuns: 80 },
  );
});

t.test('sound packets with octets changed here and there', async () => {
  const samples = [
    solicitation(GATEWAY),
    solicitation(GATEWAY, { from: '::', option: [] }),
    advertisement(GUEST),
    icmp6Frame(133, 0, 0, linkLayer(1), { from: GUEST_LINK_LOCAL, to: 'ff02::2', hopLimit: 255 }),
    icmp6Frame(128, 0, 1, pattern(40)),
    icmp6Frame(2, 0, 1300, udp6Frame(1, 2, pattern(40), { from: PEER, to: GUEST }).subarray(14)),
    icmp6Frame(1, 4, 0, tcp6Frame(80, 1, 2, 3, 2, undefined, { from: PEER, to: GUEST }).subarray(14)),
    udp6Frame(1, 53, pattern(40)),
    udp6Frame(1, 53, pattern(40), { to: PEER, chain: { first: 0, bytes: Uint8Array.of(17, 0, 5, 2, 0, 0, 1, 0) } }),
    tcp6Frame(1, 80, 1, 0, 2, undefined, { to: PEER, tcpOptions: [2, 4, 5, 0xa0, 1, 3, 3, 7] }),
    ipv6Frame(17, pattern(80), { to: PEER, chain: { first: 44, bytes: Uint8Array.of(17, 0, 0, 1, 0, 0, 0, 1) } }),
    ipv6Frame(17, pattern(80), { to: PEER, chain: { first: 44, bytes: Uint8Array.of(17, 0, 0, 80, 0, 0, 0, 1) } }),
  ];
  const change = fc.tuple(fc.nat(110), fc.nat(255));
  const frames = fc.array(fc.tuple(fc.nat(samples.length - 1), fc.array(change, { maxLength: 4 })), { maxLength: 60 });
  assertRecorded(
    'ipv6-hostile-2',
    fc.property(frames, (script) => {
      const world = new World({ ipv6: {} });
      for (const [index, changes] of script) {
        const frame = samples[index]!.slice();
        for (const [at, value] of changes) frame[at % frame.length] = value;
        // As if verified below: so that more of them get beyond the checksum.
        world.link.input([frame], 1);
      }
      settle(world);
    }),
    { numRuns: 150 },
  );
});

t.test('fragments at random: what comes out is what went in, or nothing', async () => {
  const whole = udp6Frame(1, 2, pattern(1592), { to: PEER }).subarray(54);
  const piece = fc.record({ begin: fc.nat(199), octets: fc.integer({ min: 1, max: 60 }), id: fc.nat(2) });
  assertRecorded(
    'ipv6-hostile-3',
    fc.property(fc.array(piece, { maxLength: 80 }), fc.nat(10), (pieces, wrong) => {
      const world = new World({ ipv6: {} });
      for (const [i, { begin, octets, id }] of pieces.entries()) {
        const end = Math.min(whole.length, (begin + octets) * 8);
        const more = end < whole.length ? 1 : 0;
        const header = Uint8Array.of(17, 0, (begin * 8) >> 8, ((begin * 8) & 0xff) | more, 0, 0, 0, id);
        const bytes = whole.slice(begin * 8, end);
        if (i === wrong) bytes[0]! ^= 1;
        world.link.input([ipv6Frame(17, bytes, { to: PEER, chain: { first: 44, bytes: header } })]);
      }
      for (const payload of world.payloads)
        if (Buffer.compare(payload, pattern(1592)) !== 0) throw new Error('another datagram');
      settle(world);
    }),
    { numRuns: 200 },
  );
});

t.test('a guest that has every address does not fill memory', async (t) => {
  const world = new World({ ipv6: {} });
  for (let i = 0; i < 5_000; i++) {
    const from = `fe80::${(i + 1).toString(16)}`;
    world.link.input([solicitation(GATEWAY, { from, sourceMac: 0x02_00_00_01_00_00 + i, option: [] })]);
    world.link.take();
    const guestAddress = concat([0xfd, 0, 0, 1, 0, 2, 0, 3], new Uint8Array(4), [0, 0, i >> 8, i & 0xff]);
    world.netstack.sendUdp({ guestAddress, guestPort: 1, peerAddress: guestAddress, peerPort: 1 }, pattern(1));
  }
  world.link.take();
  t.ok(world.netstack.drops['no-neighbour']! >= 5_000 - 64, 'few datagrams wait');
  world.advance(3_000);
  t.equal(world.netstack.drops['no-neighbour'], 5_000);
});
