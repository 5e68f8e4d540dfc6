/** What ICMP tells a guest on behalf of others, whichever the family: echo replies, and errors about what is not at hand. */

import type { Drops } from './drops.ts';
import { type Icmp, MADE_OCTETS } from './icmp.ts';
import { type Icmpv6, MADE_OCTETS as MADE_OCTETS6 } from './icmpv6.ts';
import type { Address, EchoRequest, Undelivered, UnreachableKind } from './port.ts';
import { Quote } from './quote.ts';
import { ipv4Word, isIpv4 } from './wire/address.ts';

export class IcmpAnswers {
  readonly #icmp: Icmp;
  readonly #icmpv6: Icmpv6 | undefined;
  readonly #drops: Drops;
  readonly #quote = new Quote();

  /** Without `icmpv6` there is no IPv6. */
  constructor(icmp: Icmp, icmpv6: Icmpv6 | undefined, drops: Drops) {
    this.#icmp = icmp;
    this.#icmpv6 = icmpv6;
    this.#drops = drops;
  }

  echoReply(
    request: Pick<EchoRequest, 'guestAddress' | 'peerAddress' | 'identifier' | 'sequence'>,
    payload: Uint8Array,
  ): boolean {
    const { guestAddress: guest, peerAddress: peer, identifier, sequence } = request;
    if (!this.#sameFamily(guest, peer)) return false;
    if (isIpv4(guest)) return this.#icmp.echoReply(ipv4Word(guest), ipv4Word(peer), identifier, sequence, payload);
    return this.#icmpv6?.echoReply(guest, peer, identifier, sequence, payload) ?? false;
  }

  /** About a datagram or an echo request of the guest. */
  unreachable(kind: UnreachableKind, about: Undelivered, mtu: number, nowMs: number): boolean {
    const { guestAddress: guest, peerAddress: peer } = about;
    return this.#unreachable(kind, guest, peer, this.#quoteOf(about), mtu, nowMs);
  }

  /** About a SYN, of which the first 8 octets are given. */
  synUnreachable(
    kind: UnreachableKind,
    guest: Address,
    peer: Address,
    first: number,
    second: number,
    nowMs: number,
  ): boolean {
    return this.#unreachable(kind, guest, peer, this.#quote.makeSegment(first, second), 0, nowMs);
  }

  /** A datagram or an echo request of the guest ran out of hops at a router. */
  timeExceeded(about: Undelivered, router: Address, nowMs: number): boolean {
    const { guestAddress: guest, peerAddress: peer } = about;
    if (!this.#sameFamily(guest, router)) return false;
    const quote = this.#quoteOf(about);
    if (!isIpv4(guest)) return this.#icmpv6?.timeExceeded(router, guest, peer, quote, nowMs) ?? false;
    return this.#icmp.timeExceeded(ipv4Word(router), ipv4Word(guest), ipv4Word(peer), quote, nowMs);
  }

  #unreachable(
    kind: UnreachableKind,
    guest: Address,
    peer: Address,
    quote: Quote,
    mtu: number,
    nowMs: number,
  ): boolean {
    if (!this.#sameFamily(guest, peer)) return false;
    if (!isIpv4(guest)) return this.#icmpv6?.unreachable(kind, guest, peer, quote, mtu, nowMs) ?? false;
    return this.#icmp.unreachable(kind, ipv4Word(guest), ipv4Word(peer), quote, mtu, nowMs);
  }

  #quoteOf(about: Undelivered): Quote {
    return this.#quote.make(about, isIpv4(about.guestAddress) ? MADE_OCTETS : MADE_OCTETS6);
  }

  #sameFamily(one: Address, other: Address): boolean {
    if (isIpv4(one) === isIpv4(other)) return true;
    this.#drops.count('address-family');
    return false;
  }
}
