/** Checksum, parse and emit: the wire modules against naive twins and the small packet libraries. */

import { createRequire } from 'node:module';
import { copyAndSum, FrameMemory, sum } from '../../src/stack/frame-memory.ts';
import * as scalar from '../../src/stack/wire/checksum.ts';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import * as ipv4 from '../../src/stack/wire/ipv4.ts';
import * as tcp from '../../src/stack/wire/tcp.ts';
import { suite } from '../suite.ts';
import { report } from '../table.ts';
import { frameOfBuffers, sumByOctets } from './naive.ts';

const require = createRequire(import.meta.url);
const etherFrame = require('ether-frame') as { fromBuffer(buffer: Buffer): { typeCode: number } };
const ipPacket = require('ip-packet') as {
  decode(state: { buffer: Buffer; start: number; end: number }): { protocol: number };
};

const memory = new FrameMemory();

function checksum(octets: number) {
  const from = memory.arena(octets);
  const into = memory.arena(octets);
  from.bytes.fill(0x5a);
  return suite(`checksum, ${octets} octets`, {
    'by octets': () => sumByOctets(from.bytes),
    'slipway, words': () => scalar.sum(from.view, 0, octets),
    'slipway, vectors': () => sum(from, 0, octets),
    'slipway, vectors, copied as well': () => copyAndSum(from, 0, into, 0, octets),
  });
}

/** Frames as they lie in a batch. */
const FRAMES = 64;
const frame = frameOfBuffers(1000, Buffer.alloc(1460, 0x5a));
const ring = Buffer.alloc(FRAMES * frame.length);
for (let i = 0; i < FRAMES; i++) ring.set(frame, i * frame.length);
const view = new DataView(ring.buffer, ring.byteOffset, ring.length);
const IP_AT = ethernet.HEADER_OCTETS;
const TCP_AT = IP_AT + ipv4.HEADER_OCTETS;

const parse = await suite(
  'parse Ethernet, IPv4 and TCP headers',
  {
    'ether-frame, ip-packet and Buffer': () => {
      let seen = 0;
      for (let i = 0; i < FRAMES; i++) {
        const buffer = ring.subarray(i * frame.length, (i + 1) * frame.length);
        if (etherFrame.fromBuffer(buffer).typeCode !== 0x0800) continue;
        const packet = ipPacket.decode({ buffer, start: IP_AT, end: buffer.length });
        const segment = buffer.subarray(TCP_AT);
        if (packet.protocol !== 6 || segment[12]! >> 4 < 5) continue;
        seen += segment.readUInt16BE(0) + segment.readUInt16BE(2) + segment.readUInt32BE(4) + segment.readUInt32BE(8);
        seen += segment[13]! + segment.readUInt16BE(14);
      }
      return seen;
    },
    slipway: () => {
      let seen = 0;
      for (let i = 0; i < FRAMES; i++) {
        const at = i * frame.length;
        if (ethernet.type(view, at) !== ethernet.TYPE_IPV4) continue;
        const octets = frame.length - IP_AT;
        if (ipv4.check(view, at + IP_AT, octets) !== 0 || ipv4.protocol(view, at + IP_AT) !== 6) continue;
        seen += ipv4.source(view, at + IP_AT) + ipv4.destination(view, at + IP_AT);
        const tcpAt = at + TCP_AT;
        if (tcp.check(view, tcpAt, octets - ipv4.HEADER_OCTETS) !== 0) continue;
        seen += tcp.sourcePort(view, tcpAt) + tcp.destinationPort(view, tcpAt) + tcp.sequence(view, tcpAt);
        seen += tcp.acknowledgement(view, tcpAt) + tcp.flags(view, tcpAt) + tcp.window(view, tcpAt);
      }
      return seen;
    },
  },
  FRAMES,
);

const HEADERS = TCP_AT + tcp.HEADER_OCTETS;
const nothing = new Uint8Array(0);
let sequence = 1;

const emit = await suite(
  'emit an acknowledgement',
  {
    'Buffers, joined': () => {
      let last: Buffer | undefined;
      for (let i = 0; i < FRAMES; i++) last = frameOfBuffers(sequence++ >>> 0, nothing);
      return last;
    },
    slipway: () => {
      for (let i = 0; i < FRAMES; i++) {
        const at = i * HEADERS;
        ethernet.emit(view, at, 0x02_0000_0000_01, 0x02_0000_0000_02, ethernet.TYPE_IPV4);
        ipv4.emit(view, at + IP_AT, 40, 0, ipv4.DONT_FRAGMENT, 64, ipv4.PROTOCOL_TCP, 0x0a000001, 0x0a000002);
        tcp.emit(view, at + TCP_AT, 80, 40000, sequence++ >>> 0, 1, 20, tcp.ACK, 0xffff);
        const seed = scalar.pseudoHeaderSum(0x0a000001, 0x0a000002, ipv4.PROTOCOL_TCP, 20);
        tcp.setChecksum(view, at + TCP_AT, scalar.finish(scalar.sum(view, at + TCP_AT, 20, seed)));
      }
      return view;
    },
  },
  FRAMES,
);

report('Wire', [...(await checksum(1460)), ...(await checksum(65480)), ...parse, ...emit]);
