/** RFC 4862, IPv6 Stateless Address Autoconfiguration, by section: what the router's side has to do with it. */

import t from 'tap';
import {
  ALIAS,
  advertisements,
  GATEWAY,
  groupMac,
  icmp6Frame,
  LINK_LOCAL,
  replies6,
  solicitation,
  solicited,
} from '../stack/ipv6-frames.ts';
import { ipv6World } from './ipv6-replies.ts';

const probe = (target: string): Uint8Array => solicitation(target, { from: '::', option: [] });

t.test('5.3: the gateway’s link-local address is made of its MAC address', async (t) => {
  const world = ipv6World();
  world.link.input([icmp6Frame(133, 0, 0, [], { from: '::', to: 'ff02::2', hopLimit: 255 })]);
  t.equal(advertisements(world)[0]!.source, LINK_LOCAL);
});

t.test('5.4.3: a probe for an address of ours is answered to all, so that whoever probed lets go of it', async (t) => {
  const world = ipv6World();
  for (const target of [GATEWAY, ALIAS, LINK_LOCAL]) {
    world.link.input([probe(target)]);
    const [answer] = replies6(world);
    t.same([answer!.source, answer!.destination], [target, 'ff02::1']);
    t.equal(answer!.destinationMac, groupMac('ff02::1'));
    t.equal(answer!.payload[4], 0xa0, 'not solicited: nobody is there to be told so');
  }
});

t.test('5.4.3: a probe for any other address is nobody’s business here', async (t) => {
  const world = ipv6World();
  world.link.input([probe('fd00:1:2:3::99'), probe('fe80::99')]);
  world.link.input([solicitation('fd00:1:2:3::99', { from: '::', option: [], to: solicited(GATEWAY) })]);
  t.same(replies6(world), []);
});

t.test('5.5.3: the prefix is one of 64 bits, and preferred for no longer than it is valid', async (t) => {
  const world = ipv6World();
  world.link.input([icmp6Frame(133, 0, 0, [], { from: '::', to: 'ff02::2', hopLimit: 255 })]);
  const { payload } = advertisements(world)[0]!;
  const view = new DataView(payload.buffer, payload.byteOffset + 32);
  t.same([view.getUint8(0), view.getUint8(2), view.getUint8(3) & 0x40], [3, 64, 0x40]);
  t.ok(view.getUint32(8) <= view.getUint32(4) && view.getUint32(4) >= 7200);
});
