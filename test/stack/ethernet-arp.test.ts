/** Ethernet's source and destination rules, ARP (RFC 826, RFC 1027, RFC 5227), who is where, detaching. */

import t from 'tap';
import * as arp from '../../src/stack/wire/arp.ts';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import { arpFrame, ethernetFrame, icmpFrame, readIp, udpFrame, word } from './frames.ts';
import { address, GATEWAY_MAC, GUEST_MAC, World } from './world.ts';

const HOSTS = { guest: '192.168.65.3', gateway: '192.168.65.1', alias: '192.168.65.2' };
const OTHER_MAC = 0x02_00_00_00_00_99;

function readArp(frame: Uint8Array): {
  to: number;
  operation: number;
  sender: number;
  senderMac: number;
  target: number;
  targetMac: number;
} {
  const view = new DataView(frame.buffer, frame.byteOffset);
  return {
    to: ethernet.destination(view, 0),
    operation: arp.operation(view, 14),
    senderMac: ethernet.mac(view, 14 + arp.SENDER_MAC),
    sender: arp.senderAddress(view, 14),
    targetMac: ethernet.mac(view, 14 + arp.TARGET_MAC),
    target: arp.targetAddress(view, 14),
  };
}

const asks = (world: World, target: string, sender = HOSTS.guest) => {
  world.link.input([arpFrame(arp.REQUEST, GUEST_MAC, sender, target)]);
  world.poll();
  return world.link.take().map(({ bytes }) => readArp(bytes));
};

t.test('the gateway and the host alias are answered for', async (t) => {
  const world = new World();
  for (const target of [HOSTS.gateway, HOSTS.alias]) {
    t.same(asks(world, target), [
      {
        to: GUEST_MAC,
        operation: 2,
        senderMac: GATEWAY_MAC,
        sender: word(target),
        targetMac: GUEST_MAC,
        target: word(HOSTS.guest),
      },
    ]);
  }
  t.equal(asks(world, HOSTS.gateway, '0.0.0.0').length, 1, 'RFC 5227: a probe for ours as well');
});

t.test('RFC 1027: what is beyond the subnet is answered for, when a guest of the subnet asks', async (t) => {
  const world = new World();
  t.equal(asks(world, '8.8.8.8').length, 1);
  t.equal(asks(world, '8.8.8.8', '0.0.0.0').length, 0, 'RFC 5227: a probe is nobody asking for a route');
  t.equal(asks(world, '172.17.0.2', '172.17.0.1').length, 0, "a guest's own bridge is its own affair");
});

t.test('other addresses of the subnet are not ours to answer for', async (t) => {
  const world = new World();
  t.equal(asks(world, '192.168.65.7').length, 0);
  t.equal(asks(world, HOSTS.guest).length, 0, 'an announcement');
});

t.test('ARP that is malformed, or speaks for another, is dropped', async (t) => {
  const world = new World();
  const input = (...frames: Uint8Array[]): void => world.link.input(frames);
  const good = arpFrame(arp.REQUEST, GUEST_MAC, HOSTS.guest, HOSTS.gateway);
  input(good.subarray(0, 41));
  const hardware = good.slice();
  hardware[15] = 6;
  input(hardware);
  input(arpFrame(arp.REPLY, GUEST_MAC, HOSTS.guest, HOSTS.gateway, { sourceMac: OTHER_MAC }));
  input(arpFrame(arp.REPLY, GUEST_MAC, HOSTS.gateway, HOSTS.guest));
  world.poll();
  t.equal(world.link.take().length, 0);
  t.same(world.drops(), { 'arp-malformed': 2, 'arp-source': 2 });
});

t.test('frames for others, from nobody, and of unknown types are dropped', async (t) => {
  const world = new World();
  const payload = new Uint8Array(46);
  world.link.input([
    new Uint8Array(13),
    ethernetFrame(0x0800, payload, { sourceMac: 0x01_00_5e_00_00_01 }),
    ethernetFrame(0x0800, payload, { sourceMac: GATEWAY_MAC }),
    ethernetFrame(0x0800, payload, { sourceMac: 0 }),
    ethernetFrame(0x0800, payload, { destinationMac: OTHER_MAC }),
    ethernetFrame(0x88cc, payload),
    ethernetFrame(0x86dd, payload),
  ]);
  t.same(world.drops(), { 'ethernet-short': 1, 'ethernet-source': 3, 'ethernet-destination': 1, 'ethernet-type': 2 });
});

t.test('addresses are learnt from ARP and from packets, and asked for when they are not known', async (t) => {
  const world = new World();
  const send = (guest: string): boolean =>
    world.netstack.sendUdp(
      { guestAddress: address(guest), guestPort: 1, peerAddress: address(HOSTS.gateway), peerPort: 2 },
      new Uint8Array(5),
    );
  t.equal(send('192.168.65.4'), false);
  world.poll();
  const [request] = world.link.take().map(({ bytes }) => readArp(bytes));
  t.match(request, { to: ethernet.BROADCAST, operation: 1, senderMac: GATEWAY_MAC, target: word('192.168.65.4') });
  t.equal(send('192.168.65.4'), false);
  world.poll();
  t.equal(world.link.take().length, 0, 'at most once a second');
  world.link.input([arpFrame(arp.REPLY, OTHER_MAC, '192.168.65.4', HOSTS.gateway, { destinationMac: GATEWAY_MAC })]);
  t.equal(send('192.168.65.4'), true);
  t.equal(readIp(world.link.take()[0]!.bytes).destinationMac, OTHER_MAC);
  world.link.input([udpFrame(9, 9, new Uint8Array(1), { to: '9.9.9.9' })]);
  t.equal(send(HOSTS.guest), true);
  t.equal(readIp(world.link.take()[0]!.bytes).destinationMac, GUEST_MAC);
  t.ok(world.woken > 0, 'the edge is told that there is something to flush');
});

t.test('what is behind a guest goes to the guest heard last, or by a route', async (t) => {
  const world = new World();
  const macOf = (guest: string): number | undefined => {
    world.netstack.sendUdp(
      { guestAddress: address(guest), guestPort: 1, peerAddress: address(HOSTS.gateway), peerPort: 2 },
      new Uint8Array(5),
    );
    const frames = world.link.take().filter(({ bytes }) => bytes[13] === 0);
    return frames[0] && readIp(frames[0].bytes).destinationMac;
  };
  t.equal(macOf('172.17.0.2'), undefined);
  world.link.input([udpFrame(9, 9, new Uint8Array(1), { to: '9.9.9.9' })]);
  t.equal(macOf('172.17.0.2'), GUEST_MAC);
  world.netstack.pinNeighbor(address('192.168.65.9'), world.ingress, ethernet.macToBytes(OTHER_MAC));
  world.netstack.route(address('172.18.0.0'), 16, address('192.168.65.9'));
  t.equal(macOf('172.18.0.2'), OTHER_MAC);
  world.link.input([arpFrame(arp.REQUEST, GUEST_MAC, HOSTS.guest, HOSTS.gateway)]);
  t.equal(macOf('172.17.0.2'), GUEST_MAC);
  t.equal(macOf('192.168.65.77'), undefined, 'the subnet is on the link itself');
});

t.test('a lease holds against other ports, and ends with unpin', async (t) => {
  const world = new World();
  const second = new World();
  const ingress = world.netstack.attach(second.link);
  world.netstack.pinNeighbor(address(HOSTS.guest), world.ingress, ethernet.macToBytes(GUEST_MAC));
  second.link.input([arpFrame(arp.REPLY, OTHER_MAC, HOSTS.guest, HOSTS.gateway)]);
  const send = (): boolean =>
    world.netstack.sendUdp(
      { guestAddress: address(HOSTS.guest), guestPort: 1, peerAddress: address(HOSTS.gateway), peerPort: 2 },
      new Uint8Array(5),
    );
  send();
  t.equal(readIp(world.link.take()[0]!.bytes).destinationMac, GUEST_MAC);
  t.equal(second.link.take().length, 0);
  world.netstack.unpinNeighbor(address(HOSTS.guest));
  second.link.input([arpFrame(arp.REPLY, OTHER_MAC, HOSTS.guest, HOSTS.gateway)]);
  send();
  t.equal(readIp(second.link.take()[0]!.bytes).destinationMac, OTHER_MAC);
  world.netstack.detach(ingress);
  t.equal(send(), false);
});

t.test('by MAC address and port: DHCP reaches a guest without an address', async (t) => {
  const world = new World();
  const to = {
    guestAddress: address('255.255.255.255'),
    guestPort: 68,
    peerAddress: address(HOSTS.gateway),
    peerPort: 67,
  };
  t.ok(
    world.netstack.sendUdp(to, new Uint8Array(300), {
      macAddress: ethernet.macToBytes(OTHER_MAC),
      ingress: world.ingress,
    }),
  );
  const packet = readIp(world.link.take()[0]!.bytes);
  t.equal(packet.destinationMac, OTHER_MAC);
  t.equal(packet.destination, '255.255.255.255');
  t.equal(
    world.netstack.sendUdp(to, new Uint8Array(300), { macAddress: ethernet.macToBytes(OTHER_MAC), ingress: 99 }),
    false,
  );
});

t.test('a link that is full: datagrams and answers fall, counted', async (t) => {
  const world = new World();
  world.link.room = 1;
  const ping = icmpFrame(8, 0, 1, new Uint8Array(10));
  world.link.input([ping, ping, ping]);
  world.poll();
  t.equal(world.link.take().length, 1);
  t.same(world.drops(), { 'link-full': 2 });
  world.link.room = 10;
  world.link.input([ping]);
  t.equal(world.link.take().length, 0, 'until the link says that it has room');
  world.link.writable();
  world.link.input([ping]);
  t.equal(world.link.take().length, 1);
});

t.test('thousands of stations do not fill the memory', async (t) => {
  const world = new World();
  world.netstack.pinNeighbor(address('192.168.65.9'), world.ingress, ethernet.macToBytes(OTHER_MAC));
  for (let i = 0; i < 5000; i++) {
    world.link.input([
      arpFrame(arp.REPLY, 0x02_00_00_00_00_00 + i + 256, `192.168.65.${10 + (i % 200)}`, HOSTS.gateway),
    ]);
  }
  world.netstack.sendUdp(
    { guestAddress: address('192.168.65.9'), guestPort: 1, peerAddress: address(HOSTS.gateway), peerPort: 2 },
    new Uint8Array(5),
  );
  t.equal(readIp(world.link.take()[0]!.bytes).destinationMac, OTHER_MAC, 'a lease is not forgotten');
});
