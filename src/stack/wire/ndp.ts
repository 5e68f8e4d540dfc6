/**
 * Neighbour discovery's messages and options. RFC 4861 4; RFC 8106 (name servers and search list). They are ICMPv6: the
 * caller sums, and has seen that the hop limit is 255 and the packet no fragment (RFC 4861 6.1, 7.1; RFC 6980).
 */

import { ADDRESS_OCTETS, type Address } from './address.ts';
import { setMac } from './ethernet.ts';
import { BAD_FORMAT, BAD_LENGTH, type Fault, SOUND, TOO_SHORT } from './fault.ts';
import { CODE, emit, TYPE } from './icmpv6.ts';

export const ROUTER_SOLICITATION = 133;
export const ROUTER_ADVERTISEMENT = 134;
export const NEIGHBOR_SOLICITATION = 135;
export const NEIGHBOR_ADVERTISEMENT = 136;
export const REDIRECT = 137;

/** Of a neighbour solicitation or advertisement. */
export const TARGET = 8;

/** Bits of an advertisement of a neighbour, in its second word. 4.4. */
export const ROUTER = 0x8000_0000;
export const SOLICITED = 0x4000_0000;
export const OVERRIDE = 0x2000_0000;

/** Bits of an advertisement of a router. 4.2. */
export const MANAGED = 0x80;
export const OTHER = 0x40;

/** Bits of a prefix. 4.6.2. */
export const ON_LINK = 0x80;
export const AUTONOMOUS = 0x40;

export const SOURCE_LINK_LAYER = 1;
export const TARGET_LINK_LAYER = 2;
export const PREFIX_INFORMATION = 3;
export const LINK_MTU = 5;
export const DNS_SERVERS = 25;
export const DNS_SEARCH = 31;

export const LINK_LAYER_OCTETS = 8;
export const PREFIX_OCTETS = 32;
export const LINK_MTU_OCTETS = 8;
/** Of an option: what is before its value. */
export const OPTION_HEADER_OCTETS = 2;

/** A message's octets before its options; 0: not a message of neighbour discovery. */
export function messageOctets(type: number): number {
  switch (type) {
    case ROUTER_SOLICITATION:
      return 8;
    case ROUTER_ADVERTISEMENT:
      return 16;
    case NEIGHBOR_SOLICITATION:
    case NEIGHBOR_ADVERTISEMENT:
      return 24;
    case REDIRECT:
      return 40;
    default:
      return 0;
  }
}

/** Whether `at` begins a sound message of `length` octets: its code 0, and options that fill it. 6.1.1 to 8.1. */
export function check(view: DataView, at: number, length: number): Fault {
  if (length < 4) return TOO_SHORT;
  const octets = messageOctets(view.getUint8(at + TYPE));
  if (octets === 0 || view.getUint8(at + CODE) !== 0) return BAD_FORMAT;
  if (length < octets) return TOO_SHORT;
  for (let place = octets; place < length; ) {
    // An option of length 0 would never end. 4.6: nodes must discard such a packet.
    const size = place + OPTION_HEADER_OCTETS > length ? 0 : view.getUint8(at + place + 1) * 8;
    if (size === 0 || place + size > length) return BAD_LENGTH;
    place += size;
  }
  return SOUND;
}

/** Where the first option of a kind is in a message that is sound; -1: it has none. */
export function option(view: DataView, at: number, length: number, kind: number): number {
  for (let place = messageOctets(view.getUint8(at + TYPE)); place < length; ) {
    if (view.getUint8(at + place) === kind) return at + place;
    place += view.getUint8(at + place + 1) * 8;
  }
  return -1;
}

/** Of the option at `at`, header included. */
export const optionOctets = (view: DataView, at: number): number => view.getUint8(at + 1) * 8;
/** Of a link-layer address option: where the MAC address is. */
export const LINK_LAYER_MAC = 2;
export const prefixLength = (view: DataView, at: number): number => view.getUint8(at + 2);
export const prefixFlags = (view: DataView, at: number): number => view.getUint8(at + 3);
export const validLifetime = (view: DataView, at: number): number => view.getUint32(at + 4);
export const preferredLifetime = (view: DataView, at: number): number => view.getUint32(at + 8);
/** Of a prefix option: where the prefix is. */
export const PREFIX = 16;
export const linkMtu = (view: DataView, at: number): number => view.getUint32(at + 4);

const copy = (view: DataView, at: number, address: Address): void => {
  for (let i = 0; i < ADDRESS_OCTETS; i++) view.setUint8(at + i, address[i]!);
};

/** A neighbour solicitation without options; returns its octets. 4.3. */
export function emitNeighborSolicitation(view: DataView, at: number, target: Address): number {
  emit(view, at, NEIGHBOR_SOLICITATION, 0, 0);
  copy(view, at + TARGET, target);
  return 24;
}

/** A neighbour advertisement without options; returns its octets. 4.4. */
export function emitNeighborAdvertisement(view: DataView, at: number, flags: number, target: Address): number {
  emit(view, at, NEIGHBOR_ADVERTISEMENT, 0, flags);
  copy(view, at + TARGET, target);
  return 24;
}

/** A router advertisement without options, reachable time and retransmission timer left to the host; returns its octets. 4.2. */
export function emitRouterAdvertisement(
  view: DataView,
  at: number,
  hopLimit: number,
  flags: number,
  lifetimeSeconds: number,
): number {
  emit(view, at, ROUTER_ADVERTISEMENT, 0, ((hopLimit << 24) | (flags << 16) | lifetimeSeconds) >>> 0);
  view.setUint32(at + 8, 0);
  view.setUint32(at + 12, 0);
  return 16;
}

/** A link-layer address option; `kind` is the source's or the target's. Each returns the option's octets. 4.6.1. */
export function emitLinkLayer(view: DataView, at: number, kind: number, mac: number): number {
  view.setUint16(at, (kind << 8) | 1);
  setMac(view, at + LINK_LAYER_MAC, mac);
  return LINK_LAYER_OCTETS;
}

/** 4.6.2. Lifetimes in seconds. */
export function emitPrefix(
  view: DataView,
  at: number,
  prefix: Address,
  length: number,
  flags: number,
  validSeconds: number,
  preferredSeconds: number,
): number {
  view.setUint16(at, (PREFIX_INFORMATION << 8) | 4);
  view.setUint16(at + 2, (length << 8) | flags);
  view.setUint32(at + 4, validSeconds);
  view.setUint32(at + 8, preferredSeconds);
  view.setUint32(at + 12, 0);
  copy(view, at + PREFIX, prefix);
  return PREFIX_OCTETS;
}

/** 4.6.4. */
export function emitLinkMtu(view: DataView, at: number, mtu: number): number {
  view.setUint32(at, (LINK_MTU << 24) | (1 << 16));
  view.setUint32(at + 4, mtu);
  return LINK_MTU_OCTETS;
}

/** RFC 8106 5.1. */
export function emitDnsServers(
  view: DataView,
  at: number,
  lifetimeSeconds: number,
  servers: readonly Address[],
): number {
  view.setUint32(at, (DNS_SERVERS << 24) | ((1 + 2 * servers.length) << 16));
  view.setUint32(at + 4, lifetimeSeconds);
  for (const [i, server] of servers.entries()) copy(view, at + 8 + i * ADDRESS_OCTETS, server);
  return 8 + servers.length * ADDRESS_OCTETS;
}

/** RFC 8106 5.2. `names`: RFC 1035 names one after the other, each with its closing zero; padded with zeros to 8 octets. */
export function emitDnsSearch(view: DataView, at: number, lifetimeSeconds: number, names: Uint8Array): number {
  const octets = 8 + ((names.length + 7) & ~7);
  view.setUint32(at, ((DNS_SEARCH << 24) | ((octets / 8) << 16)) >>> 0);
  view.setUint32(at + 4, lifetimeSeconds);
  for (let i = 0; i < octets - 8; i++) view.setUint8(at + 8 + i, names[i] ?? 0);
  return octets;
}
