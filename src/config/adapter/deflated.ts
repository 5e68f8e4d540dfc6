/**
 * Octets in zlib's form (RFC 1950), as git has its objects. Few octets are stored as they are, in one block (RFC 1951
 * 3.2.4): that takes a fiftieth of the time of compressing them, and a file takes a block of the disk all the same.
 */

import { deflateSync } from 'node:zlib';

const STORED_AT_MOST = 2048;

export function deflated(octets: Uint8Array): Uint8Array {
  if (octets.length > STORED_AT_MOST) return deflateSync(octets, { level: 1 });
  const whole = Buffer.allocUnsafe(octets.length + 11);
  // Deflate with the smallest window, no dictionary; the last block, stored.
  whole.writeUInt16BE(0x7801, 0);
  whole[2] = 1;
  whole.writeUInt16LE(octets.length, 3);
  whole.writeUInt16LE(~octets.length & 0xffff, 5);
  whole.set(octets, 7);
  whole.writeUInt32BE(adler32(octets), octets.length + 7);
  return whole;
}

/** RFC 1950 8.2; of so few octets the sums do not overflow before the end. */
function adler32(octets: Uint8Array): number {
  let a = 1;
  let b = 0;
  for (const octet of octets) {
    a += octet;
    b += a;
  }
  return (((b % 65521) << 16) | (a % 65521)) >>> 0;
}
