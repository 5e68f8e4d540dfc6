/** RFC 815, IP Datagram Reassembly Algorithms: holes. By section. */

import t from 'tap';
import * as ipv4 from '../../src/stack/wire/ipv4.ts';
import { ipFrame, pattern, udpBytes } from '../stack/frames.ts';
import { World } from '../stack/world.ts';

const PEER = '10.0.0.1';
const whole = udpBytes(1, 2, pattern(792), { to: PEER });
const piece = (begin: number, end: number, identification = 1): Uint8Array =>
  ipFrame(17, whole.subarray(begin, end), {
    to: PEER,
    identification,
    fragment: (end < whole.length ? ipv4.MORE_FRAGMENTS : 0) | (begin / 8),
  });

t.test(
  '3: a fragment in the middle of a hole makes two of it, at its edges one, and one that fills it none',
  async (t) => {
    const world = new World();
    for (const [begin, end] of [
      [320, 400],
      [80, 160],
      [400, 480],
      [240, 320],
      [0, 80],
      [480, 800],
    ] as const)
      world.link.input([piece(begin, end)]);
    t.same(world.forwarded, []);
    world.link.input([piece(160, 240)]);
    t.same(world.payloads, [pattern(792)]);
  },
);

t.test('3: the last fragment says where the datagram ends, whenever it comes', async (t) => {
  for (const order of [
    [2, 0, 1],
    [0, 2, 1],
    [0, 1, 2],
  ]) {
    const world = new World();
    const parts = [piece(0, 320), piece(320, 640), piece(640, 800)];
    for (const index of order) world.link.input([parts[index]!]);
    t.same(world.payloads, [pattern(792)]);
  }
});

t.test('3: nothing may lie beyond the end, and there is one end', async (t) => {
  for (const frames of [
    [piece(640, 800), ipFrame(17, pattern(80), { to: PEER, fragment: ipv4.MORE_FRAGMENTS | 100 })],
    [piece(640, 800), ipFrame(17, pattern(80), { to: PEER, fragment: 100 })],
    [ipFrame(17, pattern(80), { to: PEER, fragment: ipv4.MORE_FRAGMENTS | 100 }), piece(640, 800)],
  ]) {
    const world = new World();
    world.link.input(frames);
    t.same(world.drops(), { 'fragment-overlap': 1 });
  }
});

t.test('5: a repetition is ignored', async (t) => {
  const world = new World();
  world.link.input([piece(0, 320), piece(0, 320), piece(640, 800), piece(640, 800), piece(320, 640)]);
  t.same(world.payloads, [pattern(792)]);
});

t.test('7: the memory of an unfinished datagram is given back when its time is over', async (t) => {
  const world = new World();
  for (let identification = 1; identification <= 20; identification++)
    world.link.input([piece(320, 640, identification)]);
  world.advance(60_000);
  t.same(world.drops(), { 'fragment-timeout': 20 });
  t.equal(world.netstack.pollAt(), Number.POSITIVE_INFINITY);
});
