/**
 * Who the stack is in IPv6: the gateway with a link-local address made from its MAC address (RFC 4291 2.5.1, appendix A)
 * and the first address of the network's prefix, the host alias with the second, and the multicast groups that they are
 * members of. Addresses are compared as four signed words.
 */

import type { Packet } from './packet.ts';
import type { Address } from './port.ts';
import { ADDRESS_OCTETS, contains, parseIpv6, setWord, word } from './wire/address.ts';

export interface Ipv6Options {
  /** The network's /64, out of which guests make addresses of their own: unique local (RFC 4193) as a rule. */
  readonly prefix: Address;
  /** Host number 1 of the prefix where it is not given. */
  readonly gateway?: Address;
  /** The address that stands for the host's loopback: host number 2. */
  readonly hostAlias?: Address;
  /** What guests are told of name servers (RFC 8106 5.1): the gateway, where it is not given; none: empty. */
  readonly dnsServers?: readonly Address[];
  /** RFC 8106 5.2; read for each advertisement, as the host's search list may change. */
  readonly searchDomains?: () => readonly string[];
  /** False: a host on a link like others, whose router is somebody else. */
  readonly isRouter?: boolean;
  /** What guests are to ask a DHCPv6 server for: everything else than addresses (RFC 4861's O flag), or these too (M). */
  readonly dhcp?: 'information' | 'addresses' | undefined;
}

/** Of the prefix that guests make addresses in. RFC 4862 5.5.3(d) with identifiers of 64 bits. */
export const PREFIX_BITS = 64;

const groups: readonly Address[] = ['ff02::1', 'ff02::2', 'ff02::1:2', 'ff05::1:3'].map((text) => parseIpv6(text)!);
/** All nodes of the link. RFC 4291 2.7.1. */
export const ALL_NODES: Address = groups[0]!;

/** fe80::/64 and a modified EUI-64 identifier. */
export function linkLocalOf(macAddress: Uint8Array): Address {
  const [a, b, c, d, e, f] = macAddress;
  return Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, a! ^ 2, b!, c!, 0xff, 0xfe, d!, e!, f!);
}

/** Host `number` of a /64. */
export function hostOf(prefix: Address, number: number): Address {
  const address = prefix.slice();
  setWord(address, 2, 0);
  setWord(address, 3, number);
  return address;
}

/** ff02::1:ffXX:XXXX. RFC 4291 2.7.1. */
export const solicitedNode = (address: Address): Address =>
  Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, ...address.subarray(13));

class Words {
  readonly w0: number;
  readonly w1: number;
  readonly w2: number;
  readonly w3: number;

  constructor(address: Address) {
    this.w0 = word(address, 0);
    this.w1 = word(address, 1);
    this.w2 = word(address, 2);
    this.w3 = word(address, 3);
  }

  is(w0: number, w1: number, w2: number, w3: number): boolean {
    return w3 === this.w3 && w2 === this.w2 && w1 === this.w1 && w0 === this.w0;
  }
}

export class Ipv6Identity {
  readonly options: Ipv6Options;
  readonly prefix: Address;
  readonly linkLocal: Address;
  readonly gateway: Address;
  readonly hostAlias: Address;
  readonly isRouter: boolean;
  readonly #linkLocal: Words;
  readonly #gateway: Words;
  readonly #hostAlias: Words;
  readonly #prefix: Words;
  readonly #groups: readonly Words[];

  constructor(macAddress: Uint8Array, options: Ipv6Options) {
    this.options = options;
    this.prefix = hostOf(options.prefix, 0);
    this.linkLocal = linkLocalOf(macAddress);
    this.gateway = options.gateway ?? hostOf(this.prefix, 1);
    this.hostAlias = options.hostAlias ?? hostOf(this.prefix, 2);
    this.isRouter = options.isRouter ?? true;
    const own = [this.linkLocal, this.gateway, this.hostAlias];
    for (const address of own.slice(1))
      if (address.length !== ADDRESS_OCTETS || !contains(this.prefix, PREFIX_BITS, address))
        throw Object.assign(new Error("the gateway's IPv6 addresses must be in the prefix"), { code: 'EINVAL' });
    this.#prefix = new Words(this.prefix);
    [this.#linkLocal, this.#gateway, this.#hostAlias] = own.map((address) => new Words(address)) as [
      Words,
      Words,
      Words,
    ];
    this.#groups = [...groups, ...own.map(solicitedNode)].map((address) => new Words(address));
  }

  isOwn(w0: number, w1: number, w2: number, w3: number): boolean {
    return this.isGateway(w0, w1, w2, w3) || this.#hostAlias.is(w0, w1, w2, w3);
  }

  isOwnAddress(address: Address): boolean {
    return this.isOwn(word(address, 0), word(address, 1), word(address, 2), word(address, 3));
  }

  /** By either of its addresses. */
  isGateway(w0: number, w1: number, w2: number, w3: number): boolean {
    return this.#gateway.is(w0, w1, w2, w3) || this.#linkLocal.is(w0, w1, w2, w3);
  }

  isGatewayOf(packet: Packet): boolean {
    return this.isGateway(packet.destination0, packet.destination1, packet.destination2, packet.destination3);
  }

  isOwnOf(packet: Packet): boolean {
    return this.isOwn(packet.destination0, packet.destination1, packet.destination2, packet.destination3);
  }

  /** A multicast group that we are a member of. */
  hears(w0: number, w1: number, w2: number, w3: number): boolean {
    for (const group of this.#groups) if (group.is(w0, w1, w2, w3)) return true;
    return false;
  }

  /** On the link: in the prefix, or link-local. */
  isOnLink(w0: number, w1: number): boolean {
    return (w0 === this.#prefix.w0 && w1 === this.#prefix.w1) || isLinkLocal(w0);
  }

  /**
   * No guest can be the source of this: multicast, the loopback, mapped and compatible forms of IPv4 (RFC 4291 2.5.5;
   * they would pass for what they name), or our own. The unspecified one is, in what asks for an address.
   */
  isForeignSource(w0: number, w1: number, w2: number, w3: number): boolean {
    if (w0 >>> 24 === 0xff) return true;
    if (w0 === 0 && w1 === 0 && (w2 === 0 || w2 === 0xffff)) return w2 !== 0 || w3 !== 0;
    return this.isOwn(w0, w1, w2, w3);
  }
}

/** fe80::/10 */
export const isLinkLocal = (w0: number): boolean => w0 >>> 22 === 0xfe80 >> 6;
export const isMulticast = (w0: number): boolean => w0 >>> 24 === 0xff;
