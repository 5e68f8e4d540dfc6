/** RFC 5722, Handling of Overlapping IPv6 Fragments, by section. */

import t from 'tap';
import { pattern } from '../stack/frames.ts';
import { ipv6Frame, PEER, udp6Bytes } from '../stack/ipv6-frames.ts';
import { ipv6World } from './ipv6-replies.ts';

const whole = udp6Bytes(1, 2, pattern(792), { to: PEER });
const piece = (begin: number, end: number, bytes = whole): Uint8Array => {
  const field = begin | (end < whole.length ? 1 : 0);
  const header = Uint8Array.of(17, 0, field >> 8, field & 0xff, 0, 0, 0, 1);
  return ipv6Frame(17, bytes.subarray(begin, end), { to: PEER, chain: { first: 44, bytes: header } });
};

t.test('3: fragments that overlap lose the whole datagram, without a word', async (t) => {
  for (const [begin, end] of [
    [80, 160],
    [320, 480],
    [392, 408],
    [0, 408],
  ] as const) {
    const world = ipv6World();
    world.link.input([piece(0, 400)]);
    world.link.input([
      piece(
        begin,
        end,
        whole.map((octet) => octet ^ 1),
      ),
    ]);
    t.same(world.drops(), { 'fragment-overlap': 1 });
    world.poll();
    t.same(world.link.take(), []);
    world.link.input([piece(400, 800)]);
    t.same(world.payloads, []);
  }
});

t.test('3: the exact repetition of a fragment may be ignored (RFC 8200 4.5)', async (t) => {
  const world = ipv6World();
  world.link.input([piece(0, 400), piece(0, 400), piece(400, 800)]);
  t.same(world.payloads, [pattern(792)]);
});
