/** RFC 1122, Requirements for Internet Hosts: what concerns IP, ICMP, UDP and TCP here, by section. */

import t from 'tap';
import { formatAddress } from '../../src/stack/wire/address.ts';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import * as ipv4 from '../../src/stack/wire/ipv4.ts';
import { AbsentGuest } from '../stack/absent-guest.ts';
import { icmpBytes, icmpFrame, ipFrame, pattern, udpBytes, udpFrame } from '../stack/frames.ts';
import { established } from '../stack/tcp/tcp-script.ts';
import { address, World } from '../stack/world.ts';
import { replies } from './replies.ts';
import { reach } from './states.ts';

const PEER = '10.0.0.1';

t.test('2.3.2.1: an entry that is doubtful is asked for itself, and flushed when it is silent', async (t) => {
  const guest = new AbsentGuest('IPv4');
  guest.speaks();
  guest.datagram();
  const probe = 'to 3: who has 192.168.65.3';
  const asked = 'who has 192.168.65.3';
  t.same(guest.seesWithin(8), [
    [1, 'to 3: 1'],
    [5, probe],
    [6, probe],
    [7, probe],
    [8, asked],
  ]);
  t.notOk(guest.datagram());
});

t.test('2.3.2.1: requests for an address are a second apart at least', async (t) => {
  const guest = new AbsentGuest('IPv4');
  guest.datagram();
  guest.sees();
  for (let second = 0; second < 10; second++) {
    for (let i = 0; i < 100; i++) guest.datagram();
    t.same(guest.sees(), []);
    t.equal(guest.seesWithin(1).length + (guest.datagram() ? 1 : 0) + guest.sees().length, 1);
  }
});

t.test('2.3.2.2: the latest packet to an address that is asked for waits for the answer', async (t) => {
  const guest = new AbsentGuest('IPv4');
  guest.datagram(7);
  guest.datagram(8);
  guest.sees();
  guest.answers();
  t.same(guest.sees(), ['to 3: 8']);
});

t.test('3.2.1.1: a version other than 4 is discarded silently', async (t) => {
  for (const version of [0, 5, 6, 15]) {
    const world = new World();
    const frame = udpFrame(1, 2, pattern(8), { to: PEER });
    frame[14] = (version << 4) | 5;
    ipv4.fillChecksum(new DataView(frame.buffer), 14);
    world.link.input([frame]);
    t.same([world.forwarded, replies(world)], [[], []]);
  }
});

t.test('3.2.1.2: a wrong header checksum is discarded silently', async (t) => {
  const world = new World();
  const frame = udpFrame(1, 2, pattern(8), { to: PEER });
  frame[14 + ipv4.CHECKSUM]! ^= 1;
  world.link.input([frame]);
  t.same([world.forwarded, replies(world)], [[], []]);
  t.same(world.drops(), { 'ipv4-checksum': 1 });
});

t.test('3.2.1.3: sources that are no host are discarded silently', async (t) => {
  for (const from of ['0.0.0.0', '127.0.0.1', '192.168.65.255', '224.0.0.1', '240.0.0.1', '255.255.255.255']) {
    const world = new World();
    world.link.input([udpFrame(1, 2, pattern(8), { from, to: PEER }), icmpFrame(8, 0, 1, pattern(8), { from })]);
    t.same([world.forwarded, replies(world)], [[], []], from);
  }
});

t.test('3.2.1.3: loopback addresses never appear outside a host: as a destination they are discarded', async (t) => {
  const world = new World();
  world.link.input([udpFrame(1, 2, pattern(8), { to: '127.0.0.1' })]);
  t.same([world.forwarded, replies(world)], [[], []]);
});

t.test('3.2.1.7: a datagram for us is taken whatever its time to live, and what we send has a long one', async (t) => {
  const world = new World();
  for (const hopLimit of [0, 1]) {
    world.link.input([icmpFrame(8, 0, 1, pattern(8), { hopLimit })]);
    const [answer] = replies(world);
    t.equal(answer!.payload[0], 0);
    t.equal(answer!.hopLimit, 64);
  }
});

t.test('3.2.1.8: header options that are not understood are passed over', async (t) => {
  for (const options of [
    [1, 1, 1, 0],
    [68, 8, 5, 0, 0, 0, 0, 0],
    [131, 3, 4, 0],
    [7, 0, 0, 0],
    [148, 4, 0, 0],
  ]) {
    const world = new World();
    world.link.input([udpFrame(1, 2, pattern(8), { to: PEER, options: Uint8Array.from(options) })]);
    t.equal(world.forwarded.length, 1, String(options));
  }
});

t.test('3.2.2: an ICMP message of an unknown type is discarded silently', async (t) => {
  const world = new World();
  for (const type of [1, 2, 7, 19, 42, 255]) world.link.input([icmpFrame(type, 0, 0, pattern(40))]);
  t.same(replies(world), []);
});

t.test('3.2.2: no error about an error', async (t) => {
  const world = new World();
  for (const type of [3, 4, 5, 11, 12])
    world.link.input([icmpFrame(type, 0, 0, pattern(40), { to: PEER, hopLimit: 1 })]);
  t.same(replies(world), []);
});

t.test('3.2.2: no error about what was sent to a broadcast or multicast address', async (t) => {
  const world = new World();
  for (const to of ['255.255.255.255', '192.168.65.255', '224.0.0.1'])
    world.link.input([udpFrame(1, 9, pattern(8), { to }), ipFrame(99, pattern(20), { to })]);
  t.same(replies(world), []);
});

t.test('3.2.2: no error about what was sent to all stations of the link', async (t) => {
  const world = new World();
  const destinationMac = ethernet.BROADCAST;
  world.link.input([
    udpFrame(1, 9, pattern(8), { destinationMac }),
    ipFrame(99, pattern(20), { to: PEER, destinationMac }),
  ]);
  t.same(replies(world), []);
  world.link.input([udpFrame(1, 9, pattern(8))]);
  t.equal(replies(world).length, 1, 'to us alone it is answered');
});

t.test('3.2.2: no error about a fragment other than the first', async (t) => {
  const world = new World();
  world.link.input([ipFrame(99, pattern(24), { to: PEER, fragment: 100 })]);
  world.advance(120_000);
  t.same(replies(world), []);
});

t.test('3.2.2: an error quotes the header and 8 octets at least, unchanged', async (t) => {
  const world = new World();
  const frame = ipFrame(99, pattern(40), { to: PEER });
  world.link.input([frame]);
  const [answer] = replies(world);
  t.same(answer!.payload.subarray(8, 8 + 28), frame.subarray(14, 14 + 28));
});

t.test('3.2.2.1: protocol unreachable, port unreachable', async (t) => {
  const world = new World();
  world.link.input([ipFrame(99, pattern(20), { to: PEER })]);
  t.same([...replies(world)[0]!.payload.subarray(0, 2)], [3, 2]);
  world.link.input([udpFrame(1, 9, pattern(8))]);
  t.same([...replies(world)[0]!.payload.subarray(0, 2)], [3, 3]);
});

t.test('3.2.2.6: an echo reply has the request’s data, from the address that was asked', async (t) => {
  for (const to of ['192.168.65.1', '192.168.65.2']) {
    const world = new World();
    world.link.input([icmpFrame(8, 0, 0xabcd_0007, pattern(1000), { to })]);
    const [answer] = replies(world);
    t.equal(answer!.source, to);
    t.same(answer!.payload, icmpBytes(0, 0, 0xabcd_0007, pattern(1000)));
  }
});

t.test('3.2.2.6: an echo request to a broadcast address is discarded silently', async (t) => {
  const world = new World();
  for (const to of ['255.255.255.255', '192.168.65.255']) world.link.input([icmpFrame(8, 0, 1, pattern(8), { to })]);
  t.same(replies(world), []);
});

t.test('3.2.2.6: an echo reply that nobody asked for is dropped', async (t) => {
  const world = new World();
  world.link.input([icmpFrame(0, 0, 1, pattern(8)), icmpFrame(0, 0, 1, pattern(8), { to: PEER })]);
  t.same([world.forwarded, replies(world)], [[], []]);
});

t.test('3.3.2: datagrams of 576 octets and up to the largest there are put together', async (t) => {
  for (const octets of [548, 9000, 65507]) {
    const world = new World();
    const whole = udpBytes(1, 2, pattern(octets), { to: PEER });
    for (let at = 0; at < whole.length; at += 400) {
      const more = at + 400 < whole.length ? ipv4.MORE_FRAGMENTS : 0;
      world.link.input([ipFrame(17, whole.subarray(at, at + 400), { to: PEER, fragment: more | (at / 8) })]);
    }
    t.ok(Buffer.from(world.payloads[0]!).equals(pattern(octets)));
  }
});

t.test('3.3.2: when time runs out the sender of a first fragment is told, with what it held', async (t) => {
  const world = new World();
  const first = ipFrame(17, udpBytes(1, 2, pattern(100), { to: PEER }).subarray(0, 56), {
    to: PEER,
    fragment: ipv4.MORE_FRAGMENTS,
  });
  world.link.input([first]);
  world.advance(120_000);
  const [answer] = replies(world);
  t.same([...answer!.payload.subarray(0, 2)], [11, 1]);
  t.same(answer!.payload.subarray(28), first.subarray(34));
  t.equal(world.netstack.pollAt(), Number.POSITIVE_INFINITY);
});

t.test('4.1.3.3: whoever sent a datagram hears that it was refused', async (t) => {
  const world = new World();
  const gateway = address('192.168.65.1');
  const told: string[] = [];
  world.netstack.listenUdp(gateway, 53, t.fail, (guest, port) => told.push(`${formatAddress(guest)} ${port}`));
  world.netstack.listenUdp(gateway, 54, t.fail);
  const [from, to] = [{ from: '192.168.65.1', to: '192.168.65.3' }, 7];
  const quote = (port: number): Uint8Array => udpFrame(port, to, pattern(8), from).subarray(14, 14 + 28);
  world.link.input([
    icmpFrame(3, 3, 0, quote(53)),
    icmpFrame(3, 1, 0, quote(53)),
    icmpFrame(3, 4, 600, quote(53)),
    icmpFrame(3, 3, 0, quote(54)),
    icmpFrame(3, 3, 0, quote(55)),
    icmpFrame(3, 3, 0, quote(53).subarray(0, 27)),
  ]);
  t.same(told, ['192.168.65.3 7', '192.168.65.3 7']);
  t.same(world.drops(), { 'icmp-type': 3, 'icmp-malformed': 1 });
});

t.test('4.1.3.4: UDP checksums are sent always, checked where there is one, and zero means none', async (t) => {
  const world = new World();
  const wrong = udpFrame(1, 2, pattern(8), { to: PEER });
  wrong[wrong.length - 1]! ^= 1;
  world.link.input([wrong]);
  t.same(world.forwarded, []);
  wrong[14 + 20 + 6] = 0;
  wrong[14 + 20 + 7] = 0;
  world.link.input([wrong]);
  t.equal(world.forwarded.length, 1);
  world.netstack.sendUdp(
    { guestAddress: address('192.168.65.3'), guestPort: 1, peerAddress: address(PEER), peerPort: 2 },
    pattern(8),
  );
  const { payload } = replies(world)[0]!;
  t.not((payload[6]! << 8) | payload[7]!, 0);
});

t.test(
  '4.2.2.13: a new SYN takes over a tuple in TIME-WAIT if its number is beyond, with one of ours beyond too',
  async (t) => {
    const s = reach(t, 'TIME-WAIT');
    const before = s.ourIsn!;
    s.guestSends('S 1:1(0)');
    s.expect('. 2:2(0) ack 2');
    t.equal(s.world.dialled.length, 1);
    s.guestSends('S 70000:70000(0)');
    t.equal(s.world.dialled.length, 2);
    s.connection.accept(s.owner);
    s.expect('S. 0:0(0) ack 70001');
    t.ok(((s.ourIsn! - before) | 0) > 2);
  },
);

t.test('4.2.2.16: a window that the guest shrinks loses nothing', async (t) => {
  const s = established(t, '<mss 1000>', 4000);
  s.flight(4000);
  s.guestSends('. 1:1(0) ack 1001 win 0');
  s.expect();
  s.guestSends('. 1:1(0) ack 4001 win 4000');
  t.equal(s.connection.sendQueueOctets, 0);
});

t.test('4.2.2.20: all segments that have come are looked at before one acknowledgement is sent', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.guestSends(...Array.from({ length: 20 }, (_, i) => `. ${1 + i * 100}:${101 + i * 100}(100) ack 1`));
  s.expect('. 1:1(0) ack 2001');
});

t.test('4.2.2.21: a segment out of order is acknowledged at once with what is expected', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.guestSends('. 101:201(100) ack 1');
  s.expect('. 1:1(0) ack 1');
});

t.test('4.2.3.6: a dead guest is not looked for on an idle connection', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.advance(3_600_000);
  s.expect();
  s.owns();
});

t.test('4.2.3.9: network, host and protocol unreachable are soft for a connection that is there', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.write(10);
  s.world.poll();
  const quote = s.world.link.take()[0]!.bytes.slice(14, 14 + 28);
  for (const [type, code] of [
    [3, 0],
    [3, 1],
    [3, 5],
    [11, 0],
    [12, 0],
  ] as const)
    s.world.link.input([icmpFrame(type, code, 0, quote)]);
  s.owns();
  t.equal(s.connection.state, 'ESTABLISHED');
});
