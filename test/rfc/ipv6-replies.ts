/** What the stack sends on a network with IPv6, read. */

import { GATEWAY, GUEST, replies6, solicitation } from '../stack/ipv6-frames.ts';
import { World, type WorldOptions } from '../stack/world.ts';

/** A world that has heard of the guest, and whose first advertisements are over. */
export function ipv6World(options: WorldOptions = {}): World {
  const world = new World({ ipv6: {}, ...options });
  world.advance(40_000);
  world.link.input([solicitation(GATEWAY, { from: GUEST })]);
  world.poll();
  world.link.take();
  return world;
}

/** Code and pointer of the parameter problems among what was sent. RFC 4443 3.4. */
export const problems = (world: World): number[][] =>
  replies6(world)
    .filter(({ protocol, payload }) => protocol === 58 && payload[0] === 4)
    .map(({ payload }) => [payload[1]!, new DataView(payload.buffer, payload.byteOffset).getUint32(4)]);
