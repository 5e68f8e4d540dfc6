/** RFC 7112, Implications of Oversized IPv6 Header Chains, by section. */

import t from 'tap';
import { pattern } from '../stack/frames.ts';
import { ipv6Frame, PEER, udp6Bytes } from '../stack/ipv6-frames.ts';
import { ipv6World, problems } from './ipv6-replies.ts';

t.test('5: a first fragment without all headers is dropped, and answered with parameter problem, code 3', async (t) => {
  const world = ipv6World();
  const chain = Uint8Array.of(60, 0, 0, 1, 0, 0, 0, 1, 17, 0, 1, 4, 0, 0, 0, 0);
  world.link.input([ipv6Frame(60, new Uint8Array(0), { to: PEER, chain: { first: 44, bytes: chain } })]);
  world.link.input([ipv6Frame(60, Uint8Array.of(17, 9, 0, 0, 0, 0, 0, 0), { to: PEER })]);
  t.same(problems(world), [
    [3, 0],
    [3, 0],
  ]);
  t.same(world.forwarded, []);
});

t.test('5: one that has them all is kept', async (t) => {
  const world = ipv6World();
  const chain = Uint8Array.of(60, 0, 0, 1, 0, 0, 0, 1, 17, 0, 1, 4, 0, 0, 0, 0);
  const whole = udp6Bytes(1, 2, pattern(92), { to: PEER });
  const rest = Uint8Array.of(60, 0, 0, 48, 0, 0, 0, 1);
  world.link.input([
    ipv6Frame(60, whole.subarray(0, 40), { to: PEER, chain: { first: 44, bytes: chain } }),
    ipv6Frame(60, whole.subarray(40), { to: PEER, chain: { first: 44, bytes: rest } }),
  ]);
  t.same(world.payloads, [pattern(92)]);
});
