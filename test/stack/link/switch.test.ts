/** The switch: who gets which frames, what a guest may not say, bounds, and links with and without offload. */

import * as fc from 'fast-check';
import t from 'tap';
import { CHECKSUM_PARTIAL, FrameBatch } from '../../../src/stack/frame-batch.ts';
import { Switch, type SwitchedLink } from '../../../src/stack/link/switch.ts';
import type { LinkOffload } from '../../../src/stack/port.ts';
import { parseAddress, parseSubnet } from '../../../src/stack/wire/address.ts';
import { BROADCAST, macToBytes } from '../../../src/stack/wire/ethernet.ts';
import { arenaOf, FakeLink } from '../fake-link.ts';
import { arpFrame, ethernetFrame, icmpFrame, ipFrame, pattern, udpFrame } from '../frames.ts';
import { address, GATEWAY_MAC } from '../world.ts';

const MACS = [0x02_00_00_00_01_00, 0x02_00_00_00_02_00, 0x02_00_00_00_03_00] as const;
const HOSTS = ['192.168.65.3', '192.168.65.4', '192.168.65.5'] as const;

/** Three guests on a switch, and the stack's side of it. */
class Lan {
  nowMs = 0;
  readonly links: FakeLink[] = [];
  readonly ports: SwitchedLink[] = [];
  /** Frames for the stack, by port. */
  readonly stack: Uint8Array[][] = [];
  readonly batches: FrameBatch[] = [];
  readonly events: string[] = [];
  readonly lan: Switch;

  constructor(options: { strict?: boolean; offload?: readonly LinkOffload[]; mtu?: readonly number[] } = {}) {
    this.lan = new Switch({
      clock: { nowMs: () => this.nowMs },
      macAddress: macToBytes(GATEWAY_MAC),
      own: ['192.168.65.1', '192.168.65.2', 'fd00::1'].map((text) => parseAddress(text)!),
      subnets: [parseSubnet('192.168.65.0/24')!, parseSubnet('fd00::/64')!],
      ...options,
    });
    for (let i = 0; i < 3; i++) {
      const link = new FakeLink(options.mtu?.[i] ?? 1500, options.offload?.[i]);
      const port = this.lan.plug(link);
      const seen: Uint8Array[] = [];
      port.start({
        input: (batch) => {
          this.batches.push(batch);
          for (let f = 0; f < batch.count; f++) {
            const bytes: number[] = [];
            for (let k = 0; k < batch.fragments[f]!; k++) {
              const fragment = batch.first[f]! + k;
              const at = batch.offset[fragment]!;
              bytes.push(...batch.arena[fragment]!.bytes.subarray(at, at + batch.length[fragment]!));
            }
            seen.push(Uint8Array.from(bytes));
          }
        },
        writable: () => void this.events.push(`writable ${i}`),
        deserted: () => void this.events.push(`deserted ${i}`),
        closed: () => void this.events.push(`closed ${i}`),
      });
      this.links.push(link);
      this.ports.push(port);
      this.stack.push(seen);
    }
  }

  /** Guest `i` sends; who has got how many frames: the stack, then each guest. */
  send(i: number, ...frames: Uint8Array[]): number[] {
    this.links[i]!.input(frames);
    return this.got();
  }

  got(): number[] {
    return [
      this.stack.reduce((sum, seen) => sum + seen.splice(0).length, 0),
      ...this.links.map((link) => link.take().length),
    ];
  }

  /** Everybody has been heard. */
  meet(): this {
    for (let i = 0; i < 3; i++) this.send(i, arpFrame(1, MACS[i]!, HOSTS[i]!, '192.168.65.1'));
    return this;
  }

  drops(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.lan.drops).filter(([, count]) => count > 0));
  }
}

const from = (i: number, to: number = GATEWAY_MAC) => ({
  sourceMac: MACS[i]!,
  destinationMac: to,
  from: HOSTS[i]!,
});
const udpTo = (i: number, j: number, octets = 10): Uint8Array =>
  udpFrame(1000, 2000, pattern(octets), { ...from(i, MACS[j]), to: HOSTS[j]! });

t.test('frames go where they belong, whole', async (t) => {
  const lan = new Lan();
  t.same(lan.send(0, arpFrame(1, MACS[0], HOSTS[0], HOSTS[1])), [1, 0, 1, 1], 'a question is for all');
  const answer = arpFrame(2, MACS[1], HOSTS[1], HOSTS[0], { destinationMac: MACS[0] });
  t.same(lan.send(1, answer), [0, 1, 0, 0]);
  lan.links[0]!.input([udpTo(0, 1), udpTo(0, 1, 1400)]);
  t.same(
    lan.links[1]!.take().map(({ bytes }) => bytes),
    [udpTo(0, 1), udpTo(0, 1, 1400)],
  );
  t.equal(lan.links[1]!.flushes, 2, 'one flush a batch');
  t.same(lan.got(), [0, 0, 0, 0]);
  t.same(lan.send(0, udpTo(0, 2)), [0, 0, 0, 0], 'nobody has heard of that one');
  t.same(lan.send(0, udpTo(0, 0)), [0, 0, 0, 0], 'nor to oneself');
  t.same(lan.drops(), { 'unknown-destination': 1 });
});

t.test('what is all for the stack passes as it came; of the rest it gets its part', async (t) => {
  const lan = new Lan().meet();
  const batch = new FrameBatch(8, 2);
  const ping = icmpFrame(8, 0, 1, pattern(400), from(0));
  for (let i = 0; i < 3; i++) {
    batch.push(arenaOf(ping), 0, 60);
    batch.extend(arenaOf(ping), 60, ping.length - 60);
  }
  lan.batches.length = 0;
  const [link] = lan.links;
  link!.deliver(batch);
  t.equal(lan.batches[0], batch);
  const other = udpTo(0, 1);
  batch.push(arenaOf(other), 0, other.length);
  batch.push(arenaOf(ping), 0, ping.length);
  lan.stack[0]!.length = 0;
  link!.deliver(batch);
  t.same(lan.stack[0], [ping, ping, ping, ping]);
  t.same(lan.got(), [4, 0, 1, 0]);
});

t.test('the network’s own business is shown to no other guest', async (t) => {
  const lan = new Lan().meet();
  const discover = udpFrame(68, 67, pattern(250), { ...from(0, BROADCAST), from: '0.0.0.0', to: '255.255.255.255' });
  t.same(lan.send(0, discover), [1, 0, 0, 0]);
  const renew = udpFrame(68, 67, pattern(250), { ...from(0, BROADCAST), to: '255.255.255.255' });
  t.same(lan.send(0, renew), [1, 0, 0, 0]);
  t.same(lan.send(0, udpFrame(68, 67, pattern(250), { ...from(0, MACS[1]), to: HOSTS[1] })), [0, 0, 0, 0]);
  const mdns = udpFrame(5353, 5353, pattern(20), { ...from(0, 0x01_00_5e_00_00_fb), to: '224.0.0.251' });
  t.same(lan.send(0, mdns), [1, 0, 1, 1]);
});

interface Ipv6Options {
  readonly source?: string;
  readonly target?: string;
  readonly extensions?: readonly number[];
  readonly next?: number;
  readonly destinationMac?: number;
}

const ipv6 = (i: number, payload: Uint8Array, next: number, options: Ipv6Options = {}): Uint8Array => {
  const { source = `fd00::${i + 3}`, extensions = [] } = options;
  const packet = new Uint8Array(40 + extensions.length + payload.length);
  packet[0] = 0x60;
  new DataView(packet.buffer).setUint16(4, extensions.length + payload.length);
  packet[6] = options.next ?? next;
  packet[7] = 255;
  packet.set(parseAddress(source)!, 8);
  packet.set(parseAddress('ff02::1')!, 24);
  packet.set(extensions, 40);
  packet.set(payload, 40 + extensions.length);
  return ethernetFrame(0x86dd, packet, {
    sourceMac: MACS[i]!,
    destinationMac: options.destinationMac ?? 0x33_33_00_00_00_01,
  });
};
const icmpv6 = (i: number, type: number, options: Ipv6Options = {}): Uint8Array =>
  ipv6(i, Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0, ...parseAddress(options.target ?? `fd00::${i + 3}`)!), 58, options);
/** A fragment header (RFC 8200 4.5) before ICMPv6. */
const fragment = (offset: number): number[] => [58, 0, offset >> 5, (offset << 3) | 1, 0, 0, 0, 9];

t.test('what a guest may not say', async (t) => {
  const cases: [what: string, frame: Uint8Array, reason: string][] = [
    ['another’s MAC address', udpFrame(1, 2, pattern(1), { ...from(0), sourceMac: MACS[1] }), 'source-mac'],
    ['the gateway’s', udpFrame(1, 2, pattern(1), { ...from(0), sourceMac: GATEWAY_MAC }), 'source-mac'],
    ['a group’s', udpFrame(1, 2, pattern(1), { ...from(0), sourceMac: BROADCAST }), 'source-mac'],
    ['none', udpFrame(1, 2, pattern(1), { ...from(0), sourceMac: 0 }), 'source-mac'],
    ['another’s address', udpFrame(1, 2, pattern(1), { ...from(0), from: HOSTS[1] }), 'source-address'],
    ['the gateway’s', udpFrame(1, 2, pattern(1), { ...from(0), from: '192.168.65.1' }), 'source-address'],
    ['the host alias’s', udpFrame(1, 2, pattern(1), { ...from(0), from: '192.168.65.2' }), 'source-address'],
    ['ARP: I am the gateway', arpFrame(2, MACS[0], '192.168.65.1', HOSTS[1]), 'arp-source'],
    ['ARP: I am another guest', arpFrame(2, MACS[0], HOSTS[1], HOSTS[2]), 'arp-source'],
    ['ARP: gratuitous', arpFrame(1, MACS[0], HOSTS[1], HOSTS[1]), 'arp-source'],
    ['ARP with another’s MAC', arpFrame(2, MACS[1], HOSTS[0], HOSTS[1], { sourceMac: MACS[0] }), 'arp-source'],
    ['ARP: an answer from nobody', arpFrame(2, MACS[0], '0.0.0.0', HOSTS[1]), 'arp-source'],
    ['DHCP offer', udpFrame(67, 68, pattern(250), { ...from(0, BROADCAST), to: '255.255.255.255' }), 'dhcp-answer'],
    ['DHCPv6 reply', ipv6(0, Uint8Array.of(2, 35, 2, 34, 0, 12, 0, 0, 0, 0, 0, 0), 17), 'dhcp-answer'],
    ['router advertisement', icmpv6(0, 134), 'router-advertisement'],
    ['redirect', icmpv6(0, 137), 'router-advertisement'],
    ['RA behind options', icmpv6(0, 134, { next: 0, extensions: [58, 0, 1, 4, 0, 0, 0, 0] }), 'router-advertisement'],
    ['RA in a fragment', icmpv6(0, 134, { next: 44, extensions: fragment(0) }), 'router-advertisement'],
    ['NS in a fragment', icmpv6(0, 135, { next: 44, extensions: fragment(0) }), 'header-chain'],
    ['a first fragment without a header', ipv6(0, Uint8Array.of(), 44, { extensions: fragment(0) }), 'header-chain'],
    ['options without an end', ipv6(0, Uint8Array.of(60, 9), 0), 'header-chain'],
    ['NA about another', icmpv6(0, 136, { target: 'fd00::4' }), 'neighbor-advertisement'],
    ['NA about the gateway', icmpv6(0, 136, { target: 'fd00::1' }), 'neighbor-advertisement'],
    ['another’s IPv6 address', icmpv6(0, 128, { source: 'fd00::4' }), 'source-address'],
    ['another’s link-local address', icmpv6(0, 128, { source: 'fe80::4' }), 'source-address'],
    ['other types', ethernetFrame(0x88cc, pattern(46), from(0, BROADCAST)), 'type'],
    ['a VLAN tag', ethernetFrame(0x8100, pattern(46), from(0, BROADCAST)), 'type'],
  ];
  const lan = new Lan().meet();
  for (const i of [1, 2]) lan.send(i, icmpv6(i, 136), icmpv6(i, 128, { source: `fe80::${i + 3}` }));
  for (const [what, frame, reason] of cases) {
    const before = lan.drops()[reason] ?? 0;
    t.same(lan.send(0, frame), [0, 0, 0, 0], what);
    t.equal(lan.drops()[reason], before + 1, `${what}: ${reason}`);
  }
});

t.test('what it may', async (t) => {
  const lan = new Lan().meet();
  for (const [what, frame, reached] of [
    ['an ARP probe', arpFrame(1, MACS[0], '0.0.0.0', '192.168.65.9'), [1, 0, 1, 1]],
    ['an announcement', arpFrame(1, MACS[0], HOSTS[0], HOSTS[0]), [1, 0, 1, 1]],
    ['a second address', udpFrame(1, 2, pattern(1), { ...from(0), from: '192.168.65.77' }), [1, 0, 0, 0]],
    [
      'a container’s to the world',
      udpFrame(1, 2, pattern(1), { ...from(0), from: '172.17.0.2', to: '1.1.1.1' }),
      [1, 0, 0, 0],
    ],
    ['but not to a guest', udpFrame(1, 2, pattern(1), { ...from(0, MACS[1]), from: '172.17.0.2' }), [0, 0, 0, 0]],
    ['a solicitation of routers', icmpv6(0, 133), [1, 0, 0, 0]],
    ['of neighbours', icmpv6(0, 135), [1, 0, 1, 1]],
    ['from nowhere', icmpv6(0, 135, { source: '::' }), [1, 0, 1, 1]],
    ['an advertisement of itself', icmpv6(0, 136), [1, 0, 1, 1]],
    ['a later fragment', icmpv6(0, 134, { next: 44, extensions: fragment(100) }), [1, 0, 1, 1]],
    ['a question to DHCPv6', ipv6(0, Uint8Array.of(2, 34, 2, 35, 0, 12, 0, 0, 0, 0, 0, 0), 17), [1, 0, 0, 0]],
  ] as const)
    t.same(lan.send(0, frame), reached, what);
});

t.test('a lease takes an address from whoever used it, and is kept to its MAC address', async (t) => {
  const lan = new Lan().meet();
  const asOther = udpFrame(1, 2, pattern(1), { ...from(0), from: '192.168.65.9' });
  t.same(lan.send(0, asOther, asOther), [2, 0, 0, 0]);
  lan.lan.bind(address('192.168.65.9'), lan.ports[1]!, macToBytes(MACS[1]));
  t.same(lan.send(0, asOther), [0, 0, 0, 0]);
  t.same(lan.send(1, udpFrame(1, 2, pattern(1), { ...from(1), from: '192.168.65.9' })), [1, 0, 0, 0]);
  const otherMac = { ...from(1), sourceMac: 0x02_00_00_00_02_01, from: '192.168.65.9' };
  t.same(lan.send(1, udpFrame(1, 2, pattern(1), otherMac)), [0, 0, 0, 0]);
  lan.lan.unbind(address('192.168.65.9'));
  lan.lan.unbind(address('192.168.65.10'));
  t.same(lan.send(0, asOther), [1, 0, 0, 0]);
});

t.test('strict: leases alone', async (t) => {
  const lan = new Lan({ strict: true });
  t.same(lan.send(0, udpTo(0, 1)), [0, 0, 0, 0]);
  t.same(lan.send(0, arpFrame(1, MACS[0], HOSTS[0], HOSTS[1])), [0, 0, 0, 0]);
  lan.lan.bind(address(HOSTS[0]), lan.ports[0]!, macToBytes(MACS[0]));
  t.same(lan.send(0, arpFrame(1, MACS[0], HOSTS[0], HOSTS[1])), [1, 0, 1, 1]);
  t.same(lan.send(0, icmpv6(0, 135, { source: 'fe80::1:3' })), [1, 0, 1, 1], 'nobody leases link-local addresses');
  t.same(lan.drops(), { 'source-address': 1, 'arp-source': 1 });
});

t.test('tables are bounded, and one guest cannot push another out', async (t) => {
  const lan = new Lan().meet();
  for (let i = 0; i < 5000; i++)
    lan.send(0, arpFrame(1, 0x02_00_00_10_00_00 + i, `192.168.65.${10 + (i % 240)}`, '192.168.65.1'));
  t.same(lan.send(2, udpTo(2, 1)), [0, 0, 1, 0]);
  t.same(lan.send(1, udpTo(1, 2)), [0, 0, 0, 1]);
  t.same(lan.send(2, udpTo(2, 0)), [0, 0, 0, 0], 'its own first MAC address has given way');
  t.ok((lan.drops().flood ?? 0) > 3000, 'broadcasts are limited');
  lan.nowMs += 1000;
  t.same(lan.send(0, arpFrame(1, MACS[0], HOSTS[0], HOSTS[1])), [1, 0, 1, 1]);
  // An address that gave way is whoever's comes next, and its former user's no more.
  t.same(lan.send(1, udpFrame(1, 2, pattern(1), { ...from(1), from: '192.168.65.100' })), [1, 0, 0, 0]);
});

t.test('a full link: its frames are kept, in order, and the stack waits behind them', async (t) => {
  const lan = new Lan().meet();
  const link = lan.links[1]!;
  link.room = 1;
  const frames = [10, 20, 3000, 40].map((octets) => udpTo(0, 1, octets));
  lan.send(0, frames[0]!);
  lan.links[0]!.input(frames.slice(1));
  t.same(lan.got(), [0, 0, 0, 0]);
  t.equal(lan.drops().mtu, 1);
  t.notOk(lan.ports[1]!.reserve(100));
  link.room = 1;
  link.writable();
  t.same(lan.events, []);
  t.same(
    link.take().map(({ bytes }) => bytes),
    [frames[1]],
  );
  link.room = 100;
  link.writable();
  t.same(lan.events, ['writable 1']);
  t.same(
    link.take().map(({ bytes }) => bytes),
    [frames[3]],
  );
  t.ok(lan.ports[1]!.reserve(100));
  link.room = 0;
  for (let i = 0; i < 2000; i++) lan.send(0, udpTo(0, 1, 1400));
  t.equal(lan.drops().full, 2000 - 1024);
});

t.test('a guest that has gone is forgotten', async (t) => {
  const lan = new Lan().meet();
  lan.lan.bind(address(HOSTS[1]), lan.ports[1]!, macToBytes(MACS[1]));
  lan.links[1]!.room = 0;
  lan.send(0, udpTo(0, 1));
  t.notOk(lan.ports[1]!.reserve(10));
  lan.links[1]!.room = 10;
  lan.links[1]!.desert();
  t.same(lan.events, ['writable 1', 'deserted 1']);
  t.same(lan.send(0, udpTo(0, 1)), [0, 0, 0, 0]);
  const asOther = udpFrame(1, 2, pattern(1), { ...from(0), from: HOSTS[1] });
  t.same(lan.send(0, asOther), [0, 0, 0, 0], 'the lease remains');
  t.same(lan.send(1, udpTo(1, 0)), [0, 1, 0, 0], 'and is there for whoever comes back');
  lan.links[1]!.gone();
  t.same(lan.send(0, asOther), [1, 0, 0, 0]);
  t.equal(lan.events.at(-1), 'closed 1');
  lan.ports[2]!.close();
  t.ok(lan.links[2]!.closed);
});

t.test('offload: left to a link that takes it, done for one that does not', async (t) => {
  const takes = { checksum: true, segmentOctets: 65535 };
  const lan = new Lan({ offload: [takes, takes, { checksum: false, segmentOctets: 0 }] }).meet();
  const payload = new Uint8Array(20 + 4000);
  payload[12] = 0x50;
  const send = (
    to: number,
    checksum: number,
    segmentOctets: number,
    body: Uint8Array = payload,
    protocol = 6,
  ): void => {
    const frame = ipFrame(protocol, body, { ...from(0, MACS[to]), to: HOSTS[to]! });
    const batch = new FrameBatch(1, 1);
    batch.push(arenaOf(frame), 0, frame.length, checksum, segmentOctets);
    lan.links[0]!.deliver(batch);
  };
  const shapes = (to: number) =>
    lan.links[to]!.take().map(({ bytes, checksumStart, checksumOffset, segmentOctets }) => [
      bytes.length,
      checksumStart,
      checksumOffset,
      segmentOctets,
    ]);
  send(1, CHECKSUM_PARTIAL, 1460);
  t.same(shapes(1), [[4054, 34, 16, 1460]]);
  send(2, CHECKSUM_PARTIAL, 1460);
  t.same(shapes(2), [
    [1514, 0, 0, 0],
    [1514, 0, 0, 0],
    [1134, 0, 0, 0],
  ]);
  send(1, CHECKSUM_PARTIAL, 0, pattern(50), 17);
  t.same(shapes(1), [[84, 34, 6, 0]]);
  send(2, CHECKSUM_PARTIAL, 0, pattern(50), 17);
  t.same(shapes(2), [[84, 0, 0, 0]]);
  send(2, CHECKSUM_PARTIAL, 3000);
  t.same(shapes(2), [[34 + 20 + 1000, 0, 0, 0]]);
  send(1, CHECKSUM_PARTIAL, 1460, pattern(50), 17);
  send(1, CHECKSUM_PARTIAL, 0, pattern(6), 6);
  t.same(shapes(1), []);
  t.same(lan.drops(), { mtu: 1, malformed: 2 });
});

t.test('no frame breaks it, and none passes from an address that is not the port’s', async () => {
  const octets = fc.oneof(
    fc.uint8Array({ maxLength: 100 }),
    fc
      .record({
        to: fc.constantFrom(...MACS, BROADCAST, GATEWAY_MAC),
        source: fc.constantFrom(...MACS, BROADCAST, 0),
        type: fc.constantFrom(0x0800, 0x0806, 0x86dd),
        body: fc.oneof(
          fc.uint8Array({ maxLength: 80 }),
          fc.constantFrom(...HOSTS).map((host) => ipFrame(17, pattern(20), { from: host }).slice(14)),
          fc.constantFrom(...HOSTS).map((host) => arpFrame(2, MACS[0], host, HOSTS[0]).slice(14)),
        ),
      })
      .map(({ to, source, type, body }) => ethernetFrame(type, body, { destinationMac: to, sourceMac: source })),
  );
  const sends = fc.array(
    fc.tuple(fc.nat(2), octets, fc.constantFrom(0, CHECKSUM_PARTIAL), fc.constantFrom(0, 0, 500)),
    { maxLength: 20 },
  );
  fc.assert(
    fc.property(sends, (steps) => {
      const lan = new Lan().meet();
      for (const [i, bytes, checksum, segmentOctets] of steps) {
        const batch = new FrameBatch(1, 1);
        batch.push(arenaOf(bytes.slice()), 0, bytes.length, checksum, segmentOctets);
        lan.links[i]!.deliver(batch);
        for (const [j, link] of lan.links.entries())
          for (const sent of link.take()) {
            const view = arenaOf(sent.bytes).view;
            const source = view.getUint16(6) * 2 ** 32 + view.getUint32(8);
            if (j === i) return false;
            if (MACS.some((mac, k) => mac === source && k !== i)) return false;
          }
      }
      return true;
    }),
    { numRuns: 500 },
  );
});
