/**
 * ARP, IPv4, ICMP, UDP, TCP with any options, and DHCP: what our parsers read in frames of arbitrary values is what
 * tshark, an independent decoder, reads in them. IPv6 and its company are in ipv6.test.ts,
 * DHCPv6 and NTP in services-decoder.test.ts.
 */

import { randomInt } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { formatAddress, ofIpv4 } from '../../../src/stack/wire/address.ts';
import * as arp from '../../../src/stack/wire/arp.ts';
import * as dhcp from '../../../src/stack/wire/dhcp.ts';
import * as ethernet from '../../../src/stack/wire/ethernet.ts';
import * as icmp from '../../../src/stack/wire/icmp.ts';
import * as ipv4 from '../../../src/stack/wire/ipv4.ts';
import * as tcp from '../../../src/stack/wire/tcp.ts';
import { parse, TcpOptions } from '../../../src/stack/wire/tcp-options.ts';
import * as udp from '../../../src/stack/wire/udp.ts';
import { arpFrame, icmpFrame, ipFrame, transportChecksum, udpFrame } from '../frames.ts';
import { differencesToTshark, type Read } from './tshark.ts';

t.setTimeout(120_000);

const FRAMES = 200;

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
const dotted = (word: number): string => formatAddress(ofIpv4(word));
const hex = (value: number, digits: number): string => `0x${value.toString(16).padStart(digits, '0')}`;

const u8 = fc.integer({ min: 0, max: 0xff });
const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const mac = fc.integer({ min: 1, max: 0xffff_ffff_ffff });
const payload = fc.uint8Array({ maxLength: 40 });
/** No multicast, which tshark names, and no zero. */
const text = fc
  .tuple(fc.integer({ min: 1, max: 223 }), u8, u8, fc.integer({ min: 1, max: 254 }))
  .map((o) => o.join('.'));

const AT = ethernet.HEADER_OCTETS;

/** Ethernet's and IPv4's fields of a frame. */
function lower(frame: Uint8Array): Record<string, string | number> {
  const view = viewOf(frame);
  if (ipv4.check(view, AT, frame.length - AT) !== 0) throw new Error('the header is sound');
  return {
    'eth.dst': ethernet.formatMac(ethernet.destination(view, 0)),
    'eth.src': ethernet.formatMac(ethernet.source(view, 0)),
    'ip.hdr_len': ipv4.headerOctets(view, AT),
    'ip.len': ipv4.totalLength(view, AT),
    'ip.id': hex(ipv4.identification(view, AT), 4),
    'ip.flags.df': Number(ipv4.dontFragment(view, AT)),
    'ip.ttl': ipv4.timeToLive(view, AT),
    'ip.proto': ipv4.protocol(view, AT),
    'ip.src': dotted(ipv4.source(view, AT)),
    'ip.dst': dotted(ipv4.destination(view, AT)),
    'ip.checksum.status': 1,
  };
}

const options = fc.record({
  from: text,
  to: text,
  sourceMac: mac,
  destinationMac: mac,
  hopLimit: u8,
  identification: u16,
  fragment: fc.constantFrom(0, 0x4000),
});

const arps = fc
  // Others than these mean something else by the rest.
  .record({ operation: fc.constantFrom(arp.REQUEST, arp.REPLY), senderMac: mac, sender: text, target: text })
  .map(({ operation, senderMac, sender, target }): Read => {
    const frame = arpFrame(operation, senderMac, sender, target);
    const view = viewOf(frame);
    if (arp.check(view, AT, frame.length - AT) !== 0) throw new Error('it is sound');
    return {
      frame,
      says: {
        'arp.opcode': arp.operation(view, AT),
        'arp.src.hw_mac': ethernet.formatMac(ethernet.mac(view, AT + arp.SENDER_MAC)),
        'arp.src.proto_ipv4': dotted(arp.senderAddress(view, AT)),
        'arp.dst.proto_ipv4': dotted(arp.targetAddress(view, AT)),
      },
    };
  });

const pings = fc
  .tuple(fc.constantFrom(icmp.ECHO_REQUEST, icmp.ECHO_REPLY), u32, payload, options)
  .map(([type, rest, octets, how]): Read => {
    const frame = icmpFrame(type, 0, rest, octets, how);
    const view = viewOf(frame);
    const at = AT + ipv4.headerOctets(view, AT);
    return {
      frame,
      says: {
        ...lower(frame),
        'icmp.type': icmp.type(view, at),
        'icmp.code': icmp.code(view, at),
        'icmp.ident': icmp.identifier(view, at),
        'icmp.seq': icmp.sequence(view, at),
        'icmp.checksum': hex(icmp.checksum(view, at), 4),
        'icmp.checksum.status': 1,
      },
    };
  });

/** Ports that tshark knows no protocol for. */
const port = fc.integer({ min: 60_500, max: 60_999 });

const datagrams = fc.tuple(port, port, payload, options).map(([from, to, octets, how]): Read => {
  const frame = udpFrame(from, to, octets, how);
  const view = viewOf(frame);
  const at = AT + ipv4.headerOctets(view, AT);
  if (udp.check(view, at, frame.length - at) !== 0) throw new Error('it is sound');
  return {
    frame,
    says: {
      ...lower(frame),
      'udp.srcport': udp.sourcePort(view, at),
      'udp.dstport': udp.destinationPort(view, at),
      'udp.length': udp.length(view, at),
      'udp.checksum.status': 1,
    },
  };
});

/** Options of lengths of their own, known kinds among them, each kind at most once: what is there twice is read otherwise. */
const tcpOptions = fc
  .uniqueArray(
    fc.oneof(
      fc.tuple(fc.constant(tcpKind('mss')), fc.uint8Array({ minLength: 2, maxLength: 2 })),
      fc.tuple(
        fc.constant(tcpKind('scale')),
        fc.integer({ min: 0, max: 14 }).map((shift) => Uint8Array.of(shift)),
      ),
      fc.tuple(fc.constant(tcpKind('permitted')), fc.constant(new Uint8Array(0))),
      fc.tuple(fc.constant(tcpKind('times')), fc.uint8Array({ minLength: 8, maxLength: 8 })),
      fc.tuple(fc.constant(tcpKind('sack')), fc.uint8Array({ minLength: 8, maxLength: 8 })),
      // An experiment's. RFC 3692.
      fc.tuple(fc.constant(200), fc.uint8Array({ maxLength: 6 })),
    ),
    { selector: ([kind]) => kind, maxLength: 5 },
  )
  .map((list) => list.flatMap(([kind, value]) => [kind, value.length + 2, ...value, 1]))
  .filter((bytes) => bytes.length <= 40)
  .map((bytes) => Uint8Array.from([...bytes, ...new Array((4 - (bytes.length % 4)) % 4).fill(0)]));

function tcpKind(name: 'mss' | 'scale' | 'permitted' | 'times' | 'sack'): number {
  return { mss: 2, scale: 3, permitted: 4, sack: 5, times: 8 }[name];
}

const segments = fc
  .tuple(fc.tuple(port, port, u32, u32, u8, u16), tcpOptions, payload, options)
  .map(([[from, to, sequence, acknowledgement, flags, window], option, octets, how]): Read => {
    const bytes = new Uint8Array(20 + option.length + octets.length);
    tcp.emit(viewOf(bytes), 0, from, to, sequence, acknowledgement, 20 + option.length, flags, window);
    bytes.set(option, 20);
    bytes.set(octets, 20 + option.length);
    tcp.setChecksum(viewOf(bytes), 0, transportChecksum(how.from, how.to, 6, bytes));
    const frame = ipFrame(6, bytes, how);
    const view = viewOf(frame);
    const at = AT + ipv4.headerOctets(view, AT);
    if (tcp.check(view, at, frame.length - at) !== 0) throw new Error('it is sound');
    const found = new TcpOptions();
    if (!parse(view, at + 20, tcp.headerOctets(view, at) - 20, found)) throw new Error('its options are');
    const { maximumSegmentSize: mss, windowScale: scale, hasTimestamps, sackBlocks } = found;
    return {
      frame,
      says: {
        ...lower(frame),
        'tcp.srcport': tcp.sourcePort(view, at),
        'tcp.dstport': tcp.destinationPort(view, at),
        'tcp.seq_raw': tcp.sequence(view, at),
        'tcp.ack_raw': tcp.acknowledgement(view, at),
        'tcp.hdr_len': tcp.headerOctets(view, at),
        'tcp.flags': hex(tcp.flags(view, at), 4),
        'tcp.window_size_value': tcp.window(view, at),
        'tcp.checksum.status': 1,
        'tcp.options.mss_val': mss < 0 ? '' : mss,
        'tcp.options.wscale.shift': scale < 0 ? '' : scale,
        'tcp.options.timestamp.tsval': hasTimestamps ? found.timestampValue : '',
        'tcp.options.timestamp.tsecr': hasTimestamps ? found.timestampEcho : '',
        'tcp.options.sack_le': sackBlocks === 0 ? '' : found.sackLeft[0]!,
        'tcp.options.sack_re': sackBlocks === 0 ? '' : found.sackRight[0]!,
      },
    };
  });

const name = fc.stringMatching(/^[a-z]{1,12}$/);
const leases = fc
  .record({
    transaction: u32,
    flags: fc.constantFrom(0, 0x8000),
    client: text,
    type: fc.integer({ min: 1, max: 8 }),
    wanted: fc.option(text, { nil: undefined }),
    name: fc.option(name, { nil: undefined }),
    noise: fc.uint8Array({ maxLength: 20 }),
    hardware: mac,
    how: options,
  })
  .map(({ transaction, flags, client, type, wanted, name, noise, hardware, how }): Read => {
    const message = new Uint8Array(400);
    const view = viewOf(message);
    const word = (address: string): number => viewOf(Uint8Array.from(address.split('.').map(Number))).getInt32(0);
    let at = dhcp.emit(view, 0, dhcp.BOOT_REQUEST, transaction, flags, word(client), 0, 0, 0);
    ethernet.setMac(view, dhcp.CLIENT_HARDWARE, hardware);
    const put = (code: number, value: Uint8Array): void => {
      at = dhcp.emitOption(view, at, code, value);
    };
    put(dhcp.OPTION_MESSAGE_TYPE, Uint8Array.of(type));
    // A site's own option, of any octets. RFC 3942.
    put(230, noise);
    if (wanted) put(dhcp.OPTION_REQUESTED_ADDRESS, Uint8Array.from(wanted.split('.').map(Number)));
    if (name) put(dhcp.OPTION_HOST_NAME, Buffer.from(name));
    message[at] = dhcp.OPTION_END;
    const frame = udpFrame(dhcp.CLIENT_PORT, dhcp.SERVER_PORT, message, how);
    const all = viewOf(frame);
    const begin = AT + 28;
    const octets = frame.length - begin;
    if (dhcp.check(all, begin, octets) !== 0) throw new Error('it is sound');
    const named = dhcp.findOption(all, begin, octets, dhcp.OPTION_HOST_NAME);
    const asked = dhcp.addressOption(all, begin, octets, dhcp.OPTION_REQUESTED_ADDRESS);
    return {
      frame,
      says: {
        'dhcp.type': dhcp.operation(all, begin),
        'dhcp.id': hex(dhcp.transaction(all, begin), 8),
        'dhcp.flags': hex(dhcp.flags(all, begin), 4),
        'dhcp.ip.client': dotted(dhcp.clientAddress(all, begin)),
        'dhcp.hw.mac_addr': ethernet.formatMac(ethernet.mac(all, begin + dhcp.CLIENT_HARDWARE)),
        'dhcp.option.dhcp': dhcp.messageType(all, begin, octets),
        'dhcp.option.requested_ip_address': asked === undefined ? '' : dotted(asked),
        'dhcp.option.hostname':
          named < 0 ? '' : Buffer.from(frame.subarray(named + 1, named + 1 + frame[named]!)).toString(),
      },
    };
  });

t.test('tshark reads in frames of any values what our parsers read', async (t) => {
  const seed = Number(process.env.SEED ?? randomInt(2 ** 31));
  const all = [arps, pings, datagrams, segments, leases].flatMap((frames) =>
    fc.sample(frames, { numRuns: FRAMES, seed }),
  );
  t.same(differencesToTshark(all).slice(0, 5), [], `SEED=${seed}: ${all.length} frames`);
});
