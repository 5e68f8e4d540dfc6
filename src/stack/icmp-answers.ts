/** What ICMP tells a guest on behalf of others, whichever the family: echo replies, and errors about what is not at hand. */

import type { Drops } from './drops.ts';
import type { Icmp } from './icmp.ts';
import type { Icmpv6 } from './icmpv6.ts';
import type { Address, EchoRequest, Endpoints, UnreachableKind } from './port.ts';
import { ipv4Word, isIpv4 } from './wire/address.ts';
import * as icmp from './wire/icmp.ts';
import * as icmpv6 from './wire/icmpv6.ts';
import * as ipv4 from './wire/ipv4.ts';
import { PROTOCOL_ICMPV6 } from './wire/ipv6.ts';

export class IcmpAnswers {
  readonly #icmp: Icmp;
  readonly #icmpv6: Icmpv6 | undefined;
  readonly #drops: Drops;

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
  unreachable(kind: UnreachableKind, about: Endpoints, mtu: number, nowMs: number): boolean {
    const { guestAddress: guest, peerAddress: peer } = about;
    const { protocol, first, second } = quoteOf(about);
    return this.#unreachable(kind, guest, peer, protocol, first, second, mtu, nowMs);
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
    return this.#unreachable(kind, guest, peer, ipv4.PROTOCOL_TCP, first, second, 0, nowMs);
  }

  /** A datagram or an echo request of the guest ran out of hops at a router. */
  timeExceeded(about: Endpoints, router: Address, nowMs: number): boolean {
    const { guestAddress: guest, peerAddress: peer } = about;
    if (!this.#sameFamily(guest, router)) return false;
    const { protocol, first, second } = quoteOf(about);
    if (!isIpv4(guest)) return this.#icmpv6?.timeExceeded(router, guest, peer, protocol, first, second, nowMs) ?? false;
    const [routerWord, guestWord, peerWord] = [ipv4Word(router), ipv4Word(guest), ipv4Word(peer)];
    return this.#icmp.timeExceeded(routerWord, guestWord, peerWord, protocol, first, second, nowMs);
  }

  #unreachable(
    kind: UnreachableKind,
    guest: Address,
    peer: Address,
    protocol: number,
    first: number,
    second: number,
    mtu: number,
    nowMs: number,
  ): boolean {
    if (!this.#sameFamily(guest, peer)) return false;
    if (!isIpv4(guest))
      return this.#icmpv6?.unreachable(kind, guest, peer, protocol, first, second, mtu, nowMs) ?? false;
    return this.#icmp.unreachable(kind, ipv4Word(guest), ipv4Word(peer), protocol, first, second, mtu, nowMs);
  }

  #sameFamily(one: Address, other: Address): boolean {
    if (isIpv4(one) === isIpv4(other)) return true;
    this.#drops.count('address-family');
    return false;
  }
}

/** What an ICMP error quotes of a datagram or an echo request: its protocol, and the first 8 octets behind the addresses. */
function quoteOf(about: Endpoints) {
  const { guestPort, peerPort } = about;
  if (!('identifier' in about && 'sequence' in about))
    return { protocol: ipv4.PROTOCOL_UDP, first: (guestPort << 16) | peerPort, second: 8 << 16 };
  const [protocol, type] = isIpv4(about.guestAddress)
    ? [ipv4.PROTOCOL_ICMP, icmp.ECHO_REQUEST]
    : [PROTOCOL_ICMPV6, icmpv6.ECHO_REQUEST];
  return { protocol, first: type << 24, second: (Number(about.identifier) << 16) | Number(about.sequence) };
}
