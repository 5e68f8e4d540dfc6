/** RFC 6946, Processing of IPv6 "Atomic" Fragments, by section. */

import t from 'tap';
import { pattern } from '../stack/frames.ts';
import { ipv6Frame, PEER, udp6Bytes } from '../stack/ipv6-frames.ts';
import { ipv6World } from './ipv6-replies.ts';

const piece = (field: number, bytes: Uint8Array): Uint8Array =>
  ipv6Frame(17, bytes, {
    to: PEER,
    chain: { first: 44, bytes: Uint8Array.of(17, 0, field >> 8, field & 0xff, 0, 0, 0, 1) },
  });

t.test(
  '4: a fragment that is all of its packet is taken by itself, whatever else has its identification',
  async (t) => {
    const world = ipv6World();
    const whole = udp6Bytes(1, 2, pattern(792), { to: PEER });
    world.link.input([
      piece(1, whole.subarray(0, 400)),
      piece(0, udp6Bytes(1, 2, pattern(16), { to: PEER })),
      piece(400, whole.subarray(400)),
    ]);
    t.same(world.payloads, [pattern(16), pattern(792)]);
    t.same(world.drops(), {});
  },
);
