/**
 * What a link that takes no offload needs done before: a frame of several TCP segments is cut (RFC 9293 3.7, as virtio's
 * VIRTIO_NET_HDR_GSO_TCPV4 and TCPV6 have it), and a checksum that its sender left open is filled in. One frame at a
 * time, in memory of our own; sizes and offsets come from the headers themselves, which are checked.
 */

import { CHECKSUM_PARTIAL, type FrameBatch } from '../frame-batch.ts';
import { plainArena, sum } from '../frame-memory.ts';
import type { Arena } from '../port.ts';
import { finish } from '../wire/checksum.ts';
import * as ethernet from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import * as tcp from '../wire/tcp.ts';
import * as udp from '../wire/udp.ts';
import { FrameHeaders } from './frame-headers.ts';

/** An IP packet of 65535 octets behind an Ethernet header with a VLAN tag. */
export const LARGEST_FRAME = 65535 + ethernet.HEADER_OCTETS + 4;

const IP_AT = ethernet.HEADER_OCTETS;
/** On the last segment of a frame only, and on the first only. */
const LAST_FLAGS = tcp.FIN | tcp.PSH;

export class SegmentCutter {
  /** The frame at hand, in one piece. */
  readonly arena: Arena = plainArena(LARGEST_FRAME);
  /** Its headers, as they are before it is cut. */
  readonly headers = new FrameHeaders();
  octets = 0;
  #headerOctets = 0;
  #segmentOctets = 0;

  /** Takes a frame over; returns how many frames it becomes. 0: it claims what it is not. */
  take(batch: FrameBatch, index: number): number {
    const octets = batch.octets[index]!;
    if (octets === 0 || octets > LARGEST_FRAME) return 0;
    this.octets = octets;
    let place = 0;
    for (let fragment = batch.first[index]!; place < octets; fragment++) {
      const begin = batch.offset[fragment]!;
      const length = batch.length[fragment]!;
      this.arena.bytes.set(batch.arena[fragment]!.bytes.subarray(begin, begin + length), place);
      place += length;
    }
    const segmentOctets = batch.segmentOctets[index]!;
    const isPartial = batch.checksum[index] === CHECKSUM_PARTIAL;
    this.headers.read(this.arena.view, 0, octets);
    this.#segmentOctets = 0;
    if (segmentOctets > 0) return this.#prepare(segmentOctets);
    if (isPartial && this.#trim()) this.#fillTransport(this.arena, 0, this.octets);
    return 1;
  }

  /** Octets of the `index`th of the frames that the one at hand becomes. */
  octetsOf(index: number): number {
    if (this.#segmentOctets === 0) return this.octets;
    const left = this.octets - this.#headerOctets - index * this.#segmentOctets;
    return this.#headerOctets + Math.min(left, this.#segmentOctets);
  }

  /** Writes it where the caller wants it. */
  write(index: number, into: Arena, at: number): void {
    const octets = this.octetsOf(index);
    if (this.#segmentOctets === 0) {
      into.bytes.set(this.arena.bytes.subarray(0, octets), at);
      return;
    }
    const header = this.#headerOctets;
    const skip = index * this.#segmentOctets;
    into.bytes.set(this.arena.bytes.subarray(0, header), at);
    into.bytes.set(this.arena.bytes.subarray(header + skip, skip + octets), at + header);
    const { view } = into;
    const ip = at + IP_AT;
    const segment = at + this.headers.transportAt;
    view.setUint32(segment + tcp.SEQUENCE, (tcp.sequence(view, segment) + skip) >>> 0);
    const flags = tcp.flags(view, segment);
    let kept = 0xff;
    if (skip + octets < this.octets) kept &= ~LAST_FLAGS;
    if (index > 0) kept &= ~tcp.CWR;
    view.setUint8(segment + tcp.DATA_OFFSET_FLAGS + 1, flags & kept);
    if (this.headers.type === ethernet.TYPE_IPV4) {
      view.setUint16(ip + ipv4.TOTAL_LENGTH, octets - IP_AT);
      view.setUint16(ip + ipv4.IDENTIFICATION, (ipv4.identification(view, ip) + index) & 0xffff);
      ipv4.fillChecksum(view, ip);
    } else view.setUint16(ip + ipv6.PAYLOAD_LENGTH, octets - IP_AT - ipv6.HEADER_OCTETS);
    this.#fillTransport(into, at, octets);
  }

  #prepare(segmentOctets: number): number {
    const { headers } = this;
    if (headers.protocol !== ipv4.PROTOCOL_TCP || headers.transportAt === 0 || !this.#trim()) return 0;
    const { view } = this.arena;
    const { transportAt } = headers;
    if (tcp.check(view, transportAt, this.octets - transportAt) !== 0) return 0;
    this.#headerOctets = transportAt + tcp.headerOctets(view, transportAt);
    const payload = this.octets - this.#headerOctets;
    this.#segmentOctets = segmentOctets;
    return Math.max(1, Math.ceil(payload / segmentOctets));
  }

  /** Leaves padding behind the packet off; false: the packet claims to be longer than the frame. */
  #trim(): boolean {
    const { view } = this.arena;
    const { type, transportAt } = this.headers;
    if (transportAt === 0) return false;
    const ipOctets =
      type === ethernet.TYPE_IPV4
        ? ipv4.totalLength(view, IP_AT)
        : ipv6.HEADER_OCTETS + view.getUint16(IP_AT + ipv6.PAYLOAD_LENGTH);
    if (IP_AT + ipOctets > this.octets || IP_AT + ipOctets < transportAt) return false;
    this.octets = IP_AT + ipOctets;
    return true;
  }

  /** The transport's checksum over the frame of `octets` at `at`. */
  #fillTransport(arena: Arena, at: number, octets: number): void {
    const { protocol, transportAt, type } = this.headers;
    const isTcp = protocol === ipv4.PROTOCOL_TCP;
    if (!isTcp && protocol !== ipv4.PROTOCOL_UDP) return;
    const length = octets - transportAt;
    if (length < (isTcp ? tcp.HEADER_OCTETS : udp.HEADER_OCTETS)) return;
    const { view } = arena;
    const segment = at + transportAt;
    const field = segment + (isTcp ? tcp.CHECKSUM : udp.CHECKSUM);
    view.setUint16(field, 0);
    // The pseudo-header: addresses, length and protocol. RFC 9293 3.1, RFC 8200 8.1.
    const [from, width] = type === ethernet.TYPE_IPV4 ? [ipv4.SOURCE, 8] : [ipv6.SOURCE, 32];
    const pseudo = sum(arena, at + IP_AT + from, width) + length + protocol;
    const value = finish(pseudo + sum(arena, segment, length));
    view.setUint16(field, value === 0 && !isTcp ? 0xffff : value);
  }
}
