/**
 * Frames as a guest sends them, written one after another behind their lengths, as QEMU's stream framing wants them. The
 * arena must have room for what is written between two calls of `take`.
 */

import type { Arena } from '../../src/stack/port.ts';
import { finish, pseudoHeaderSum, sum } from '../../src/stack/wire/checksum.ts';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import * as ipv4 from '../../src/stack/wire/ipv4.ts';
import * as tcp from '../../src/stack/wire/tcp.ts';
import * as tcpOptions from '../../src/stack/wire/tcp-options.ts';
import * as udp from '../../src/stack/wire/udp.ts';

export const LENGTH_PREFIX = 4;
/** From a frame's length to its IP header, and to what that carries. */
export const IP = LENGTH_PREFIX + ethernet.HEADER_OCTETS;
export const TRANSPORT = IP + ipv4.HEADER_OCTETS;
/** Of windows other than a SYN's. RFC 7323 2.2 */
const WINDOW_SHIFT = 7;
const WINDOW = 0x4000;
const SYN_OPTIONS_OCTETS =
  tcpOptions.MAXIMUM_SEGMENT_SIZE_OCTETS +
  tcpOptions.SACK_PERMITTED_OCTETS +
  tcpOptions.TIMESTAMPS_OCTETS +
  tcpOptions.WINDOW_SCALE_OCTETS;
const GUEST_MAC = 0x02_00_00_00_00_02;

/** The numbers of a segment: ports from the guest's side, SND.NXT, RCV.NXT and the timestamp to echo. */
export interface Segment {
  readonly address: number;
  readonly ownPort: number;
  readonly port: number;
  readonly sndNxt: number;
  readonly rcvNxt: number;
  readonly tsRecent: number;
}

export class GuestFrames {
  readonly #arena: Arena;
  readonly #own: number;
  readonly #gatewayMac: number;
  readonly #mtu: number;
  #end = 0;

  /** `own`: the guest's address, as a word. */
  constructor(arena: Arena, own: number, gatewayMac: number, mtu: number) {
    this.#arena = arena;
    this.#own = own;
    this.#gatewayMac = gatewayMac;
    this.#mtu = mtu;
  }

  /** Octets written since it was last asked. */
  take(): number {
    const end = this.#end;
    this.#end = 0;
    return end;
  }

  /** A segment with `payload` octets of whatever. */
  segment(to: Segment, flags: number, payload = 0): void {
    const { view } = this.#arena;
    const syn = (flags & tcp.SYN) !== 0;
    const header = tcp.HEADER_OCTETS + (syn ? SYN_OPTIONS_OCTETS : tcpOptions.TIMESTAMPS_OCTETS);
    const at = this.#packet(to.address, ipv4.PROTOCOL_TCP, header + payload);
    const ack = (flags & tcp.ACK) === 0 ? 0 : to.rcvNxt;
    tcp.emit(view, at, to.ownPort, to.port, to.sndNxt, ack, header, flags, syn ? 0xffff : WINDOW);
    let option = at + tcp.HEADER_OCTETS;
    if (syn) {
      option = tcpOptions.emitMaximumSegmentSize(view, option, this.#mtu - ipv4.HEADER_OCTETS - tcp.HEADER_OCTETS);
      option = tcpOptions.emitSackPermitted(view, option);
    }
    option = tcpOptions.emitTimestamps(view, option, 1, to.tsRecent);
    if (syn) tcpOptions.emitWindowScale(view, option, WINDOW_SHIFT);
    tcp.setChecksum(view, at, this.#sum(to.address, ipv4.PROTOCOL_TCP, at, header + payload));
  }

  datagram(address: number, ownPort: number, port: number, payload: Uint8Array): void {
    const { bytes, view } = this.#arena;
    const length = udp.HEADER_OCTETS + payload.length;
    const at = this.#packet(address, ipv4.PROTOCOL_UDP, length);
    udp.emit(view, at, ownPort, port, length);
    bytes.set(payload, at + udp.HEADER_OCTETS);
    udp.setChecksum(view, at, this.#sum(address, ipv4.PROTOCOL_UDP, at, length));
  }

  /** Length, Ethernet and IP header; returns where the payload is to go. */
  #packet(to: number, protocol: number, octets: number): number {
    const { view } = this.#arena;
    const at = this.#end;
    const total = ipv4.HEADER_OCTETS + octets;
    view.setUint32(at, ethernet.HEADER_OCTETS + total);
    ethernet.emit(view, at + LENGTH_PREFIX, this.#gatewayMac, GUEST_MAC, ethernet.TYPE_IPV4);
    ipv4.emit(view, at + IP, total, 0, ipv4.DONT_FRAGMENT, 64, protocol, this.#own, to);
    this.#end = at + IP + total;
    return at + TRANSPORT;
  }

  #sum(to: number, protocol: number, at: number, octets: number): number {
    return finish(sum(this.#arena.view, at, octets, pseudoHeaderSum(this.#own, to, protocol, octets)));
  }
}
