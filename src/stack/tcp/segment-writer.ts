/**
 * Writes one segment's frame into the link's transmit memory: Ethernet, IP and TCP headers from words that the
 * connection keeps ready, checksums from partial sums of what never changes, the payload by one pass that copies and
 * sums. A link that takes checksums or whole super-segments off our hands gets the pseudo-header's sum and the segment
 * size instead.
 */

import { copyAndSum } from '../frame-memory.ts';
import { HOP_LIMIT } from '../ipv4.ts';
import type { Arena } from '../port.ts';
import { finish, fold, join, pseudoHeaderSum } from '../wire/checksum.ts';
import * as ethernet from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import * as tcp from '../wire/tcp.ts';
import * as options from '../wire/tcp-options.ts';
import type { SackBlocks } from './sack.ts';
import { type Seq, seq } from './seq.ts';
import type { Tcb } from './tcb.ts';

const IP_AT = ethernet.HEADER_OCTETS;
const IPV6_VERSION = 0x60000000;
const TTL_PROTOCOL = (HOP_LIMIT << 8) | ipv4.PROTOCOL_TCP;

/** Two no-operations, then timestamps: RFC 7323 appendix A. */
const TIMESTAMPS_WORD = 0x0101080a;
const TIMESTAMPS_SUM = 0x0101 + 0x080a;

const halves = (word: number): number => (word >>> 16) + (word & 0xffff);
/** The data offset where it stands in its word. */
const dataOffset = (headerOctets: number): number => headerOctets << 26;

/** Makes ready what every segment of the connection begins with. `to`: the guest's MAC address, `from`: ours. */
export function prepare(c: Tcb, to: number, from: number): void {
  c.guestMac = to;
  c.ethernet0 = Math.floor(to / 0x1_0000) | 0;
  c.ethernet1 = ((to % 0x1_0000) << 16) | Math.floor(from / 0x1_0000_0000);
  c.ethernet2 = (from % 0x1_0000_0000) | 0;
  if (c.ipv6Words) {
    c.tcpAt = IP_AT + ipv6.HEADER_OCTETS;
    c.pseudoSum = ipv4.PROTOCOL_TCP;
    for (const word of c.ipv6Words) c.pseudoSum += halves(word);
  } else {
    c.tcpAt = IP_AT + ipv4.HEADER_OCTETS;
    c.ipSum = 0x4500 + ipv4.DONT_FRAGMENT + TTL_PROTOCOL + halves(c.peerWord) + halves(c.guestWord);
    c.pseudoSum = pseudoHeaderSum(c.peerWord, c.guestWord, ipv4.PROTOCOL_TCP, 0);
  }
  c.tcpSum = c.pseudoSum + halves(c.portsWord);
}

function writeHeaders(c: Tcb, view: DataView, at: number, tcpOctets: number): void {
  if (c.ipv6Words) {
    writeIpv6Headers(c, c.ipv6Words, view, at, tcpOctets);
    return;
  }
  const ipOctets = ipv4.HEADER_OCTETS + tcpOctets;
  view.setInt32(at, c.ethernet0);
  view.setInt32(at + 4, c.ethernet1);
  view.setInt32(at + 8, c.ethernet2);
  view.setUint16(at + 12, ethernet.TYPE_IPV4);
  const identification = c.identification;
  // Counted up, though RFC 6864 lets an atomic datagram carry anything: receive offload joins segments by it.
  c.identification = (identification + 1) & 0xffff;
  view.setInt32(at + IP_AT, 0x45000000 | ipOctets);
  view.setInt32(at + IP_AT + 4, (identification << 16) | ipv4.DONT_FRAGMENT);
  view.setInt32(at + IP_AT + 8, (TTL_PROTOCOL << 16) | finish(c.ipSum + ipOctets + identification));
  view.setInt32(at + IP_AT + 12, c.peerWord);
  view.setInt32(at + IP_AT + 16, c.guestWord);
  view.setInt32(at + IP_AT + ipv4.HEADER_OCTETS, c.portsWord);
}

function writeIpv6Headers(c: Tcb, words: Int32Array, view: DataView, at: number, tcpOctets: number): void {
  view.setInt32(at, c.ethernet0);
  view.setInt32(at + 4, c.ethernet1);
  view.setInt32(at + 8, c.ethernet2);
  view.setUint16(at + 12, ethernet.TYPE_IPV6);
  view.setInt32(at + IP_AT, IPV6_VERSION);
  view.setInt32(at + IP_AT + ipv6.PAYLOAD_LENGTH, (tcpOctets << 16) | (ipv4.PROTOCOL_TCP << 8) | HOP_LIMIT);
  for (let i = 0; i < 8; i++) view.setInt32(at + IP_AT + ipv6.SOURCE + 4 * i, words[i]!);
  view.setInt32(at + IP_AT + ipv6.HEADER_OCTETS, c.portsWord);
}

/**
 * A segment with timestamps where the connection has them, and no other options, and with `octets` of the send queue
 * from octet `from` on; false: the link has no room.
 * `window`: SEG.WND as it stands in the field.
 */
export function writeSegment(
  c: Tcb,
  sequence: Seq,
  acknowledgement: Seq,
  flags: number,
  window: number,
  from: number,
  octets: number,
): boolean {
  const { port, tcpAt, optionOctets } = c;
  const optionsAt = tcpAt + tcp.HEADER_OCTETS;
  const dataAt = optionsAt + optionOctets;
  if (!port.reserve(dataAt + octets)) return false;
  const { link } = port;
  const { view } = link.txArena;
  const at = link.txOffset;
  const headerOctets = tcp.HEADER_OCTETS + optionOctets;
  const tcpOctets = headerOctets + octets;
  writeHeaders(c, view, at, tcpOctets);
  view.setInt32(at + tcpAt + tcp.SEQUENCE, sequence);
  view.setInt32(at + tcpAt + tcp.ACKNOWLEDGEMENT, acknowledgement);
  const flagsWindow = dataOffset(headerOctets) | (flags << 16) | window;
  view.setInt32(at + tcpAt + tcp.DATA_OFFSET_FLAGS, flagsWindow);
  let sum = c.tcpSum + tcpOctets + halves(sequence) + halves(acknowledgement) + halves(flagsWindow);
  if (optionOctets !== 0) {
    view.setInt32(at + optionsAt, TIMESTAMPS_WORD);
    view.setInt32(at + optionsAt + 4, c.tsVal);
    view.setInt32(at + optionsAt + 8, c.tsRecent);
    sum += TIMESTAMPS_SUM + halves(c.tsVal) + halves(c.tsRecent);
  }
  const { offload } = link;
  if (offload.checksum) {
    copy(c, from, octets, link.txArena.bytes, at + dataAt);
    const partial = fold(c.pseudoSum + tcpOctets);
    view.setInt32(at + tcpAt + tcp.CHECKSUM, partial << 16);
    port.commitOffloaded(dataAt + octets, tcpAt, tcp.CHECKSUM, octets > c.sndMss ? c.sndMss : 0);
    return true;
  }
  if (octets > 0) sum += copyAndSumQueue(c, from, octets, link.txArena, at + dataAt);
  view.setInt32(at + tcpAt + tcp.CHECKSUM, finish(sum) << 16);
  port.commit(dataAt + octets);
  return true;
}

function copyAndSumQueue(c: Tcb, from: number, octets: number, into: Arena, at: number): number {
  const { queue } = c;
  let chunk = queue.chunkOf(from);
  let place = queue.placeOf(from);
  let length = Math.min(octets, 65536 - place);
  let sum = copyAndSum(chunk.arena, chunk.offset + place, into, at, length);
  for (let done = length; done < octets; done += length) {
    chunk = queue.chunkOf(from + done);
    place = 0;
    length = Math.min(octets - done, 65536);
    sum = join(sum, done, copyAndSum(chunk.arena, chunk.offset, into, at + done, length));
  }
  return sum;
}

function copy(c: Tcb, from: number, octets: number, into: Uint8Array, at: number): void {
  const { queue } = c;
  for (let done = 0; done < octets; ) {
    const chunk = queue.chunkOf(from + done);
    const place = queue.placeOf(from + done);
    const length = Math.min(octets - done, 65536 - place);
    const begin = chunk.offset + place;
    into.set(chunk.arena.bytes.subarray(begin, begin + length), at + done);
    done += length;
  }
}

/** SYN or SYN-ACK, with MSS and what the connection offers; false: the link has no room. */
export function writeSyn(c: Tcb, flags: number, window: number): boolean {
  const { port, rcvWndShift: shift } = c;
  const optionsAt = c.tcpAt + tcp.HEADER_OCTETS;
  let optionOctets = options.MAXIMUM_SEGMENT_SIZE_OCTETS;
  if (shift >= 0) optionOctets += options.WINDOW_SCALE_OCTETS;
  if (c.sackPermitted) optionOctets += options.SACK_PERMITTED_OCTETS;
  if (c.timestamps) optionOctets += options.TIMESTAMPS_OCTETS;
  if (!port.reserve(optionsAt + optionOctets)) return false;
  const { view } = port.arena;
  let at = options.emitMaximumSegmentSize(view, port.at + optionsAt, c.rcvMss);
  if (shift >= 0) at = options.emitWindowScale(view, at, shift);
  if (c.sackPermitted) at = options.emitSackPermitted(view, at);
  const answer = (flags & tcp.ACK) !== 0;
  if (c.timestamps) options.emitTimestamps(view, at, c.tsVal, answer ? c.tsRecent : 0);
  commitBare(c, c.iss, answer ? c.rcvNxt : seq(0), flags, window, optionOctets);
  return true;
}

/** An acknowledgement with the blocks that `blocks` holds; false: the link has no room. RFC 2018 3. */
export function writeSack(c: Tcb, window: number, blocks: SackBlocks): boolean {
  const { port } = c;
  const optionsAt = c.tcpAt + tcp.HEADER_OCTETS;
  const optionOctets = c.optionOctets + options.sackOctets(blocks.count);
  if (!port.reserve(optionsAt + optionOctets)) return false;
  const { view } = port.arena;
  let at = port.at + optionsAt;
  if (c.timestamps) at = options.emitTimestamps(view, at, c.tsVal, c.tsRecent);
  options.emitSack(view, at, blocks.count, blocks.left, blocks.right);
  commitBare(c, c.sndNxt, c.rcvNxt, tcp.ACK, window, optionOctets);
  return true;
}

/** Completes and commits a segment without payload whose options have been written. */
function commitBare(c: Tcb, sequence: Seq, acknowledgement: Seq, flags: number, window: number, octets: number): void {
  const { port, tcpAt } = c;
  const optionsAt = tcpAt + tcp.HEADER_OCTETS;
  const { view } = port.arena;
  const { at } = port;
  const tcpOctets = tcp.HEADER_OCTETS + octets;
  writeHeaders(c, view, at, tcpOctets);
  view.setInt32(at + tcpAt + tcp.SEQUENCE, sequence);
  view.setInt32(at + tcpAt + tcp.ACKNOWLEDGEMENT, acknowledgement);
  const flagsWindow = dataOffset(tcpOctets) | (flags << 16) | window;
  view.setInt32(at + tcpAt + tcp.DATA_OFFSET_FLAGS, flagsWindow);
  let sum = c.tcpSum + tcpOctets + halves(sequence) + halves(acknowledgement) + halves(flagsWindow);
  for (let i = 0; i < octets; i += 4) sum += halves(view.getInt32(at + optionsAt + i));
  view.setInt32(at + tcpAt + tcp.CHECKSUM, finish(sum) << 16);
  port.commit(optionsAt + octets);
}
