/** RFC 8106, IPv6 Router Advertisement Options for DNS Configuration, by section. */

import t from 'tap';
import { advertisements, concat, GATEWAY, icmp6Frame, ip } from '../stack/ipv6-frames.ts';
import type { WorldOptions } from '../stack/world.ts';
import { ipv6World } from './ipv6-replies.ts';

/** The options of an advertisement by their type. */
function options(ipv6: WorldOptions['ipv6'] = {}): Map<number, Uint8Array> {
  const world = ipv6World({ ipv6 });
  world.link.input([icmp6Frame(133, 0, 0, [], { from: '::', to: 'ff02::2', hopLimit: 255 })]);
  const { payload } = advertisements(world)[0]!;
  const found = new Map<number, Uint8Array>();
  for (let at = 16; at < payload.length; at += payload[at + 1]! * 8)
    found.set(payload[at]!, payload.slice(at, at + payload[at + 1]! * 8));
  return found;
}

t.test('5.1: the gateway is the name server, for as long as it is the router', async (t) => {
  t.same(options().get(25), concat([25, 3, 0, 0, 0, 0, 0x07, 0x08], ip(GATEWAY)));
});

t.test('5.1: name servers that are asked for; none, and there is no option', async (t) => {
  const dnsServers = [ip('fd00::53'), ip('2001:db8::53')];
  t.same(options({ dnsServers }).get(25), concat([25, 5, 0, 0, 0, 0, 0x07, 0x08], ...dnsServers));
  t.equal(options({ dnsServers: [] }).get(25), undefined);
});

const searching = (...names: string[]): WorldOptions['ipv6'] => ({ searchDomains: () => names });

t.test('5.2: the search list, padded to 8 octets', async (t) => {
  t.same(
    options(searching('lan', 'example.org.')).get(31),
    concat(
      [31, 4, 0, 0, 0, 0, 0x07, 0x08],
      [3, ...Buffer.from('lan'), 0],
      [7, ...Buffer.from('example'), 3, ...Buffer.from('org'), 0],
      new Uint8Array(6),
    ),
  );
  t.equal(options().get(31), undefined);
});

t.test('5.2: what is no name, or too much for one packet, is left out', async (t) => {
  const long = 'x'.repeat(64);
  const many = Array.from({ length: 100 }, (_, i) => `${'y'.repeat(60)}${i}.example`);
  t.equal(options(searching('', '..', 'a..b', long, `a b.c`)).get(31), undefined);
  t.ok(options(searching(...many)).get(31)!.length <= 520);
});
