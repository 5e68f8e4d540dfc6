/**
 * What an ICMP error quotes behind the IP header, where the packet itself is no longer at hand: a UDP header or an echo
 * request's, made anew, and as much of the payload as is known and the error has room for (RFC 1812 4.3.2.3, RFC 4443
 * 2.4(c)): programs know their probes by their payloads. Lengths are those of the whole packet. So is the checksum
 * where the whole payload is quoted; elsewhere it is 0.
 */

import { plainArena, sum } from './frame-memory.ts';
import { pseudoHeaderSum } from './ipv6-output.ts';
import type { FragmentList, Undelivered } from './port.ts';
import { isIpv4 } from './wire/address.ts';
import { finish } from './wire/checksum.ts';
import * as icmp from './wire/icmp.ts';
import * as icmpv6 from './wire/icmpv6.ts';
import * as ipv4 from './wire/ipv4.ts';
import * as ipv6 from './wire/ipv6.ts';
import * as udp from './wire/udp.ts';

/** UDP's header, an echo request's, and of TCP's what RFC 792 asks for. */
const HEADER_OCTETS = 8;

export class Quote {
  readonly #arena = plainArena(ipv6.MINIMUM_MTU);
  protocol = 0;
  /** How many octets are quoted. */
  octets = 0;
  /** How many there were behind the IP header of the packet. */
  length = 0;

  /** Makes it of a datagram or an echo request, with at most `most` octets. */
  make(about: Undelivered, most: number): this {
    const { view } = this.#arena;
    const { identifier = 0, sequence = 0 } = about;
    const isWhole = this.#take(about.payload, most);
    if (about.identifier === undefined) {
      this.protocol = ipv4.PROTOCOL_UDP;
      udp.emit(view, 0, about.guestPort, about.peerPort, this.length);
      if (isWhole) udp.setChecksum(view, 0, this.#checksum(about));
    } else if (isIpv4(about.guestAddress)) {
      this.protocol = ipv4.PROTOCOL_ICMP;
      icmp.emitEcho(view, 0, icmp.ECHO_REQUEST, identifier, sequence);
      if (isWhole) icmp.setChecksum(view, 0, finish(sum(this.#arena, 0, this.octets)));
    } else {
      this.protocol = ipv6.PROTOCOL_ICMPV6;
      icmpv6.emitEcho(view, 0, icmpv6.ECHO_REQUEST, identifier, sequence);
      if (isWhole) icmpv6.setChecksum(view, 0, this.#checksum(about));
    }
    return this;
  }

  /** Makes it of the first 8 octets of a TCP segment. */
  makeSegment(first: number, second: number): this {
    const { view } = this.#arena;
    this.protocol = ipv4.PROTOCOL_TCP;
    this.octets = HEADER_OCTETS;
    this.length = HEADER_OCTETS;
    view.setInt32(0, first);
    view.setInt32(4, second);
    return this;
  }

  copyTo(into: Uint8Array, at: number): void {
    into.set(this.#arena.bytes.subarray(0, this.octets), at);
  }

  /** Copies the payload behind where the header will be; whether it is known and there is room for all of it. */
  #take(payload: FragmentList | undefined, most: number): boolean {
    this.octets = HEADER_OCTETS;
    this.length = HEADER_OCTETS + (payload?.octets ?? 0);
    for (let i = 0; payload && i < payload.count; i++) {
      const { arena, offset, length } = payload.items[i]!;
      const octets = Math.min(length, most - this.octets);
      this.#arena.bytes.set(arena.bytes.subarray(offset, offset + octets), this.octets);
      this.octets += octets;
    }
    return payload !== undefined && this.octets === this.length;
  }

  /** With the pseudo-header: of IPv4, mapped addresses come to the same, as 0xffff adds nothing. */
  #checksum({ guestAddress, peerAddress }: Undelivered): number {
    const pseudo = pseudoHeaderSum(guestAddress, peerAddress, this.protocol, this.length);
    return finish(pseudo + sum(this.#arena, 0, this.octets));
  }
}
