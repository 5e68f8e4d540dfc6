/** What the stack sends, read. */

import { type IpPacket, readIp } from '../stack/frames.ts';
import type { World } from '../stack/world.ts';

export function replies(world: World): IpPacket[] {
  world.poll();
  return world.link.take().map(({ bytes }) => readIp(bytes));
}
