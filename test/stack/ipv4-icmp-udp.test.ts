/** IPv4's guards (RFC 1122 3.2.1, RFC 1812 5), ICMP (RFC 792, RFC 1812 4.3), UDP (RFC 768). */

import t from 'tap';
import { CHECKSUM_PARTIAL } from '../../src/stack/frame-batch.ts';
import { finish, sum } from '../../src/stack/wire/checksum.ts';
import * as ipv4 from '../../src/stack/wire/ipv4.ts';
import {
  type FrameOptions,
  icmpBytes,
  icmpFrame,
  ipFrame,
  pattern,
  readIp,
  transportChecksum,
  udpFrame,
} from './frames.ts';
import { address, World } from './world.ts';

const replies = (world: World) => {
  world.poll();
  return world.link.take().map(({ bytes }) => readIp(bytes));
};

t.test('sources that no guest can have', async (t) => {
  for (const from of [
    '127.0.0.1',
    '0.0.0.0',
    '0.1.2.3',
    '224.0.0.1',
    '240.0.0.1',
    '255.255.255.255',
    '192.168.65.255',
    '192.168.65.1',
    '192.168.65.2',
  ]) {
    const world = new World();
    world.link.input([udpFrame(1, 2, new Uint8Array(3), { from, to: '10.0.0.1' })]);
    t.same(world.drops(), { 'ipv4-source': 1 }, from);
    t.same(world.forwarded, []);
  }
});

t.test('destinations that lead nowhere', async (t) => {
  for (const to of ['127.0.0.1', '0.0.0.0', '0.1.2.3', '224.0.0.251', '239.255.255.250', '250.0.0.1']) {
    const world = new World();
    world.link.input([udpFrame(1, 2, new Uint8Array(3), { to })]);
    t.same(world.drops(), { 'ipv4-destination': 1 }, to);
    t.same(replies(world), []);
  }
});

t.test('headers that are not sound', async (t) => {
  const world = new World();
  const good = udpFrame(1, 2, new Uint8Array(3), { to: '10.0.0.1' });
  const change = (offset: number, value: number, repair = true): Uint8Array => {
    const frame = good.slice();
    frame[14 + offset] = value;
    if (repair && (frame[14]! & 15) >= 5) ipv4.fillChecksum(new DataView(frame.buffer, 0, frame.length), 14);
    return frame;
  };
  world.link.input([
    good.subarray(0, 14 + 19),
    change(0, 0x65),
    change(0, 0x44, false),
    change(0, 0x4f, false),
    change(3, 19),
    change(3, 200),
  ]);
  t.same(world.drops(), { 'ipv4-malformed': 6 });
  world.link.input([change(8, 63, false)]);
  t.same(world.drops(), { 'ipv4-malformed': 6, 'ipv4-checksum': 1 });
  world.link.input([good]);
  t.equal(world.forwarded.length, 1);
});

t.test('header options are skipped', async (t) => {
  const world = new World();
  world.link.input([
    udpFrame(1, 2, new Uint8Array(3), { to: '10.0.0.1', options: Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0) }),
  ]);
  t.same(world.forwarded, ['udp 192.168.65.3:1 > 10.0.0.1:2 3']);
});

t.test('RFC 1812 5.3.1: out of hops on the way through, not at the gateway itself', async (t) => {
  const world = new World();
  const frame = udpFrame(1, 2, pattern(20), { to: '10.0.0.1', hopLimit: 1 });
  world.link.input([frame]);
  t.same(world.forwarded, []);
  const [answer] = replies(world);
  t.equal(answer!.source, '192.168.65.1');
  t.equal(answer!.destination, '192.168.65.3');
  t.same([...answer!.payload.subarray(0, 2)], [11, 0]);
  t.equal(finish(sum(new DataView(answer!.payload.buffer), 0, answer!.payload.length)), 0);
  t.same(answer!.payload.subarray(8), frame.subarray(14), 'the whole packet is quoted');
  world.link.input([icmpFrame(8, 0, 1, new Uint8Array(8), { hopLimit: 1 })]);
  t.equal(replies(world)[0]!.payload[0], 0);
});

t.test('RFC 1122 3.2.2.1: an unknown protocol is unreachable', async (t) => {
  const world = new World();
  world.link.input([ipFrame(132, pattern(20), { to: '10.0.0.1' })]);
  t.same([...replies(world)[0]!.payload.subarray(0, 2)], [3, 2]);
  t.same(world.drops(), { 'ipv4-protocol': 1 });
});

t.test('echo to the gateway and the host alias is answered, octet for octet', async (t) => {
  for (const to of ['192.168.65.1', '192.168.65.2'])
    for (const octets of [0, 1, 56, 1472]) {
      const world = new World();
      world.link.input([icmpFrame(8, 0, 0x12345678, pattern(octets), { to })], 0, 57);
      const [answer] = replies(world);
      t.equal(answer!.source, to);
      t.same(answer!.payload, icmpBytes(0, 0, 0x12345678, pattern(octets)));
    }
});

t.test('a large echo comes back in fragments', async (t) => {
  const world = new World({ mtu: 576 });
  const whole = icmpBytes(8, 0, 7, pattern(3000));
  for (let at = 0; at < whole.length; at += 1480) {
    const part = whole.subarray(at, at + 1480);
    const more = at + 1480 < whole.length ? ipv4.MORE_FRAGMENTS : 0;
    world.link.input([ipFrame(1, part, { fragment: more | (at / 8) })]);
  }
  const parts = replies(world);
  t.ok(parts.every(({ payload }) => payload.length <= 556));
  t.equal(new Set(parts.map(({ identification }) => identification)).size, 1);
  const joined = Buffer.concat(parts.map(({ payload }) => payload));
  t.same([...joined], [...icmpBytes(0, 0, 7, pattern(3000))]);
  t.same(
    parts.map(({ fragment }) => (fragment & 0x1fff) * 8),
    parts.map((_, i) => i * 552),
  );
  t.same(
    parts.map(({ fragment }) => (fragment & ipv4.MORE_FRAGMENTS) !== 0),
    [true, true, true, true, true, false],
  );
});

t.test('echo to others goes to the forwarder, which answers for them', async (t) => {
  const world = new World();
  world.link.input([icmpFrame(8, 0, (77 << 16) | 3, pattern(56), { to: '8.8.8.8' })]);
  t.same(world.forwarded, ['echo 77/3 192.168.65.3:0 > 8.8.8.8:0 56']);
  t.same(world.payloads[0], pattern(56));
  const request = {
    guestAddress: address('192.168.65.3'),
    peerAddress: address('8.8.8.8'),
    identifier: 77,
    sequence: 3,
  };
  t.ok(world.netstack.sendEchoReply(request, pattern(56)));
  const [answer] = replies(world);
  t.equal(answer!.source, '8.8.8.8');
  t.same(answer!.payload, icmpBytes(0, 0, (77 << 16) | 3, pattern(56)));
  t.equal(world.netstack.sendEchoReply({ ...request, guestAddress: address('192.168.65.99') }, pattern(1)), false);
});

t.test('ICMP that is broken or of no use here', async (t) => {
  const world = new World();
  const broken = icmpFrame(8, 0, 1, pattern(10));
  broken[40]! ^= 1;
  world.link.input([broken]);
  t.same(world.drops(), { 'icmp-checksum': 1 });
  world.link.input([broken], CHECKSUM_PARTIAL);
  t.equal(replies(world).length, 1);
  world.link.input([ipFrame(1, new Uint8Array(7)), icmpFrame(13, 0, 1, pattern(10)), icmpFrame(0, 0, 1, pattern(10))]);
  world.link.input([icmpFrame(3, 3, 0, pattern(27)), icmpFrame(3, 3, 0, Uint8Array.from([0x4f, ...pattern(40)]))]);
  world.link.input([icmpFrame(8, 0, 1, pattern(10), { to: '192.168.65.255' })]);
  t.same(replies(world), []);
  t.same(world.drops(), { 'icmp-checksum': 1, 'icmp-malformed': 3, 'icmp-type': 2, 'ipv4-destination': 1 });
});

t.test('RFC 1122 3.2.2: no error about an error, a later fragment or a broadcast', async (t) => {
  const world = new World();
  world.link.input([
    icmpFrame(11, 0, 0, pattern(40), { to: '10.0.0.1', hopLimit: 1 }),
    ipFrame(132, pattern(20), { to: '192.168.65.255' }),
    ipFrame(132, pattern(24), { to: '10.0.0.1', fragment: 100 }),
  ]);
  t.same(replies(world), []);
});

t.test('RFC 1812 4.3.2.8: errors are limited', async (t) => {
  const world = new World();
  const frame = ipFrame(132, pattern(20), { to: '10.0.0.1' });
  world.link.input(new Array(1000).fill(frame));
  t.equal(replies(world).length, 200);
  world.nowMs += 100;
  world.link.input(new Array(1000).fill(frame));
  t.equal(replies(world).length, 100);
  t.equal(world.drops()['icmp-rate'], 1700);
});

t.test(
  'UDP goes to its listener, else to the forwarder; to the gateway without a listener it is unreachable',
  async (t) => {
    const heard: string[] = [];
    const world = new World();
    const { netstack } = world;
    netstack.listenUdp(address('192.168.65.1'), 53, ({ guestPort, payload }) =>
      heard.push(`dns ${guestPort} ${payload.octets}`),
    );
    t.throws(() => netstack.listenUdp(address('192.168.65.1'), 53, () => undefined), { code: 'EADDRINUSE' });
    netstack.listenUdp(address('0.0.0.0'), 67, ({ guestAddress }) =>
      heard.push(`dhcp ${guestAddress.slice(12).join('.')}`),
    );
    const send = (port: number, options: FrameOptions): void =>
      world.link.input([udpFrame(999, port, pattern(30), options)]);
    send(53, {});
    send(53, { to: '8.8.8.8' });
    send(67, { from: '0.0.0.0', to: '255.255.255.255' });
    send(67, { to: '192.168.65.1' });
    t.same(heard, ['dns 999 30', 'dhcp 0.0.0.0', 'dhcp 192.168.65.3']);
    t.same(world.forwarded, ['udp 192.168.65.3:999 > 8.8.8.8:53 30']);
    t.same(replies(world), []);
    send(54, {});
    const [answer] = replies(world);
    t.same([...answer!.payload.subarray(0, 2)], [3, 3]);
    send(137, { to: '192.168.65.255' });
    t.same(world.drops(), { 'udp-no-listener': 2 });
    netstack.unlistenUdp(address('192.168.65.1'), 53);
    send(53, {});
    t.equal(replies(world).length, 1);
    send(5000, { to: '192.168.65.2' });
    t.equal(world.forwarded.at(-1), 'udp 192.168.65.3:999 > 192.168.65.2:5000 30', 'the host alias is the proxy’s');
  },
);

t.test('UDP that is broken; a checksum of zero is none', async (t) => {
  const world = new World();
  const good = udpFrame(1, 2, pattern(30), { to: '10.0.0.1' });
  const bad = good.slice();
  bad[50]! ^= 4;
  world.link.input([bad, ipFrame(17, new Uint8Array(7), { to: '10.0.0.1' })]);
  const length = good.slice();
  length[39] = 7;
  world.link.input([length]);
  length[39] = 200;
  world.link.input([length]);
  t.same(world.drops(), { 'udp-checksum': 1, 'udp-malformed': 3 });
  bad[40] = 0;
  bad[41] = 0;
  world.link.input([bad]);
  t.equal(world.forwarded.length, 1);
  // Shorter than what IP carried: the rest is padding.
  const padded = ipFrame(17, Uint8Array.from([...good.subarray(34), 1, 2, 3]), { to: '10.0.0.1' });
  world.link.input([padded], 0, 45);
  t.same(world.payloads.at(-1), pattern(30));
});

t.test('datagrams to the guest, from any address, in fragments where they must', async (t) => {
  const world = new World();
  world.link.input([udpFrame(9, 9, new Uint8Array(1), { to: '9.9.9.9' })]);
  const to = { guestAddress: address('192.168.65.3'), guestPort: 7, peerAddress: address('8.8.4.4'), peerPort: 53 };
  for (const octets of [0, 1, 1471, 1472, 1473, 9000, 65507]) {
    t.ok(world.netstack.sendUdp(to, pattern(octets)));
    const parts = replies(world);
    t.equal(parts.length, Math.max(1, Math.ceil((octets + 8) / 1480)), `${octets} octets`);
    const whole = Buffer.concat(parts.map(({ payload }) => payload));
    t.equal(transportChecksum('8.8.4.4', '192.168.65.3', 17, whole), 0);
    t.same(whole.subarray(8).equals(pattern(octets)), true);
    t.same([parts[0]!.source, parts[0]!.destination], ['8.8.4.4', '192.168.65.3']);
  }
  t.equal(world.netstack.sendUdp(to, pattern(65508)), false);
  t.same(world.drops(), { 'link-mtu': 1 });
});

t.test('unreachable, as the proxy asks for it', async (t) => {
  const asked: boolean[] = [];
  const world: World = new World({
    forwarder: {
      udp: (datagram) => asked.push(world.netstack.sendUnreachable('too-big', datagram, 1280)),
      echo: (request) => asked.push(world.netstack.sendUnreachable('host', request)),
    },
  });
  world.link.input([udpFrame(111, 222, pattern(5), { to: '10.0.0.1' })]);
  const [tooBig] = replies(world);
  t.same([...tooBig!.payload.subarray(0, 2)], [3, 4]);
  const view = new DataView(tooBig!.payload.buffer);
  t.equal(view.getUint16(6), 1280);
  t.equal(view.getUint16(8 + 20), 111);
  t.equal(view.getUint16(8 + 22), 222);
  t.equal(tooBig!.source, '192.168.65.1');
  world.link.input([icmpFrame(8, 0, (5 << 16) | 6, pattern(5), { to: '10.0.0.1' })]);
  const [host] = replies(world);
  t.same([...host!.payload.subarray(0, 2)], [3, 1]);
  t.same([...host!.payload.subarray(28, 29)], [8]);
  t.equal(new DataView(host!.payload.buffer).getUint32(32), (5 << 16) | 6);
  const about = {
    guestAddress: address('192.168.65.3'),
    guestPort: 1,
    peerAddress: address('10.0.0.1'),
    peerPort: 2,
    ingress: 1,
  };
  t.ok(world.netstack.sendUnreachable('port', about));
  t.equal(replies(world)[0]!.source, '10.0.0.1', 'as the far host itself would say it');
  t.ok(world.netstack.sendTimeExceeded(about, address('203.0.113.7')));
  const [expired] = replies(world);
  t.equal(expired!.source, '203.0.113.7', 'as the router further on');
  t.same([...expired!.payload.subarray(0, 2)], [11, 0]);
  t.equal(new DataView(expired!.payload.buffer).getUint32(28), (1 << 16) | 2);
  t.same(asked, [true, true]);
});
