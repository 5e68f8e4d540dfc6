/** RFC 791, Internet Protocol: headers, fragments both ways. By section. */

import t from 'tap';
import * as ipv4 from '../../src/stack/wire/ipv4.ts';
import { icmpFrame, ipFrame, pattern, udpBytes, udpFrame } from '../stack/frames.ts';
import { address, World } from '../stack/world.ts';
import { replies } from './replies.ts';

const PEER = '10.0.0.1';
const TO_GUEST = { guestAddress: address('192.168.65.3'), guestPort: 7, peerAddress: address(PEER), peerPort: 53 };

function repaired(frame: Uint8Array, at: number, value: number): Uint8Array {
  const changed = frame.slice();
  changed[14 + at] = value;
  ipv4.fillChecksum(new DataView(changed.buffer), 14);
  return changed;
}

t.test('3.1: a header shorter than 5 words, or longer than the packet, is dropped', async (t) => {
  const world = new World();
  const good = udpFrame(1, 2, pattern(8), { to: PEER });
  for (let words = 0; words < 5; words++) {
    const frame = good.slice();
    frame[14] = 0x40 | words;
    world.link.input([frame]);
  }
  const long = good.slice();
  long[14] = 0x4f;
  world.link.input([long]);
  t.same(world.forwarded, []);
  t.same(world.drops(), { 'ipv4-malformed': 6 });
});

t.test(
  '3.1: a total length shorter than the header, or longer than what came, is dropped; padding is cut off',
  async (t) => {
    const world = new World();
    const good = udpFrame(1, 2, pattern(8), { to: PEER });
    world.link.input([repaired(good, 3, 19), repaired(good, 3, 37)]);
    t.same(world.forwarded, []);
    const padded = new Uint8Array(60);
    padded.set(good);
    world.link.input([padded]);
    t.same(world.payloads, [pattern(8)]);
  },
);

t.test('3.1: type of service and options change nothing about where a packet goes', async (t) => {
  const world = new World();
  world.link.input([
    repaired(udpFrame(1, 2, pattern(8), { to: PEER }), 1, 0xff),
    udpFrame(1, 2, pattern(8), { to: PEER, options: Uint8Array.of(1, 1, 1, 0) }),
  ]);
  t.equal(world.forwarded.length, 2);
});

t.test('3.2: fragments in any order make the datagram', async (t) => {
  const whole = udpBytes(1, 2, pattern(92), { to: PEER });
  const parts = [0, 24, 48, 72].map((at) =>
    ipFrame(17, whole.subarray(at, at + (at === 72 ? 28 : 24)), {
      to: PEER,
      fragment: (at < 72 ? ipv4.MORE_FRAGMENTS : 0) | (at / 8),
    }),
  );
  for (const order of [
    [0, 1, 2, 3],
    [3, 2, 1, 0],
    [1, 3, 0, 2],
    [2, 0, 3, 1],
  ]) {
    const world = new World();
    for (const index of order) world.link.input([parts[index]!]);
    t.same(world.payloads, [pattern(92)], String(order));
  }
});

t.test('3.2: fragments belong together by source, destination, protocol and identification', async (t) => {
  const whole = udpBytes(1, 2, pattern(92), { to: PEER });
  const begin = ipFrame(17, whole.subarray(0, 48), { to: PEER, fragment: ipv4.MORE_FRAGMENTS });
  const rest = { to: PEER, fragment: 6 };
  for (const [protocol, other] of [
    [17, { identification: 2 }],
    [17, { from: '192.168.65.9' }],
    [17, { to: '10.0.0.2' }],
    [6, {}],
  ] as const) {
    const world = new World();
    world.link.input([begin, ipFrame(protocol, whole.subarray(48), { ...rest, ...other })]);
    t.same(world.forwarded, []);
    world.link.input([ipFrame(17, whole.subarray(48), rest)]);
    t.same(world.payloads, [pattern(92)]);
  }
});

t.test('3.2: all fragments but the last carry a multiple of 8 octets, and none reaches beyond 65535', async (t) => {
  const world = new World();
  world.link.input([
    ipFrame(17, pattern(25), { to: PEER, fragment: ipv4.MORE_FRAGMENTS }),
    ipFrame(17, pattern(1000), { to: PEER, fragment: 0x1fff }),
  ]);
  t.same(world.drops(), { 'fragment-malformed': 2 });
});

t.test('3.2: what is larger than the MTU leaves in fragments of it, of multiples of 8 octets', async (t) => {
  for (const [mtu, octets] of [
    [576, 4000],
    [1500, 65507],
    [1499, 3000],
  ] as const) {
    const world = new World({ mtu });
    world.link.input([icmpFrame(8, 0, 1, pattern(8))]);
    replies(world);
    t.ok(world.netstack.sendUdp(TO_GUEST, pattern(octets)));
    const parts = replies(world);
    let at = 0;
    parts.forEach(({ fragment, payload }, i) => {
      t.equal((fragment & 0x1fff) * 8, at);
      t.equal((fragment & ipv4.MORE_FRAGMENTS) !== 0, i < parts.length - 1);
      t.ok(payload.length + 20 <= mtu);
      at += payload.length;
    });
    t.equal(at, octets + 8);
    t.ok(
      Buffer.concat(parts.map(({ payload }) => payload))
        .subarray(8)
        .equals(pattern(octets)),
    );
  }
});

t.test('3.2: identifications of datagrams to one guest differ', async (t) => {
  const world = new World();
  world.link.input([icmpFrame(8, 0, 1, pattern(8))]);
  replies(world);
  for (let i = 0; i < 1000; i++) world.netstack.sendUdp(TO_GUEST, pattern(8));
  t.equal(new Set(replies(world).map(({ identification }) => identification)).size, 1000);
});
