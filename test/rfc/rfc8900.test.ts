/** RFC 8900, IP Fragmentation Considered Fragile: the attacks it lists, by section. */

import t from 'tap';
import * as ipv4 from '../../src/stack/wire/ipv4.ts';
import { ipFrame, pattern, udpBytes } from '../stack/frames.ts';
import { TcpScript } from '../stack/tcp/tcp-script.ts';
import { World } from '../stack/world.ts';

const PEER = '10.0.0.1';
const whole = udpBytes(1, 2, pattern(192), { to: PEER });
const part = (begin: number, end: number, bytes = whole, identification = 1): Uint8Array =>
  ipFrame(17, bytes.subarray(begin, end), {
    to: PEER,
    identification,
    fragment: (end < bytes.length ? ipv4.MORE_FRAGMENTS : 0) | (begin / 8),
  });

t.test('3.7: fragments that overlap lose the whole datagram', async (t) => {
  for (const frames of [
    [part(0, 80), part(72, 200)],
    [part(80, 200), part(0, 88)],
    [part(40, 80), part(0, 120), part(120, 200)],
    [part(0, 120), part(40, 80, new Uint8Array(200)), part(120, 200)],
  ]) {
    const world = new World();
    world.link.input(frames);
    t.same(world.forwarded, []);
    t.ok(world.drops()['fragment-overlap']! >= 1);
  }
});

t.test('3.7: tiny fragments: the header of a transport is not split', async (t) => {
  const s = new TcpScript(t);
  const segment = s.frame('S 0:0(0) <mss 1460>').subarray(34);
  for (const cut of [8, 16]) {
    s.world.link.input([
      ipFrame(6, segment.subarray(0, cut), { to: PEER, fragment: ipv4.MORE_FRAGMENTS }),
      ipFrame(6, segment.subarray(cut), { to: PEER, fragment: cut / 8 }),
    ]);
  }
  t.equal(s.world.dialled.length, 0);
  t.same(s.world.drops(), { 'fragment-malformed': 4 });
});

t.test('3.7: a flood of unfinished datagrams takes bounded memory, and the newest still arrive', async (t) => {
  const world = new World();
  for (let identification = 1; identification <= 5000; identification++)
    world.link.input([part(0, 80, whole, identification)]);
  world.link.input([part(80, 200, whole, 5000)]);
  t.equal(world.forwarded.length, 1);
  t.ok(world.drops()['fragment-evicted']! >= 5000 - 32);
});

t.test('3.7: fragments that come in an order that makes ever more holes are given up', async (t) => {
  const world = new World();
  const bytes = new Uint8Array(65_000);
  for (let at = 8; at < 64_000; at += 16) world.link.input([part(at, at + 8, bytes)]);
  t.ok(world.drops()['fragment-malformed']! > 0);
});

t.test('6.1: TCP does not rely on fragments: DF, and segments no larger than the MTU', async (t) => {
  for (const mtu of [576, 1500, 9000]) {
    const s = new TcpScript(t, { mtu });
    s.establish('<mss 65495>');
    s.write(50_000);
    s.world.poll();
    for (const { bytes } of s.world.link.take()) {
      t.ok(bytes.length <= mtu + 14);
      t.ok((((bytes[20]! << 8) | bytes[21]!) & ipv4.DONT_FRAGMENT) !== 0);
    }
  }
});
