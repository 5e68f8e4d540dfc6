/** RFC 768, User Datagram Protocol, by field. */

import t from 'tap';
import { icmpFrame, ipFrame, pattern, transportChecksum, udpBytes, udpFrame } from '../stack/frames.ts';
import { address, World } from '../stack/world.ts';
import { replies } from './replies.ts';

const PEER = '10.0.0.1';

t.test('Fields: the source port reaches whoever answers, zero included', async (t) => {
  const world = new World();
  world.link.input([udpFrame(0, 2, pattern(3), { to: PEER }), udpFrame(65535, 2, pattern(3), { to: PEER })]);
  t.same(world.forwarded, ['udp 192.168.65.3:0 > 10.0.0.1:2 3', 'udp 192.168.65.3:65535 > 10.0.0.1:2 3']);
});

t.test('Length: 8 at least, no more than IP carries; what IP carries beyond it is not data', async (t) => {
  for (const [length, taken] of [
    [0, 0],
    [7, 0],
    [8, 1],
    [12, 1],
    [16, 1],
    [17, 0],
    [65535, 0],
  ] as const) {
    const world = new World();
    const bytes = udpBytes(1, 2, pattern(8), { to: PEER });
    bytes[4] = length >> 8;
    bytes[5] = length & 255;
    bytes[6] = 0;
    bytes[7] = 0;
    world.link.input([ipFrame(17, bytes, { to: PEER })]);
    t.equal(world.forwarded.length, taken, `length ${length}`);
    if (taken === 1) t.equal(world.payloads[0]!.length, length - 8);
  }
});

t.test('Length: a datagram without data is one', async (t) => {
  const world = new World();
  world.link.input([udpFrame(1, 2, pattern(0), { to: PEER }), icmpFrame(8, 0, 1, pattern(1))]);
  t.same(world.forwarded, ['udp 192.168.65.3:1 > 10.0.0.1:2 0']);
  replies(world);
  const to = { guestAddress: address('192.168.65.3'), guestPort: 1, peerAddress: address(PEER), peerPort: 2 };
  t.ok(world.netstack.sendUdp(to, pattern(0)));
  t.equal(replies(world)[0]!.payload.length, 8);
});

t.test('Checksum: over pseudo-header, header and data, odd lengths padded', async (t) => {
  for (const octets of [0, 1, 2, 3, 999, 1472]) {
    const world = new World();
    const frame = udpFrame(1, 2, pattern(octets), { to: PEER });
    world.link.input([frame]);
    t.equal(world.forwarded.length, 1);
    frame[14 + 20 + 3]! ^= 1;
    world.link.input([frame]);
    t.equal(world.forwarded.length, 1, 'a wrong one is dropped');
    t.equal(world.drops()['udp-checksum'], 1);
  }
});

t.test('Checksum: of zero: none was made; one that comes to zero is sent as all ones', async (t) => {
  const world = new World();
  world.link.input([icmpFrame(8, 0, 1, pattern(1))]);
  replies(world);
  const to = { guestAddress: address('192.168.65.3'), guestPort: 1, peerAddress: address(PEER), peerPort: 2 };
  // The two octets that make the sum come out as zero.
  const bytes = udpBytes(2, 1, new Uint8Array(2), { from: PEER, to: '192.168.65.3' });
  const payload = bytes.slice(6, 8);
  world.netstack.sendUdp(to, payload);
  const sent = replies(world)[0]!.payload;
  t.same([...sent.subarray(6, 8)], [255, 255]);
  t.equal(transportChecksum(PEER, '192.168.65.3', 17, sent), 0);
});

t.test(
  'User Interface: any address may send to the guest, a third one included; one socket, a thousand peers',
  async (t) => {
    const world = new World();
    for (let i = 0; i < 1000; i++)
      world.link.input([udpFrame(500, 53, pattern(4), { to: `10.1.${i >> 8}.${i & 255}` })]);
    t.equal(new Set(world.forwarded).size, 1000);
    const to = { guestAddress: address('192.168.65.3'), guestPort: 500, peerAddress: address('10.9.9.9'), peerPort: 1 };
    t.ok(world.netstack.sendUdp(to, pattern(4)));
    t.equal(replies(world)[0]!.source, '10.9.9.9');
  },
);

t.test('User Interface: the largest datagram, 65507 octets, both ways', async (t) => {
  const world = new World();
  const whole = udpBytes(1, 2, pattern(65507), { to: PEER });
  for (let at = 0; at < whole.length; at += 1480) {
    const more = at + 1480 < whole.length ? 0x2000 : 0;
    world.link.input([ipFrame(17, whole.subarray(at, at + 1480), { to: PEER, fragment: more | (at / 8) })]);
  }
  t.equal(world.payloads[0]!.length, 65507);
  const to = { guestAddress: address('192.168.65.3'), guestPort: 1, peerAddress: address(PEER), peerPort: 2 };
  t.ok(world.netstack.sendUdp(to, pattern(65507)));
  t.equal(
    replies(world).reduce((octets, { payload }) => octets + payload.length, 0),
    65515,
  );
  t.notOk(world.netstack.sendUdp(to, pattern(65508)));
});
