/** The wire modules against naive twins: a checksum by octets, headers by the small packet libraries. */

import { createRequire } from 'node:module';
import { copyAndSum, finish, sum } from '../src/stack/wire/checksum.ts';
import * as ethernet from '../src/stack/wire/ethernet.ts';
import * as ipv4 from '../src/stack/wire/ipv4.ts';
import { suite } from './suite.ts';
import { report } from './table.ts';

const require = createRequire(import.meta.url);
const etherFrame = require('ether-frame') as { fromBuffer(buffer: Buffer): { typeCode: number } };
const ipPacket = require('ip-packet') as { decode(state: { buffer: Buffer; start: number; end: number }): unknown };

function naiveSum(bytes: Uint8Array): number {
  let total = 0;
  for (let i = 0; i + 1 < bytes.length; i += 2) total += (bytes[i]! << 8) | bytes[i + 1]!;
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return ~total & 0xffff;
}

const payload = Buffer.alloc(1460, 0x5a);
const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
const copy = new DataView(new ArrayBuffer(payload.length));
const jumbo = Buffer.alloc(65480, 0xa5);
const jumboView = new DataView(jumbo.buffer, jumbo.byteOffset, jumbo.length);

const frame = Buffer.alloc(14 + 20 + 1460);
const frameView = new DataView(frame.buffer, frame.byteOffset, frame.length);
frame.set([0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00]);
ipv4.emit(frameView, 14, 1480, 1, ipv4.DONT_FRAGMENT, 64, ipv4.PROTOCOL_TCP, 0x0a000001, 0x0a000002);

report('Wire', [
  ...(await suite('checksum, 1460 octets', {
    'by octets': () => naiveSum(payload),
    slipway: () => finish(sum(view, 0, 1460)),
    'slipway, copied as well': () => copyAndSum(view, 0, copy, 0, 1460),
  })),
  ...(await suite('checksum, 65480 octets', {
    'by octets': () => naiveSum(jumbo),
    slipway: () => finish(sum(jumboView, 0, 65480)),
  })),
  ...(await suite('Ethernet and IPv4 header', {
    'ether-frame and ip-packet': () =>
      etherFrame.fromBuffer(frame).typeCode === 0x0800 &&
      ipPacket.decode({ buffer: frame, start: 14, end: frame.length }),
    slipway: () =>
      ipv4.check(frameView, 14, 1480) +
      ethernet.type(frameView, 0) +
      ipv4.protocol(frameView, 14) +
      ipv4.source(frameView, 14) +
      ipv4.destination(frameView, 14),
  })),
]);
