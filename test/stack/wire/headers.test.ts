/** Headers: what is emitted is parsed again, agrees with independent twins, and no octets make a check throw. */

import { createRequire } from 'node:module';
import fc from 'fast-check';
import t from 'tap';
import * as arp from '../../../src/stack/wire/arp.ts';
import { finish, fold, pseudoHeaderSum, sum } from '../../../src/stack/wire/checksum.ts';
import * as ethernet from '../../../src/stack/wire/ethernet.ts';
import {
  BAD_CHECKSUM,
  BAD_HEADER_LENGTH,
  BAD_LENGTH,
  BAD_VERSION,
  faultNames,
  SOUND,
  TOO_SHORT,
} from '../../../src/stack/wire/fault.ts';
import * as icmp from '../../../src/stack/wire/icmp.ts';
import * as ipv4 from '../../../src/stack/wire/ipv4.ts';
import * as tcp from '../../../src/stack/wire/tcp.ts';
import * as options from '../../../src/stack/wire/tcp-options.ts';
import * as udp from '../../../src/stack/wire/udp.ts';

const require = createRequire(import.meta.url);
const etherFrame = require('ether-frame') as {
  fromBuffer(buffer: Buffer): { src: string; dst: string; typeCode: number };
};
interface IpPacket {
  version: number;
  dscp: number;
  ecn: number;
  length: number;
  identification: number;
  flags: number;
  fragmentOffset: number;
  ttl: number;
  protocol: number;
  sourceIp: string;
  destinationIp: string;
  checksum: number;
}
const ipPacket = require('ip-packet') as { decode(state: { buffer: Buffer; start: number; end: number }): IpPacket };

const u8 = fc.nat(0xff);
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffff_ffff);
const mac = fc.nat(0xffff_ffff_ffff);
const at = fc.nat(5);
const dotted = (word: number): string => `${word >>> 24}.${(word >>> 16) & 255}.${(word >>> 8) & 255}.${word & 255}`;
const room = (): { bytes: Uint8Array; view: DataView } => {
  const bytes = new Uint8Array(128).fill(0xa5);
  return { bytes, view: new DataView(bytes.buffer) };
};

t.test('Ethernet: emit, parse, and the twin ether-frame', async (t) => {
  fc.assert(
    fc.property(at, mac, mac, fc.constantFrom(0x0800, 0x0806), (at, destination, source, type) => {
      const { bytes, view } = room();
      ethernet.emit(view, at, destination, source, type);
      const twin = etherFrame.fromBuffer(Buffer.from(bytes.subarray(at)));
      return (
        ethernet.destination(view, at) === destination &&
        ethernet.source(view, at) === source &&
        ethernet.type(view, at) === type &&
        twin.dst === ethernet.formatMac(destination) &&
        twin.src === ethernet.formatMac(source) &&
        twin.typeCode === type &&
        bytes[at + 14] === 0xa5
      );
    }),
  );
  fc.assert(
    fc.property(
      mac,
      (value) =>
        ethernet.parseMac(ethernet.formatMac(value)) === value &&
        ethernet.macOfBytes(ethernet.macToBytes(value)) === value,
    ),
  );
  t.equal(ethernet.formatMac(ethernet.BROADCAST), 'ff:ff:ff:ff:ff:ff');
  t.equal(ethernet.parseMac('5A-94-EF-E4-0C-DD'), 0x5a94efe40cdd);
  for (const bad of [
    '',
    '5a:94:ef:e4:0c',
    '5a:94:ef:e4:0c:dg',
    '5a:94:ef:e4:0c:dd:00',
    '5a94efe40cdd',
    '5:a94:ef:e4:0c:dd',
  ])
    t.equal(ethernet.parseMac(bad), undefined, bad);
  t.equal(ethernet.check(13), TOO_SHORT);
  t.equal(ethernet.check(14), SOUND);
});

t.test('ARP: emit and parse', async (t) => {
  fc.assert(
    fc.property(
      at,
      fc.constantFrom(arp.REQUEST, arp.REPLY),
      mac,
      fc.integer(),
      mac,
      fc.integer(),
      (at, operation, a, b, c, d) => {
        const { view } = room();
        arp.emit(view, at, operation, a, b, c, d);
        return (
          arp.check(view, at, 28) === SOUND &&
          arp.operation(view, at) === operation &&
          ethernet.mac(view, at + arp.SENDER_MAC) === a &&
          arp.senderAddress(view, at) === b &&
          ethernet.mac(view, at + arp.TARGET_MAC) === c &&
          arp.targetAddress(view, at) === d
        );
      },
    ),
  );
  const { view } = room();
  arp.emit(view, 0, arp.REQUEST, 1, 2, 3, 4);
  t.equal(arp.check(view, 0, 27), TOO_SHORT);
  for (const octet of [0, 1, 2, 3, 4, 5]) {
    const before = view.getUint8(octet);
    view.setUint8(octet, before ^ 0x40);
    t.not(arp.check(view, 0, 28), SOUND, `octet ${octet} changed`);
    view.setUint8(octet, before);
  }
});

t.test('IPv4: emit, parse, and the twin ip-packet', async () => {
  fc.assert(
    fc.property(
      at,
      fc.integer({ min: 20, max: 100 }),
      u16,
      u16,
      u8,
      u8,
      fc.integer(),
      fc.integer(),
      u8,
      (at, total, id, flags, ttl, protocol, source, destination, tos) => {
        const { bytes, view } = room();
        ipv4.emit(view, at, total, id, flags, ttl, protocol, source, destination, tos);
        const twin = ipPacket.decode({ buffer: Buffer.from(bytes.subarray(at)), start: 0, end: 128 - at });
        return (
          ipv4.check(view, at, total) === SOUND &&
          ipv4.headerOctets(view, at) === 20 &&
          ipv4.typeOfService(view, at) === tos &&
          ipv4.totalLength(view, at) === total &&
          ipv4.identification(view, at) === id &&
          ipv4.timeToLive(view, at) === ttl &&
          ipv4.protocol(view, at) === protocol &&
          ipv4.source(view, at) === source &&
          ipv4.destination(view, at) === destination &&
          ipv4.isFragment(view, at) === (ipv4.moreFragments(view, at) || ipv4.fragmentOffset(view, at) > 0) &&
          twin.dscp === tos >> 2 &&
          twin.ecn === (tos & 3) &&
          twin.length === total &&
          twin.identification === id &&
          ((twin.flags & 2) !== 0) === ipv4.dontFragment(view, at) &&
          ((twin.flags & 1) !== 0) === ipv4.moreFragments(view, at) &&
          twin.fragmentOffset * 8 === ipv4.fragmentOffset(view, at) &&
          twin.ttl === ttl &&
          twin.protocol === protocol &&
          twin.sourceIp === dotted(source) &&
          twin.destinationIp === dotted(destination) &&
          twin.checksum === ipv4.checksum(view, at)
        );
      },
    ),
  );
});

t.test('IPv4: each fault is told', async (t) => {
  const { view } = room();
  ipv4.emit(view, 0, 60, 1, 0, 64, 6, 1, 2);
  t.equal(ipv4.check(view, 0, 60), SOUND);
  t.equal(ipv4.check(view, 0, 100), SOUND, 'padding after the packet');
  t.equal(ipv4.check(view, 0, 19), TOO_SHORT);
  t.equal(ipv4.check(view, 0, 59), BAD_LENGTH);
  t.equal(ipv4.check(view, 0, 60, 20), SOUND, 'payload elsewhere');
  t.equal(ipv4.check(view, 0, 60, 19), TOO_SHORT);
  view.setUint8(0, 0x65);
  t.equal(ipv4.check(view, 0, 60), BAD_VERSION);
  view.setUint8(0, 0x44);
  t.equal(ipv4.check(view, 0, 60), BAD_HEADER_LENGTH);
  view.setUint8(0, 0x4f);
  ipv4.fillChecksum(view, 0);
  t.equal(ipv4.check(view, 0, 60), SOUND, 'options');
  t.equal(ipv4.check(view, 0, 60, 59), BAD_HEADER_LENGTH, 'options that are not contiguous');
  view.setUint16(2, 59);
  t.equal(ipv4.check(view, 0, 60), BAD_LENGTH);
  view.setUint16(2, 60);
  view.setUint8(40, view.getUint8(40) ^ 1);
  t.equal(ipv4.check(view, 0, 60), BAD_CHECKSUM);
  ipv4.emit(view, 0, 60, 1, 0, 64, ipv4.PROTOCOL_UDP, 0, -1);
  view.setUint16(10, 0);
  t.equal(ipv4.check(view, 0, 60), SOUND, 'a client without an address that does not sum (RootlessKit)');
  view.setInt32(12, 1);
  t.equal(ipv4.check(view, 0, 60), BAD_CHECKSUM, 'anyone else');
});

t.test('ICMP, UDP: emit and parse', async (t) => {
  fc.assert(
    fc.property(at, u8, u8, u16, u16, (at, type, code, identifier, sequence) => {
      const { view } = room();
      icmp.emit(view, at, type, code, ((identifier << 16) | sequence) >>> 0);
      icmp.setChecksum(view, at, finish(sum(view, at, 8)));
      return (
        icmp.type(view, at) === type &&
        icmp.code(view, at) === code &&
        icmp.identifier(view, at) === identifier &&
        icmp.sequence(view, at) === sequence &&
        icmp.nextHopMtu(view, at) === sequence &&
        fold(sum(view, at, 8)) === 0xffff
      );
    }),
  );
  t.equal(icmp.check(7), TOO_SHORT);
  t.equal(icmp.check(8), SOUND);
  t.ok(
    icmp.isError(icmp.DESTINATION_UNREACHABLE) && icmp.isError(icmp.TIME_EXCEEDED) && !icmp.isError(icmp.ECHO_REPLY),
  );
  fc.assert(
    fc.property(
      at,
      u16,
      u16,
      fc.integer({ min: 8, max: 60 }),
      fc.integer(),
      fc.integer(),
      (at, from, to, length, source, destination) => {
        const { view } = room();
        udp.emit(view, at, from, to, length);
        const pseudo = pseudoHeaderSum(source, destination, 17, length);
        udp.setChecksum(view, at, finish(sum(view, at, length, pseudo)));
        return (
          udp.check(view, at, length) === SOUND &&
          udp.check(view, at, length - 1) !== SOUND &&
          udp.sourcePort(view, at) === from &&
          udp.destinationPort(view, at) === to &&
          udp.length(view, at) === length &&
          udp.checksum(view, at) !== 0 &&
          fold(sum(view, at, length, pseudo)) === 0xffff
        );
      },
    ),
  );
  const { view } = room();
  udp.emit(view, 0, 1, 2, 7);
  t.equal(udp.check(view, 0, 20), BAD_LENGTH);
  t.equal(udp.check(view, 0, 7), TOO_SHORT);
  udp.setChecksum(view, 0, 0);
  t.equal(udp.checksum(view, 0), 0xffff, 'a sum of zero is told apart from none');
});

t.test('TCP: emit and parse', async (t) => {
  fc.assert(
    fc.property(
      at,
      u16,
      u16,
      u32,
      u32,
      fc.integer({ min: 5, max: 15 }),
      u8,
      u16,
      (at, from, to, seq, ack, words, flags, window) => {
        const { view } = room();
        tcp.emit(view, at, from, to, seq, ack, words * 4, flags, window);
        return (
          tcp.check(view, at, 60) === SOUND &&
          tcp.check(view, at, words * 4) === SOUND &&
          tcp.check(view, at, words * 4 - 1) !== SOUND &&
          tcp.sourcePort(view, at) === from &&
          tcp.destinationPort(view, at) === to &&
          tcp.sequence(view, at) === seq &&
          tcp.acknowledgement(view, at) === ack &&
          tcp.headerOctets(view, at) === words * 4 &&
          tcp.flags(view, at) === flags &&
          tcp.window(view, at) === window &&
          tcp.checksum(view, at) === 0 &&
          tcp.urgentPointer(view, at) === 0
        );
      },
    ),
  );
  const { view } = room();
  tcp.emit(view, 0, 1, 2, 3, 4, 20, tcp.SYN, 5);
  view.setUint8(12, 0x40);
  t.equal(tcp.check(view, 0, 60), BAD_HEADER_LENGTH);
  view.setUint8(12, 0xf0);
  t.equal(tcp.check(view, 0, 1000, 59), BAD_HEADER_LENGTH);
  t.equal(tcp.check(view, 0, 19), TOO_SHORT);
});

t.test('TCP options: what is emitted is parsed', async () => {
  const found = new options.TcpOptions();
  fc.assert(
    fc.property(
      at,
      u16,
      fc.nat(14),
      u32,
      u32,
      fc.array(u32, { minLength: 6, maxLength: 6 }),
      fc.integer({ min: 1, max: 3 }),
      (at, mss, shift, value, echo, edges, blocks) => {
        const { view } = room();
        let end = options.emitMaximumSegmentSize(view, at, mss);
        end = options.emitWindowScale(view, end, shift);
        end = options.emitSackPermitted(view, end);
        end = options.emitTimestamps(view, end, value, echo);
        if (end - at !== 24) return false;
        const syn =
          options.parse(view, at, end - at, found) &&
          found.maximumSegmentSize === mss &&
          found.windowScale === shift &&
          found.sackPermitted &&
          found.hasTimestamps &&
          found.timestampValue === value &&
          found.timestampEcho === echo &&
          found.sackBlocks === 0;
        end = options.emitTimestamps(view, at, value, echo);
        const alone =
          options.parse(view, at, 12, found) &&
          found.hasTimestamps &&
          found.timestampValue === value &&
          !found.sackPermitted &&
          found.maximumSegmentSize === -1;
        end = options.emitSack(view, end, blocks, edges.slice(0, 3), edges.slice(3));
        const sack =
          options.parse(view, at, end - at, found) &&
          found.hasTimestamps &&
          found.sackBlocks === blocks &&
          found.windowScale === -1;
        for (let i = 0; i < blocks; i++)
          if (found.sackLeft[i] !== edges[i] || found.sackRight[i] !== edges[i + 3]) return false;
        return syn && alone && sack && end - at === 12 + options.sackOctets(blocks);
      },
    ),
  );
});

t.test('TCP options: malformed ones are survived (RFC 9293 3.1, MUST-6, MUST-7)', async (t) => {
  const found = new options.TcpOptions();
  const parse = (...octets: number[]): boolean =>
    options.parse(new DataView(Uint8Array.from(octets).buffer), 0, octets.length, found);
  t.equal(parse(), true);
  t.equal(parse(2, 4, 5, 180, 3, 0), false, 'length 0 ends the parse');
  t.equal(found.maximumSegmentSize, 1460, 'what came before it stands');
  t.equal(parse(3, 1, 2), false, 'length 1');
  t.equal(parse(1, 1, 8), false, 'no length');
  t.equal(parse(8, 10, 0, 0, 0, 1), false, 'beyond the header');
  t.notOk(found.hasTimestamps);
  t.equal(parse(2, 3, 5, 3, 3, 7), true, 'MSS of a wrong length is skipped');
  t.same([found.maximumSegmentSize, found.windowScale], [-1, 7]);
  t.equal(parse(3, 3, 255), true);
  t.equal(found.windowScale, 14, 'RFC 7323 2.3: more than 14 is 14');
  t.equal(parse(253, 4, 1, 2, 4, 2), true, 'unknown kinds are skipped');
  t.ok(found.sackPermitted);
  t.equal(parse(0, 2, 4, 5, 180), true, 'nothing is read after the end');
  t.equal(found.maximumSegmentSize, -1);
  t.equal(parse(5, 2), true);
  t.equal(parse(5, 9, 1, 2, 3, 4, 5, 6, 7), true);
  t.equal(found.sackBlocks, 0);
});

t.test('no octets make a check or a getter throw', async (t) => {
  const found = new options.TcpOptions();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      const faults = [ethernet.check(bytes.length), arp.check(view, 0, bytes.length), icmp.check(bytes.length)];
      const ip = ipv4.check(view, 0, bytes.length);
      const segment = tcp.check(view, 0, bytes.length);
      if (segment === SOUND) options.parse(view, 20, tcp.headerOctets(view, 0) - 20, found);
      options.parse(view, 0, bytes.length, found);
      faults.push(ip, segment, udp.check(view, 0, bytes.length));
      return faults.every((fault) => faultNames[fault] !== undefined);
    }),
    { numRuns: 2000 },
  );
  t.equal(faultNames[SOUND], 'sound');
});
