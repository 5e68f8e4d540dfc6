/** RFC 826, Address Resolution Protocol, by part of the text. */

import t from 'tap';
import * as arp from '../../src/stack/wire/arp.ts';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import { arpFrame, pattern, readIp, word } from '../stack/frames.ts';
import { address, GATEWAY_MAC, GUEST_MAC, World } from '../stack/world.ts';

const GUEST = '192.168.65.3';
const GATEWAY = '192.168.65.1';
const OTHER_MAC = 0x02_00_00_00_00_77;
const take = (world: World): DataView[] => {
  world.poll();
  return world.link.take().map(({ bytes }) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length));
};

t.test('Packet Generation: an unknown address is asked for by broadcast, not more than once a second', async (t) => {
  const world = new World();
  const to = { guestAddress: address('192.168.65.9'), guestPort: 1, peerAddress: address(GATEWAY), peerPort: 2 };
  t.notOk(world.netstack.sendUdp(to, pattern(8)));
  const [request] = take(world);
  t.equal(ethernet.destination(request!, 0), ethernet.BROADCAST);
  t.equal(arp.operation(request!, 14), arp.REQUEST);
  t.equal(arp.senderAddress(request!, 14), word(GATEWAY));
  t.equal(arp.targetAddress(request!, 14), word('192.168.65.9'));
  for (let second = 1; second < 10; second++) {
    for (let i = 0; i < 5; i++) t.notOk(world.netstack.sendUdp(to, pattern(8)));
    world.advance(999);
    t.same(take(world), []);
    world.advance(1);
    t.notOk(world.netstack.sendUdp(to, pattern(8)));
    t.equal(take(world).length, 1);
  }
});

t.test('Packet Reception: hardware, protocol and their lengths must be Ethernet’s and IPv4’s', async (t) => {
  for (const at of [15, 16, 18, 19]) {
    const world = new World();
    const frame = arpFrame(arp.REQUEST, GUEST_MAC, GUEST, GATEWAY);
    frame[at]! ^= 0x10;
    world.link.input([frame]);
    t.same(take(world), []);
    t.same(world.drops(), { 'arp-malformed': 1 });
  }
});

t.test('Packet Reception: a request for our address is answered to who asked, fields swapped', async (t) => {
  const world = new World();
  world.link.input([arpFrame(arp.REQUEST, GUEST_MAC, GUEST, GATEWAY)]);
  const [reply] = take(world);
  t.equal(ethernet.destination(reply!, 0), GUEST_MAC);
  t.equal(arp.operation(reply!, 14), arp.REPLY);
  t.equal(ethernet.mac(reply!, 14 + arp.SENDER_MAC), GATEWAY_MAC);
  t.equal(arp.senderAddress(reply!, 14), word(GATEWAY));
  t.equal(ethernet.mac(reply!, 14 + arp.TARGET_MAC), GUEST_MAC);
  t.equal(arp.targetAddress(reply!, 14), word(GUEST));
});

t.test('Packet Reception: a reply is not answered, and a request for another host is not either', async (t) => {
  const world = new World();
  world.link.input([
    arpFrame(arp.REPLY, GUEST_MAC, GUEST, GATEWAY),
    arpFrame(arp.REQUEST, GUEST_MAC, GUEST, '192.168.65.8'),
  ]);
  t.same(take(world), []);
});

t.test(
  'Packet Reception: the sender is merged into the table, from a request too, and a move is noticed',
  async (t) => {
    const world = new World();
    const macOf = (): number => {
      world.netstack.sendUdp(
        { guestAddress: address(GUEST), guestPort: 1, peerAddress: address(GATEWAY), peerPort: 2 },
        pattern(8),
      );
      return readIp(world.link.take().at(-1)!.bytes).destinationMac;
    };
    world.link.input([arpFrame(arp.REQUEST, GUEST_MAC, GUEST, GATEWAY)]);
    t.equal(macOf(), GUEST_MAC);
    world.link.input([arpFrame(arp.REQUEST, OTHER_MAC, GUEST, GUEST)]);
    t.equal(macOf(), OTHER_MAC);
  },
);

t.test('Packet Reception: a packet cut short is dropped', async (t) => {
  const world = new World();
  const frame = arpFrame(arp.REQUEST, GUEST_MAC, GUEST, GATEWAY);
  for (let octets = 14; octets < frame.length; octets++) world.link.input([frame.subarray(0, octets)]);
  t.same(take(world), []);
  t.same(world.drops(), { 'arp-malformed': 28 });
});
