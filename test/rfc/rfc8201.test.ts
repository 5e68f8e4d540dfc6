/** RFC 8201, Path MTU Discovery for IP version 6, by section. */

import t from 'tap';
import { pattern } from '../stack/frames.ts';
import {
  concat,
  GUEST,
  icmp6Frame,
  ip,
  ipv6Frame,
  PEER,
  readIpv6,
  replies6,
  tcp6Frame,
  udp6Bytes,
} from '../stack/ipv6-frames.ts';
import type { World } from '../stack/world.ts';
import { ipv6World } from './ipv6-replies.ts';

const ROUTER = 'fd00:1:2:3::9';
const toGuest = { guestAddress: ip(GUEST), guestPort: 1, peerAddress: ip(PEER), peerPort: 2 };
const DATAGRAM = ipv6Frame(17, udp6Bytes(2, 1, pattern(1400), { from: PEER, to: GUEST }), {
  from: PEER,
  to: GUEST,
}).subarray(14);
const tooBig = (mtu: number, about: Uint8Array = DATAGRAM): Uint8Array =>
  icmp6Frame(2, 0, mtu, about.subarray(0, 1000), { from: ROUTER });

/** Octets of the packets that a datagram of 1400 octets becomes. */
function cut(world: World): number[] {
  world.netstack.sendUdp(toGuest, pattern(1400));
  world.poll();
  return world.link.take().map(({ bytes }) => bytes.length - 14);
}

t.test('4: datagrams are cut to what a router on the way carries', async (t) => {
  const world = ipv6World();
  t.same(cut(world), [1448]);
  world.link.input([tooBig(1300)]);
  t.same(cut(world), [1296, 208]);
});

t.test('4: never below 1280 octets, and only ever less than was known', async (t) => {
  const world = ipv6World();
  world.link.input([tooBig(1279), tooBig(0)]);
  t.same(cut(world), [1448]);
  world.link.input([tooBig(1300), tooBig(1400)]);
  t.same(cut(world), [1296, 208]);
});

t.test('4: a larger MTU is tried again after ten minutes', async (t) => {
  const world = ipv6World();
  world.link.input([tooBig(1300)]);
  world.advance(590_000);
  world.link.take();
  t.equal(cut(world).length, 2);
  world.advance(20_000);
  world.link.take();
  t.equal(cut(world).length, 1);
});

t.test('5.2: what is said of one destination is not said of others, nor by others', async (t) => {
  const world = ipv6World();
  const elsewhere = { ...toGuest, guestAddress: ip('fd00:1:2:3::5') };
  world.link.input([tooBig(1300)]);
  world.netstack.pinNeighbor(ip('fd00:1:2:3::5'), world.ingress, new Uint8Array(6).fill(2));
  world.netstack.sendUdp(elsewhere, pattern(1400));
  world.poll();
  t.equal(world.link.take().length, 1);
});

t.test('5.2: paths are bounded', async (t) => {
  const world = ipv6World();
  for (let i = 0; i < 400; i++) {
    const to = `fd00:9::${(i + 1).toString(16)}`;
    world.link.input([
      tooBig(1300, ipv6Frame(17, udp6Bytes(2, 1, pattern(1400), { from: PEER, to }), { from: PEER, to }).subarray(14)),
    ]);
  }
  world.link.input([tooBig(1300)]);
  t.equal(cut(world).length, 2);
});

t.test('5.4: TCP sends what was too big again in smaller segments', async (t) => {
  const world = ipv6World();
  const quiet = {
    established() {},
    room: () => 65_535,
    received: () => 0,
    receivedEnd() {},
    writable() {},
    closed() {},
  };
  world.link.input([tcp6Frame(40000, 80, 100, 0, 2, undefined, { to: PEER, tcpOptions: [2, 4, 5, 0xa0] })]);
  const [connection] = world.dialled;
  connection!.accept(quiet);
  const [synAck] = replies6(world);
  const view = new DataView(synAck!.payload.buffer, synAck!.payload.byteOffset);
  world.link.input([tcp6Frame(40000, 80, 101, view.getUint32(4) + 1, 16, undefined, { to: PEER })]);
  t.ok(connection!.reserveSend());
  connection!.sendArena.bytes.set(pattern(2880), connection!.sendOffset);
  connection!.commitSend(2880);
  world.poll();
  const sent = world.link.take().map(({ bytes }) => bytes);
  t.same(
    sent.map((frame) => frame.length - 74),
    [1440, 1440],
  );
  world.link.input([tooBig(1279, sent[0]!.subarray(14))]);
  world.poll();
  t.same(world.link.take(), [], 'less than every link carries is not believed');
  const unknown = sent[0]!.slice(14);
  unknown[44]! ^= 0x40;
  world.link.input([tooBig(1300, unknown)]);
  world.poll();
  t.same(world.link.take(), [], 'nor what is not about octets in flight: RFC 5927');
  world.link.input([tooBig(1300, sent[0]!.subarray(14))]);
  world.poll();
  const again = world.link.take().map(({ bytes }) => readIpv6(bytes).payload.subarray(20));
  t.ok(again.every((payload) => payload.length <= 1240));
  t.same(concat(...again), pattern(2880).subarray(0, concat(...again).length));
});
