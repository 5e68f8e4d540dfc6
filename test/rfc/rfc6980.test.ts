/** RFC 6980, Security Implications of IPv6 Fragmentation with IPv6 Neighbor Discovery, by section. */

import t from 'tap';
import {
  concat,
  GATEWAY,
  GUEST,
  icmp6Bytes,
  ip,
  ipv6Frame,
  linkLayer,
  replies6,
  solicited,
} from '../stack/ipv6-frames.ts';
import { ipv6World } from './ipv6-replies.ts';

t.test('5: neighbour discovery in fragments is ignored', async (t) => {
  const world = ipv6World();
  const options = { from: GUEST, to: solicited(GATEWAY), hopLimit: 255 };
  const message = icmp6Bytes(135, 0, 0, concat(ip(GATEWAY), linkLayer(1)), options);
  const piece = (begin: number, end: number): Uint8Array => {
    const field = begin | (end < message.length ? 1 : 0);
    const chain = { first: 44, bytes: Uint8Array.of(58, 0, 0, field, 0, 0, 0, 1) };
    return ipv6Frame(58, message.subarray(begin, end), { ...options, chain });
  };
  world.link.input([piece(0, 16), piece(16, 32)]);
  t.same(replies6(world), []);
  t.same(world.drops(), { 'ndp-malformed': 1 });
});
