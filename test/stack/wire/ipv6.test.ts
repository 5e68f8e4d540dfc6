/** IPv6, its extension headers, ICMPv6 and neighbour discovery: against tshark, by the RFCs' rules, and against any octets. */

import fc from 'fast-check';
import t from 'tap';
import { formatAddress } from '../../../src/stack/wire/address.ts';
import { finish, sum } from '../../../src/stack/wire/checksum.ts';
import * as ethernet from '../../../src/stack/wire/ethernet.ts';
import { BAD_FORMAT, BAD_LENGTH, BAD_VERSION, SOUND, TOO_SHORT } from '../../../src/stack/wire/fault.ts';
import * as icmpv6 from '../../../src/stack/wire/icmpv6.ts';
import * as ipv6 from '../../../src/stack/wire/ipv6.ts';
import * as extension from '../../../src/stack/wire/ipv6-extension.ts';
import * as ndp from '../../../src/stack/wire/ndp.ts';
import { differencesToTshark, tshark } from './tshark.ts';

const u8 = fc.nat(0xff);
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffff_ffff);
// Global unicast only: tshark writes mapped and other special forms in its own ways.
const address = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => {
  bytes[0] = 0x20;
  return bytes;
});
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
const room = (octets = 2048): { bytes: Uint8Array; view: DataView } => {
  const bytes = new Uint8Array(octets).fill(0xa5);
  return { bytes, view: viewOf(bytes) };
};

interface Header {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly trafficClass: number;
  readonly flowLabel: number;
  readonly hopLimit: number;
}
const header: fc.Arbitrary<Header> = fc.record({
  source: address,
  destination: address,
  trafficClass: u8,
  flowLabel: fc.nat(0xf_ffff),
  hopLimit: u8,
});

t.test('the header: emit, parse, check', async (t) => {
  fc.assert(
    fc.property(fc.nat(5), header, u8, fc.nat(1000), (at, h, next, payload) => {
      const { bytes, view } = room();
      ipv6.emit(view, at, payload, next, h.hopLimit, h.source, h.destination, h.trafficClass, h.flowLabel);
      const back = new Uint8Array(16);
      ipv6.address(view, at + ipv6.SOURCE, back);
      const words = [0, 1, 2, 3].map((i) => ipv6.destinationWord(view, at, i));
      const sourceWords = [0, 1, 2, 3].map((i) => ipv6.sourceWord(view, at, i));
      return (
        ipv6.trafficClass(view, at) === h.trafficClass &&
        ipv6.flowLabel(view, at) === h.flowLabel &&
        ipv6.payloadLength(view, at) === payload &&
        ipv6.nextHeader(view, at) === next &&
        ipv6.hopLimit(view, at) === h.hopLimit &&
        Buffer.compare(back, h.source) === 0 &&
        words.every((word, i) => word === viewOf(h.destination).getInt32(4 * i)) &&
        sourceWords.every((word, i) => word === viewOf(h.source).getInt32(4 * i)) &&
        ipv6.check(view, at, 40 + payload) === SOUND &&
        ipv6.check(view, at, 39 + payload) === (payload === 0 ? TOO_SHORT : BAD_LENGTH) &&
        ipv6.check(view, at, 40 + payload, 39) === TOO_SHORT &&
        // Nothing else is written.
        bytes.subarray(0, at).every((octet) => octet === 0xa5) &&
        bytes[at + 40] === 0xa5
      );
    }),
  );
  const { view } = room();
  view.setUint8(0, 0x45);
  t.equal(ipv6.check(view, 0, 100), BAD_VERSION);
});

/** ICMPv6 in a frame, with extension headers before it, and its checksum right. */
function frameOf(h: Header, next: number, chain: Uint8Array, message: Uint8Array): Uint8Array {
  const frame = new Uint8Array(14 + 40 + chain.length + message.length);
  const view = viewOf(frame);
  ethernet.emit(view, 0, 0x02_00_00_00_00_01, 0x02_00_00_00_00_02, ethernet.TYPE_IPV6);
  const payload = chain.length + message.length;
  ipv6.emit(view, 14, payload, next, h.hopLimit, h.source, h.destination, h.trafficClass, h.flowLabel);
  frame.set(chain, 54);
  const at = 54 + chain.length;
  frame.set(message, at);
  icmpv6.setChecksum(view, at, 0);
  const pseudo = ipv6.pseudoHeaderSum(view, 14, ipv6.PROTOCOL_ICMPV6, message.length);
  icmpv6.setChecksum(view, at, finish(pseudo + sum(view, at, message.length)));
  return frame;
}

const emitted = (emit: (view: DataView) => number): Uint8Array => {
  const { bytes, view } = room();
  return bytes.slice(0, emit(view));
};

const echo = fc
  .tuple(fc.constantFrom(128, 129), u16, u16, fc.uint8Array({ maxLength: 40 }))
  .map(([type, identifier, sequence, data]) => ({
    message: emitted((view) => {
      icmpv6.emitEcho(view, 0, type, identifier, sequence);
      for (const [i, octet] of data.entries()) view.setUint8(8 + i, octet);
      return 8 + data.length;
    }),
    says: {
      'icmpv6.type': type,
      'icmpv6.echo.identifier': `0x${identifier.toString(16).padStart(4, '0')}`,
      'icmpv6.echo.sequence_number': sequence,
    },
  }));
const tooBig = u32.map((mtu) => ({
  message: emitted((view) => {
    icmpv6.emit(view, 0, icmpv6.PACKET_TOO_BIG, 0, mtu);
    return 8;
  }),
  says: { 'icmpv6.type': 2, 'icmpv6.code': 0, 'icmpv6.mtu': mtu },
}));
const problem = fc.tuple(fc.nat(3), u32).map(([code, pointer]) => ({
  message: emitted((view) => {
    icmpv6.emit(view, 0, icmpv6.PARAMETER_PROBLEM, code, pointer);
    return 8;
  }),
  says: { 'icmpv6.type': 4, 'icmpv6.code': code, 'icmpv6.pointer': pointer },
}));
const mac = fc.nat(0xffff_ffff_ffff);
const neighbor = fc.tuple(fc.boolean(), address, mac, fc.nat(7)).map(([solicits, target, mac, bits]) => ({
  message: emitted((view) => {
    const flags = (bits << 29) >>> 0;
    const octets = solicits
      ? ndp.emitNeighborSolicitation(view, 0, target)
      : ndp.emitNeighborAdvertisement(view, 0, flags, target);
    return octets + ndp.emitLinkLayer(view, octets, solicits ? ndp.SOURCE_LINK_LAYER : ndp.TARGET_LINK_LAYER, mac);
  }),
  says: {
    'icmpv6.type': solicits ? 135 : 136,
    [solicits ? 'icmpv6.nd.ns.target_address' : 'icmpv6.nd.na.target_address']: formatAddress(target),
    'icmpv6.opt.linkaddr': ethernet.formatMac(mac),
    ...(!solicits && {
      'icmpv6.nd.na.flag.r': bits >> 2,
      'icmpv6.nd.na.flag.s': (bits >> 1) & 1,
      'icmpv6.nd.na.flag.o': bits & 1,
    }),
  },
}));
const router = fc
  .record({
    hops: u8,
    managed: fc.boolean(),
    other: fc.boolean(),
    lifetime: u16,
    prefix: address,
    length: fc.nat(128),
    valid: u32,
    preferred: u32,
    mtu: u32,
    servers: fc.array(address, { minLength: 1, maxLength: 3 }),
    serversFor: u32,
    names: fc.array(fc.array(fc.stringMatching(/^[a-z]{1,9}$/), { minLength: 2, maxLength: 3 }), {
      minLength: 1,
      maxLength: 2,
    }),
  })
  .map((r) => ({
    message: emitted((view) => {
      const flags = (r.managed ? ndp.MANAGED : 0) | (r.other ? ndp.OTHER : 0);
      let at = ndp.emitRouterAdvertisement(view, 0, r.hops, flags, r.lifetime);
      at += ndp.emitPrefix(view, at, r.prefix, r.length, ndp.ON_LINK | ndp.AUTONOMOUS, r.valid, r.preferred);
      at += ndp.emitLinkMtu(view, at, r.mtu);
      at += ndp.emitDnsServers(view, at, r.serversFor, r.servers);
      const names = r.names.flatMap((labels) => [
        ...labels.flatMap((label) => [label.length, ...Buffer.from(label)]),
        0,
      ]);
      return at + ndp.emitDnsSearch(view, at, r.serversFor, Uint8Array.from(names));
    }),
    says: {
      'icmpv6.type': 134,
      'icmpv6.nd.ra.cur_hop_limit': r.hops,
      'icmpv6.nd.ra.flag.m': r.managed ? 1 : 0,
      'icmpv6.nd.ra.flag.o': r.other ? 1 : 0,
      'icmpv6.nd.ra.router_lifetime': r.lifetime,
      'icmpv6.opt.prefix': formatAddress(r.prefix),
      'icmpv6.opt.prefix.length': r.length,
      'icmpv6.opt.prefix.valid_lifetime': r.valid,
      'icmpv6.opt.prefix.preferred_lifetime': r.preferred,
      'icmpv6.opt.mtu': r.mtu,
      'icmpv6.opt.rdnss': r.servers.map(formatAddress).join(','),
      'icmpv6.opt.rdnss.lifetime': r.serversFor,
      'icmpv6.opt.dnssl': r.names.map((labels) => labels.join('.')).join(','),
    },
  }));

/** Extension headers that are sound, and how a chain of them begins. */
interface Headers {
  readonly first: number;
  readonly bytes: Uint8Array;
}
const options = fc
  .array(fc.tuple(fc.constantFrom(0, 1, 0x1e, 0x3e), fc.uint8Array({ maxLength: 12 })), { maxLength: 6 })
  .map((all) => {
    const bytes = all.flatMap(([type, data]) => (type === 0 ? [0] : [type, data.length, ...data]));
    while ((bytes.length + 2) % 8 !== 0) bytes.push(0);
    return bytes;
  });
const chain: fc.Arbitrary<Headers> = fc
  .tuple(fc.option(options), fc.option(fc.nat(255)), fc.option(options))
  .map(([hopByHop, routing, destination]) => {
    const headers: [kind: number, rest: number[]][] = [];
    if (hopByHop) headers.push([extension.HOP_BY_HOP, hopByHop]);
    if (routing !== null) headers.push([extension.ROUTING, [253, 0, routing, 0, 0, 0]]);
    if (destination) headers.push([extension.DESTINATION_OPTIONS, destination]);
    const bytes = headers.flatMap(([, rest], i) => [headers[i + 1]?.[0] ?? 58, (rest.length + 2) / 8 - 1, ...rest]);
    return { first: headers[0]?.[0] ?? 58, bytes: Uint8Array.from(bytes) };
  });

t.test('tshark reads what is emitted', async (t) => {
  const packet = fc.tuple(header, chain, fc.oneof(echo, tooBig, problem, neighbor, router));
  const seed = Date.now() % 2 ** 31;
  const all = fc.sample(packet, { numRuns: 300, seed }).map(([h, { first, bytes }, { message, says }]) => {
    const walked = new extension.Chain();
    if (walked.walk(viewOf(bytes), 0, first, bytes.length) !== extension.SOUND) throw new Error('the chain is sound');
    if (walked.octets !== bytes.length || walked.protocol !== 58) throw new Error(`walked ${walked.octets} octets`);
    const discovery = ndp.messageOctets(message[0]!) > 0;
    if (discovery && ndp.check(viewOf(message), 0, message.length) !== SOUND) throw new Error('the message is sound');
    return {
      frame: frameOf(discovery ? { ...h, hopLimit: 255 } : h, first, bytes, message),
      says: {
        'ipv6.src': formatAddress(h.source),
        'ipv6.dst': formatAddress(h.destination),
        'ipv6.tclass': `0x${h.trafficClass.toString(16).padStart(8, '0')}`,
        'ipv6.flow': `0x${h.flowLabel.toString(16).padStart(6, '0')}`,
        'ipv6.plen': bytes.length + message.length,
        'ipv6.nxt': first,
        'ipv6.hlim': discovery ? 255 : h.hopLimit,
        'icmpv6.checksum.status': 1,
        ...says,
      } as Record<string, string | number>,
    };
  });
  t.same(differencesToTshark(all).slice(0, 5), [], `seed ${seed}`);
});

t.test('fragment headers, and tshark’s view of them', async (t) => {
  const fragments = fc.sample(fc.tuple(header, u8, fc.nat(8191), fc.boolean(), u32), { numRuns: 50, seed: 6 });
  const frames = fragments.map(([h, next, offset, more, identification]) => {
    const bytes = new Uint8Array(14 + 40 + 8 + 16);
    const view = viewOf(bytes);
    ethernet.emit(view, 0, 1, 2, ethernet.TYPE_IPV6);
    ipv6.emit(view, 14, 24, extension.FRAGMENT, h.hopLimit, h.source, h.destination);
    extension.emitFragment(view, 54, next, offset * 8, more, identification);
    const walked = new extension.Chain();
    t.equal(
      walked.walk(view, 54, extension.FRAGMENT, 8),
      next === extension.FRAGMENT && offset === 0 ? 1 : walked.finding,
    );
    t.same([walked.fragmentAt, extension.fragmentOffset(view, 54)], [0, offset * 8]);
    t.same([extension.moreFragments(view, 54), extension.identification(view, 54)], [more, identification]);
    return bytes;
  });
  const read = tshark(frames, ['ipv6.fraghdr.nxt', 'ipv6.fraghdr.offset', 'ipv6.fraghdr.more', 'ipv6.fraghdr.ident']);
  t.same(
    read,
    fragments.map(([, next, offset, more, identification]) => [
      String(next),
      String(offset),
      more ? '1' : '0',
      `0x${identification.toString(16).padStart(8, '0')}`,
    ]),
  );
});

t.test('RFC 8200 4: what is wrong with a chain, and what is to be done', async (t) => {
  const option = (type: number): number[] => [58, 0, type, 2, 0, 0, 1, 0];
  for (const [what, first, bytes, finding, code, pointer] of [
    ['an option to skip', 60, option(0x1e), 0, 0, 0],
    ['an option to discard for', 60, option(0x5e), extension.DISCARD, 0, 0],
    ['an option to complain of', 60, option(0x9e), extension.PROBLEM, 2, 2],
    ['unless multicast', 0, option(0xde), extension.PROBLEM_UNLESS_MULTICAST, 2, 2],
    ['an option beyond its header', 60, [58, 0, 1, 9, 0, 0, 0, 0], extension.PROBLEM, 0, 2],
    ['an option cut short', 60, [58, 0, 1, 3, 0, 0, 0, 7], extension.PROBLEM, 0, 7],
    ['hop-by-hop options twice', 0, [0, 0, 1, 4, 0, 0, 0, 0, ...option(0)], extension.PROBLEM, 1, 0],
    ['hop-by-hop options second', 60, [0, 0, 1, 4, 0, 0, 0, 0, ...option(0)], extension.PROBLEM, 1, 0],
    ['a route not used up', 43, [58, 0, 0, 1, 0, 0, 0, 0], extension.PROBLEM, 0, 2],
    ['a route used up', 43, [58, 0, 0, 0, 0, 0, 0, 0], 0, 0, 0],
    ['a header cut short', 60, [58, 1, 1, 4, 0, 0, 0, 0], extension.PROBLEM, 3, 0],
    ['nothing at all', 60, [], extension.PROBLEM, 3, 0],
    ['a fragment of a fragment', 44, [44, 0, 0, 1, 0, 0, 0, 1, 58, 0, 0, 0, 0, 0, 0, 1], extension.DISCARD, 0, 0],
    ['a chain without end', 60, new Array(20).fill([60, 0, 1, 4, 0, 0, 0, 0]).flat(), extension.DISCARD, 0, 0],
    ['options without end', 60, [58, 9, ...new Array(39).fill([5, 0]).flat()], extension.DISCARD, 0, 0],
  ] as [string, number, number[], number, number, number][]) {
    const walked = new extension.Chain();
    t.equal(walked.walk(viewOf(Uint8Array.from(bytes)), 0, first, bytes.length), finding, what);
    t.same([walked.finding, walked.code, walked.pointer], [finding, code, pointer], what);
  }
});

t.test('RFC 4861: what is no message', async (t) => {
  const message = (type: number, octets: number, ...options: number[]): Uint8Array =>
    Uint8Array.of(type, 0, ...new Uint8Array(octets - 2), ...options);
  const check = (bytes: Uint8Array): number => ndp.check(viewOf(bytes), 0, bytes.length);
  t.equal(check(message(134, 16)), SOUND);
  t.equal(check(message(134, 16, 1, 1, 0, 0, 0, 0, 0, 0)), SOUND);
  t.equal(check(message(134, 15)), TOO_SHORT);
  t.equal(check(Uint8Array.of(134, 0)), TOO_SHORT);
  t.equal(check(message(128, 16)), BAD_FORMAT);
  t.equal(check(Uint8Array.of(135, 1, ...new Uint8Array(22))), BAD_FORMAT, 'code 0 alone');
  t.equal(check(message(133, 8, 1, 0, 0, 0, 0, 0, 0, 0)), BAD_LENGTH, 'an option of length 0');
  t.equal(check(message(137, 40, 1, 2, 0, 0, 0, 0, 0, 0)), BAD_LENGTH, 'an option beyond the end');
  t.equal(check(message(136, 24, 1)), BAD_LENGTH, 'half an option');
  const two = message(134, 16, 9, 1, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0, 0, 5, 220);
  t.equal(ndp.option(viewOf(two), 0, two.length, ndp.LINK_MTU), 24);
  t.equal(ndp.linkMtu(viewOf(two), 24), 1500);
  t.equal(ndp.optionOctets(viewOf(two), 24), 8);
  t.equal(ndp.option(viewOf(two), 0, two.length, ndp.DNS_SERVERS), -1);
  const prefix = message(134, 16, ...emitted((view) => ndp.emitPrefix(view, 0, new Uint8Array(16), 64, 0xc0, 7, 5)));
  const at = ndp.option(viewOf(prefix), 0, prefix.length, ndp.PREFIX_INFORMATION);
  t.same(
    [ndp.prefixLength, ndp.prefixFlags, ndp.validLifetime, ndp.preferredLifetime].map((read) =>
      read(viewOf(prefix), at),
    ),
    [64, 0xc0, 7, 5],
  );
});

t.test('ICMPv6 headers', async (t) => {
  const { view } = room();
  icmpv6.emitEcho(view, 3, icmpv6.ECHO_REQUEST, 0xabcd, 0xfffe);
  t.same(
    [icmpv6.type, icmpv6.code, icmpv6.checksum, icmpv6.identifier, icmpv6.sequence].map((read) => read(view, 3)),
    [128, 0, 0, 0xabcd, 0xfffe],
  );
  icmpv6.emit(view, 3, icmpv6.PACKET_TOO_BIG, 0, 1280);
  t.same([icmpv6.mtu(view, 3), icmpv6.pointer(view, 3)], [1280, 1280]);
  t.same([icmpv6.check(7), icmpv6.check(8)], [TOO_SHORT, SOUND]);
  t.same([1, 127, 128].map(icmpv6.isError), [true, true, false]);
});

t.test('no octets make a check throw or a walk go on for ever', async () => {
  const octets = fc.oneof(
    fc.uint8Array({ maxLength: 120 }),
    fc.array(fc.constantFrom(0, 1, 43, 44, 58, 60, 255), { maxLength: 120 }).map((all) => Uint8Array.from(all)),
  );
  const walked = new extension.Chain();
  fc.assert(
    fc.property(octets, fc.constantFrom(0, 43, 44, 60, 58), (bytes, first) => {
      // A view that ends with the octets: a read beyond them throws.
      const view = viewOf(bytes.slice());
      ipv6.check(view, 0, bytes.length);
      const finding = walked.walk(view, 0, first, bytes.length);
      if (finding === extension.SOUND && (walked.octets > bytes.length || walked.octets % 8 !== 0)) return false;
      if (walked.pointer >= Math.max(1, bytes.length)) return false;
      if (ndp.check(view, 0, bytes.length) === SOUND) ndp.option(view, 0, bytes.length, 77);
      return true;
    }),
    { numRuns: 2000 },
  );
});
