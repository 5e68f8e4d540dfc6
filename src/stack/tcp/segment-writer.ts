/**
 * Writes one segment's frame into the link's transmit memory: Ethernet, IPv4 and TCP headers from words that the
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
import * as tcp from '../wire/tcp.ts';
import * as options from '../wire/tcp-options.ts';
import type { Seq } from './seq.ts';
import type { Tcb } from './tcb.ts';

const IP_AT = ethernet.HEADER_OCTETS;
const TCP_AT = IP_AT + ipv4.HEADER_OCTETS;
/** Octets before the payload of a segment without options. */
export const HEADER_OCTETS = TCP_AT + tcp.HEADER_OCTETS;
const DATA_AT = HEADER_OCTETS;
const DATA_OFFSET = (tcp.HEADER_OCTETS / 4) << 28;
const TTL_PROTOCOL = (HOP_LIMIT << 8) | ipv4.PROTOCOL_TCP;

const halves = (word: number): number => (word >>> 16) + (word & 0xffff);

/** Makes ready what every segment of the connection begins with. `to`: the guest's MAC address, `from`: ours. */
export function prepare(c: Tcb, to: number, from: number): void {
  c.guestMac = to;
  c.ethernet0 = Math.floor(to / 0x1_0000) | 0;
  c.ethernet1 = ((to % 0x1_0000) << 16) | Math.floor(from / 0x1_0000_0000);
  c.ethernet2 = (from % 0x1_0000_0000) | 0;
  c.ipSum = 0x4500 + ipv4.DONT_FRAGMENT + TTL_PROTOCOL + halves(c.peerWord) + halves(c.guestWord);
  c.tcpSum = pseudoHeaderSum(c.peerWord, c.guestWord, ipv4.PROTOCOL_TCP, 0) + halves(c.portsWord);
}

function writeHeaders(c: Tcb, view: DataView, at: number, ipOctets: number): void {
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
  view.setInt32(at + TCP_AT, c.portsWord);
}

/**
 * A segment without options, with `octets` of the send queue from octet `from` on; false: the link has no room.
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
  const { port } = c;
  if (!port.reserve(DATA_AT + octets)) return false;
  const { link } = port;
  const { view } = link.txArena;
  const at = link.txOffset;
  const tcpOctets = tcp.HEADER_OCTETS + octets;
  writeHeaders(c, view, at, ipv4.HEADER_OCTETS + tcpOctets);
  view.setInt32(at + TCP_AT + tcp.SEQUENCE, sequence);
  view.setInt32(at + TCP_AT + tcp.ACKNOWLEDGEMENT, acknowledgement);
  const flagsWindow = DATA_OFFSET | (flags << 16) | window;
  view.setInt32(at + TCP_AT + tcp.DATA_OFFSET_FLAGS, flagsWindow);
  const { offload } = link;
  if (offload.checksum) {
    copy(c, from, octets, link.txArena.bytes, at + DATA_AT);
    const partial = fold(pseudoHeaderSum(c.peerWord, c.guestWord, ipv4.PROTOCOL_TCP, tcpOctets));
    view.setInt32(at + TCP_AT + tcp.CHECKSUM, partial << 16);
    port.commitOffloaded(DATA_AT + octets, TCP_AT, tcp.CHECKSUM, octets > c.sndMss ? c.sndMss : 0);
    return true;
  }
  let sum = c.tcpSum + tcpOctets + halves(sequence) + halves(acknowledgement) + halves(flagsWindow);
  if (octets > 0) sum += copyAndSumQueue(c, from, octets, link.txArena, at + DATA_AT);
  view.setInt32(at + TCP_AT + tcp.CHECKSUM, finish(sum) << 16);
  port.commit(DATA_AT + octets);
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

/** SYN or SYN-ACK, with MSS and, where `shift` is not negative, window scale; false: the link has no room. */
export function writeSyn(c: Tcb, flags: number, window: number, mss: number, shift: number): boolean {
  const optionOctets = options.MAXIMUM_SEGMENT_SIZE_OCTETS + (shift >= 0 ? options.WINDOW_SCALE_OCTETS : 0);
  const { port } = c;
  if (!port.reserve(DATA_AT + optionOctets)) return false;
  const { view } = port.arena;
  const { at } = port;
  const tcpOctets = tcp.HEADER_OCTETS + optionOctets;
  writeHeaders(c, view, at, ipv4.HEADER_OCTETS + tcpOctets);
  const acknowledgement = (flags & tcp.ACK) === 0 ? 0 : c.rcvNxt;
  view.setInt32(at + TCP_AT + tcp.SEQUENCE, c.iss);
  view.setInt32(at + TCP_AT + tcp.ACKNOWLEDGEMENT, acknowledgement);
  const flagsWindow = ((tcpOctets / 4) << 28) | (flags << 16) | window;
  view.setInt32(at + TCP_AT + tcp.DATA_OFFSET_FLAGS, flagsWindow);
  view.setInt32(at + TCP_AT + tcp.CHECKSUM, 0);
  const after = options.emitMaximumSegmentSize(view, at + DATA_AT, mss);
  if (shift >= 0) options.emitWindowScale(view, after, shift);
  let sum = c.tcpSum + tcpOctets + halves(c.iss) + halves(acknowledgement) + halves(flagsWindow);
  for (let i = 0; i < optionOctets; i += 4) sum += halves(view.getInt32(at + DATA_AT + i));
  view.setUint16(at + TCP_AT + tcp.CHECKSUM, finish(sum));
  port.commit(DATA_AT + optionOctets);
  return true;
}
