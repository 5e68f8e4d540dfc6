/**
 * The Internet checksum. RFC 1071, RFC 1624.
 *
 * A partial sum is a one's complement sum of big-endian 16-bit words, folded to 16 bits or not: partial sums may be
 * added as numbers and passed as a seed. `finish` makes the field's value of it. Sums do not care where in memory the
 * octets lie, only whether they begin at an even or an odd place of what is summed: `join` puts pieces together.
 *
 * The inner loops read 32-bit words through the DataView and add them as doubles (exact up to 2^53, so up to 8 MiB a
 * call): on Node 24 this is faster than Uint16Array views, and it needs neither alignment nor a view per arena.
 * Words are read little-endian, which costs nothing on the machines there are, and the folded sum is swapped once
 * (RFC 1071 2(B): byte order independence).
 */

/** Folds a partial sum below 2^53 to 16 bits. RFC 1071 2(C). */
export function fold(partial: number): number {
  const high = Math.floor(partial / 0x1_0000_0000);
  let sum = (partial & 0xffff) + ((partial >>> 16) & 0xffff) + (high & 0xffff) + (high >>> 16);
  sum = (sum & 0xffff) + (sum >>> 16);
  return (sum & 0xffff) + (sum >>> 16);
}

const swap = (folded: number): number => ((folded & 0xff) << 8) | (folded >>> 8);

/** The field's value: the complement of the folded sum. */
export const finish = (partial: number): number => ~fold(partial) & 0xffff;

/** The partial sum of `length` octets at `at`, added to `seed`. An odd last octet is padded with zero. */
export function sum(view: DataView, at: number, length: number, seed = 0): number {
  const end = at + length;
  let a = 0;
  let b = 0;
  let i = at;
  for (; i + 32 <= end; i += 32) {
    a += view.getUint32(i, true) + view.getUint32(i + 4, true);
    b += view.getUint32(i + 8, true) + view.getUint32(i + 12, true);
    a += view.getUint32(i + 16, true) + view.getUint32(i + 20, true);
    b += view.getUint32(i + 24, true) + view.getUint32(i + 28, true);
  }
  for (; i + 4 <= end; i += 4) a += view.getUint32(i, true);
  if (i + 2 <= end) {
    b += view.getUint16(i, true);
    i += 2;
  }
  if (i < end) b += view.getUint8(i);
  return seed + swap(fold(a + b));
}

/** From this length on, copying by `set` and summing in a second pass is faster, the two views it needs included. */
const COPY_FIRST_OCTETS = 192;

/** Copies `length` octets and returns their partial sum. The two places must not overlap. */
export function copyAndSum(from: DataView, fromAt: number, into: DataView, intoAt: number, length: number): number {
  if (length >= COPY_FIRST_OCTETS) {
    const source = new Uint8Array(from.buffer, from.byteOffset + fromAt, length);
    new Uint8Array(into.buffer, into.byteOffset + intoAt, length).set(source);
    return sum(into, intoAt, length);
  }
  const end = fromAt + length;
  let total = 0;
  let i = fromAt;
  let o = intoAt;
  for (; i + 4 <= end; i += 4, o += 4) {
    const word = from.getInt32(i, true);
    into.setInt32(o, word, true);
    total += word >>> 0;
  }
  if (i + 2 <= end) {
    const word = from.getUint16(i, true);
    into.setUint16(o, word, true);
    total += word;
    i += 2;
    o += 2;
  }
  if (i < end) {
    const octet = from.getUint8(i);
    into.setUint8(o, octet);
    total += octet;
  }
  return swap(fold(total));
}

/** Joins the sum of `octetsBefore` octets with the sum of the octets that follow them: swapped when they begin at an odd place. RFC 1071 2(B). */
export const join = (before: number, octetsBefore: number, after: number): number =>
  before + ((octetsBefore & 1) === 0 ? after : swap(fold(after)));

/** The partial sum of the IPv4 pseudo-header of TCP and UDP; addresses as signed 32-bit words. RFC 9293 3.1, RFC 768. */
export const pseudoHeaderSum = (source: number, destination: number, protocol: number, octets: number): number =>
  (source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) + protocol + octets;

/** A checksum field's new value after a 16-bit word of what it covers changed. RFC 1624 3, equation 3. */
export const updateWord = (checksum: number, before: number, after: number): number =>
  finish((~checksum & 0xffff) + (~before & 0xffff) + after);

/** The same for a 32-bit word at an even place. */
export const updateDoubleWord = (checksum: number, before: number, after: number): number =>
  finish((~checksum & 0xffff) + (~before & 0xffff) + (~(before >>> 16) & 0xffff) + (after & 0xffff) + (after >>> 16));
