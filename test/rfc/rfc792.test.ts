/** RFC 792, Internet Control Message Protocol, by message. */

import t from 'tap';
import { finish, sum } from '../../src/stack/wire/checksum.ts';
import { icmpBytes, icmpFrame, ipFrame, pattern, udpFrame } from '../stack/frames.ts';
import { address, World } from '../stack/world.ts';
import { replies } from './replies.ts';

const PEER = '10.0.0.1';
const sumOf = (bytes: Uint8Array): number =>
  finish(sum(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0, bytes.length));

t.test('Destination Unreachable: header and 64 bits of what could not be delivered, with a checksum', async (t) => {
  const asked: ('network' | 'host' | 'port' | 'prohibited' | 'too-big')[] = [
    'network',
    'host',
    'port',
    'too-big',
    'prohibited',
  ];
  const codes = [0, 1, 3, 4, 13];
  for (const [i, kind] of asked.entries()) {
    const world: World = new World({
      forwarder: { udp: (datagram) => world.netstack.sendUnreachable(kind, datagram, 1400) },
    });
    world.link.input([udpFrame(111, 222, pattern(8), { to: PEER })]);
    const [answer] = replies(world);
    t.same([...answer!.payload.subarray(0, 2)], [3, codes[i]]);
    t.equal(sumOf(answer!.payload), 0);
    t.equal(answer!.source, kind === 'port' ? PEER : '192.168.65.1');
    const quoted = new DataView(answer!.payload.buffer, answer!.payload.byteOffset + 8);
    t.equal(quoted.getUint8(9), 17);
    t.equal(quoted.getUint32(16), 0x0a000001);
    t.same([quoted.getUint16(20), quoted.getUint16(22)], [111, 222]);
  }
});

t.test('Time Exceeded: code 0 in transit, code 1 for fragments', async (t) => {
  const world = new World();
  world.link.input([udpFrame(1, 2, pattern(8), { to: PEER, hopLimit: 1 })]);
  t.same([...replies(world)[0]!.payload.subarray(0, 2)], [11, 0]);
  world.link.input([ipFrame(17, pattern(80), { to: PEER, fragment: 0x2000 })]);
  world.advance(60_000);
  t.same([...replies(world)[0]!.payload.subarray(0, 2)], [11, 1]);
});

t.test('Source Quench, Redirect: discarded', async (t) => {
  const world = new World();
  world.link.input([icmpFrame(4, 0, 0, pattern(40)), icmpFrame(5, 1, 0x0a000002, pattern(40))]);
  t.same(replies(world), []);
  t.same(world.drops(), { 'icmp-type': 2 });
});

t.test('Echo: addresses reversed, type 0, the rest as it came, the checksum made anew', async (t) => {
  for (const octets of [0, 1, 55, 1472]) {
    const world = new World();
    world.link.input([icmpFrame(8, 0, 0x1234_5678, pattern(octets))]);
    const [answer] = replies(world);
    t.same([answer!.source, answer!.destination], ['192.168.65.1', '192.168.65.3']);
    t.same(answer!.payload, icmpBytes(0, 0, 0x1234_5678, pattern(octets)));
    t.equal(sumOf(answer!.payload), 0);
  }
});

t.test('Echo: to others it is forwarded, and the reply comes from them', async (t) => {
  const world = new World();
  world.link.input([icmpFrame(8, 0, (77 << 16) | 3, pattern(56), { to: '8.8.8.8' })]);
  t.same(replies(world), [], 'no answer is forged');
  t.same(world.forwarded, ['echo 77/3 192.168.65.3:0 > 8.8.8.8:0 56']);
  const request = {
    guestAddress: address('192.168.65.3'),
    peerAddress: address('8.8.8.8'),
    identifier: 77,
    sequence: 3,
  };
  world.netstack.sendEchoReply(request, pattern(56));
  t.equal(replies(world)[0]!.source, '8.8.8.8');
});

t.test('Echo: a wrong checksum is dropped', async (t) => {
  const world = new World();
  const frame = icmpFrame(8, 0, 1, pattern(8));
  frame[frame.length - 1]! ^= 1;
  world.link.input([frame]);
  t.same(replies(world), []);
});
