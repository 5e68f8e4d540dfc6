/** RFC 5095, Deprecation of Type 0 Routing Headers in IPv6, by section. */

import t from 'tap';
import { pattern } from '../stack/frames.ts';
import { concat, ip, ipv6Frame, PEER, udp6Bytes } from '../stack/ipv6-frames.ts';
import { ipv6World, problems } from './ipv6-replies.ts';

const routed = (segmentsLeft: number): Uint8Array =>
  ipv6Frame(17, udp6Bytes(1, 2, pattern(8), { to: PEER }), {
    to: PEER,
    chain: { first: 43, bytes: concat([17, 2, 0, segmentsLeft, 0, 0, 0, 0], ip('2001:db8::99')) },
  });

t.test(
  '3: a routing header of type 0 with segments left is answered with parameter problem, and goes nowhere',
  async (t) => {
    const world = ipv6World();
    world.link.input([routed(1)]);
    t.same(problems(world), [[0, 42]]);
    t.same(world.forwarded, []);
    world.link.input([routed(0)]);
    t.equal(world.forwarded.length, 1, 'used up, it is passed over');
  },
);
