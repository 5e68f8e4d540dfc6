/** RFC 1812, Requirements for IP Version 4 Routers: what the gateway is to the guest. By section. */

import t from 'tap';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import * as ipv4 from '../../src/stack/wire/ipv4.ts';
import { icmpFrame, ipFrame, pattern, udpFrame } from '../stack/frames.ts';
import { TcpScript } from '../stack/tcp/tcp-script.ts';
import { address, World } from '../stack/world.ts';
import { replies } from './replies.ts';

const PEER = '10.0.0.1';

t.test('4.3.2.3: an error quotes as much as fits in 576 octets', async (t) => {
  const world = new World();
  world.link.input([ipFrame(99, pattern(20), { to: PEER }), ipFrame(99, pattern(1400), { to: PEER })]);
  const [small, large] = replies(world);
  t.equal(small!.payload.length, 8 + 40);
  t.equal(large!.payload.length + 20, 576);
});

t.test('4.3.2.3: as much is quoted of what is no longer at hand, made anew as it was', async (t) => {
  const world: World = new World({
    forwarder: {
      udp: (datagram) => world.netstack.sendTimeExceeded(datagram, address('203.0.113.7')),
      echo: (request) => world.netstack.sendUnreachable('host', request),
    },
  });
  for (const octets of [0, 1, 9, 519, 520, 521, 1400]) {
    const sent = [
      udpFrame(111, 222, pattern(octets), { to: PEER }),
      icmpFrame(8, 0, 0x0007_0009, pattern(octets), { to: PEER }),
    ];
    for (const frame of sent) world.link.input([frame], undefined, 64);
    for (const [i, { payload }] of replies(world).entries()) {
      const quoted = sent[i]!.subarray(34, 34 + 528);
      // Of what is not quoted whole, the sum is not known.
      if (octets > 520) quoted.fill(0, i === 0 ? 6 : 2, i === 0 ? 8 : 4);
      t.same(payload.subarray(28), quoted, `${octets} octets`);
      t.equal(new DataView(payload.buffer, payload.byteOffset).getUint16(10), 28 + octets, 'and its length told');
    }
  }
});

t.test('4.3.2.4: an error comes from the address of the gateway', async (t) => {
  const world = new World();
  world.link.input([udpFrame(1, 2, pattern(8), { to: PEER, hopLimit: 1 })]);
  t.equal(replies(world)[0]!.source, '192.168.65.1');
});

t.test(
  '4.3.2.7: no error about errors, broadcasts, multicasts, later fragments, or sources that are no host',
  async (t) => {
    const world = new World();
    world.link.input([
      icmpFrame(3, 1, 0, pattern(40), { to: PEER, hopLimit: 1 }),
      ipFrame(99, pattern(20), { to: '192.168.65.255' }),
      ipFrame(99, pattern(20), { to: '224.0.0.5' }),
      ipFrame(99, pattern(20), { to: PEER, destinationMac: ethernet.BROADCAST }),
      ipFrame(99, pattern(24), { to: PEER, fragment: 7 }),
      ipFrame(99, pattern(20), { to: PEER, from: '127.0.0.1' }),
      ipFrame(99, pattern(20), { to: PEER, from: '0.0.0.0' }),
    ]);
    t.same(replies(world), []);
  },
);

t.test('4.3.2.8: errors are limited in their rate; what is due beyond it is counted', async (t) => {
  const world = new World();
  const frame = ipFrame(99, pattern(20), { to: PEER });
  world.link.input(new Array(5000).fill(frame));
  const first = replies(world).length;
  t.ok(first >= 1 && first <= 1000);
  t.equal(world.drops()['icmp-rate'], 5000 - first);
  world.nowMs += 1000;
  world.link.input([frame]);
  t.equal(replies(world).length, 1, 'and soon sent again');
});

t.test('5.2.2: the header is checked first: length, checksum, version, its own length, total length', async (t) => {
  const good = udpFrame(1, 2, pattern(8), { to: PEER });
  for (const [at, value] of [
    [0, 0x65],
    [0, 0x44],
    [3, 10],
    [3, 200],
    [10, 0],
  ] as const) {
    const world = new World();
    const frame = good.slice();
    frame[14 + at] = value;
    if (at !== 10 && value !== 0x44) ipv4.fillChecksum(new DataView(frame.buffer), 14);
    world.link.input([frame, good.subarray(0, 33)]);
    t.same([world.forwarded, replies(world)], [[], []]);
  }
});

t.test('5.3.1: out of hops: dropped with time exceeded, on the way through only; traceroute works', async (t) => {
  for (const frame of [
    udpFrame(1, 33434, pattern(8), { to: PEER, hopLimit: 1 }),
    icmpFrame(8, 0, 1, pattern(8), { to: PEER, hopLimit: 1 }),
  ]) {
    const world = new World();
    world.link.input([frame]);
    const [answer] = replies(world);
    t.same([...answer!.payload.subarray(0, 2)], [11, 0]);
    t.same(answer!.payload.subarray(8), frame.subarray(14));
    t.same(world.forwarded, []);
  }
  const s = new TcpScript(t);
  const syn = s.frame('S 0:0(0)').subarray(34);
  s.world.link.input([ipFrame(6, syn, { to: PEER, hopLimit: 1 })]);
  t.same([...replies(s.world)[0]!.payload.subarray(0, 2)], [11, 0]);
  t.equal(s.world.dialled.length, 0);
  const own = new World();
  own.link.input([icmpFrame(8, 0, 1, pattern(8), { hopLimit: 1 })]);
  t.equal(replies(own)[0]!.payload[0], 0);
});

t.test('5.3.1: the hop limit reaches the forwarder, for the host’s own socket', async (t) => {
  const seen: number[] = [];
  const world = new World({
    forwarder: { udp: ({ hopLimit }) => seen.push(hopLimit), echo: ({ hopLimit }) => seen.push(hopLimit) },
  });
  world.link.input([
    udpFrame(1, 2, pattern(8), { to: PEER, hopLimit: 2 }),
    icmpFrame(8, 0, 1, pattern(8), { to: PEER, hopLimit: 7 }),
  ]);
  t.same(seen, [2, 7]);
});

t.test('5.3.7: martian sources and destinations are not forwarded', async (t) => {
  const world = new World();
  for (const from of ['0.1.2.3', '127.1.1.1', '224.1.1.1', '255.255.255.255'])
    world.link.input([udpFrame(1, 2, pattern(8), { from, to: PEER })]);
  for (const to of ['0.0.0.0', '0.1.2.3', '127.0.0.1', '127.255.255.254', '240.0.0.1'])
    world.link.input([udpFrame(1, 2, pattern(8), { to })]);
  t.same([world.forwarded, replies(world)], [[], []]);
  t.same(world.drops(), { 'ipv4-source': 4, 'ipv4-destination': 5 });
});

t.test('5.3.8: a source that claims to be the gateway is dropped', async (t) => {
  const world = new World();
  for (const from of ['192.168.65.1', '192.168.65.2'])
    world.link.input([udpFrame(1, 2, pattern(8), { from, to: PEER })]);
  t.same(world.drops(), { 'ipv4-source': 2 });
});
