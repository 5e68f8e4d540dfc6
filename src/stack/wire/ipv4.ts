/** The IPv4 header. RFC 791. Addresses are signed 32-bit words here; `address.ts` turns them into 16 octets and back. */

import { finish, fold, sum } from './checksum.ts';
import { BAD_CHECKSUM, BAD_HEADER_LENGTH, BAD_LENGTH, BAD_VERSION, type Fault, SOUND, TOO_SHORT } from './fault.ts';

export const VERSION_IHL = 0;
export const TYPE_OF_SERVICE = 1;
export const TOTAL_LENGTH = 2;
export const IDENTIFICATION = 4;
export const FLAGS_FRAGMENT = 6;
export const TIME_TO_LIVE = 8;
export const PROTOCOL = 9;
export const CHECKSUM = 10;
export const SOURCE = 12;
export const DESTINATION = 16;
/** Without options; 60 with all of them. */
export const HEADER_OCTETS = 20;

export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;

/** Bits of the FLAGS_FRAGMENT word. */
export const DONT_FRAGMENT = 0x4000;
export const MORE_FRAGMENTS = 0x2000;

export const headerOctets = (view: DataView, at: number): number => (view.getUint8(at + VERSION_IHL) & 0x0f) << 2;
export const typeOfService = (view: DataView, at: number): number => view.getUint8(at + TYPE_OF_SERVICE);
export const totalLength = (view: DataView, at: number): number => view.getUint16(at + TOTAL_LENGTH);
export const identification = (view: DataView, at: number): number => view.getUint16(at + IDENTIFICATION);
export const dontFragment = (view: DataView, at: number): boolean =>
  (view.getUint16(at + FLAGS_FRAGMENT) & DONT_FRAGMENT) !== 0;
export const moreFragments = (view: DataView, at: number): boolean =>
  (view.getUint16(at + FLAGS_FRAGMENT) & MORE_FRAGMENTS) !== 0;
/** In octets. */
export const fragmentOffset = (view: DataView, at: number): number =>
  (view.getUint16(at + FLAGS_FRAGMENT) & 0x1fff) << 3;
/** A fragment of any kind: more to come, or not at the start. */
export const isFragment = (view: DataView, at: number): boolean => (view.getUint16(at + FLAGS_FRAGMENT) & 0x3fff) !== 0;
export const timeToLive = (view: DataView, at: number): number => view.getUint8(at + TIME_TO_LIVE);
export const protocol = (view: DataView, at: number): number => view.getUint8(at + PROTOCOL);
export const checksum = (view: DataView, at: number): number => view.getUint16(at + CHECKSUM);
export const source = (view: DataView, at: number): number => view.getInt32(at + SOURCE);
export const destination = (view: DataView, at: number): number => view.getInt32(at + DESTINATION);

/**
 * Whether `at` begins a sound IPv4 header, of a packet of which `length` octets are at hand (padding after it is fine).
 * `contiguous` octets of them can be read at `at`: the header must lie within.
 */
export function check(view: DataView, at: number, length: number, contiguous = length): Fault {
  if (contiguous < HEADER_OCTETS) return TOO_SHORT;
  const first = view.getUint8(at);
  if (first >> 4 !== 4) return BAD_VERSION;
  const header = (first & 0x0f) << 2;
  if (header < HEADER_OCTETS || header > contiguous) return BAD_HEADER_LENGTH;
  const total = view.getUint16(at + TOTAL_LENGTH);
  if (total < header || total > length) return BAD_LENGTH;
  // RFC 1122 3.2.1.2: a wrong header checksum must be discarded silently.
  if (fold(sum(view, at, header)) === 0xffff) return SOUND;
  // Deviation: the DHCP client of RootlessKit leaves the checksum 0, and has no address yet (RFC 2131 4.1).
  const unsummed = view.getUint16(at + CHECKSUM) === 0 && view.getUint8(at + PROTOCOL) === PROTOCOL_UDP;
  return unsummed && source(view, at) === 0 && destination(view, at) === -1 ? SOUND : BAD_CHECKSUM;
}

/** Writes a header of 20 octets, its checksum included. `flagsFragment`: the flags and the fragment offset in 8-octet units. */
export function emit(
  view: DataView,
  at: number,
  totalLength: number,
  identification: number,
  flagsFragment: number,
  timeToLive: number,
  protocol: number,
  source: number,
  destination: number,
  typeOfService = 0,
): void {
  view.setUint16(at + VERSION_IHL, 0x4500 | typeOfService);
  view.setUint16(at + TOTAL_LENGTH, totalLength);
  view.setUint16(at + IDENTIFICATION, identification);
  view.setUint16(at + FLAGS_FRAGMENT, flagsFragment);
  view.setUint16(at + TIME_TO_LIVE, (timeToLive << 8) | protocol);
  view.setInt32(at + SOURCE, source);
  view.setInt32(at + DESTINATION, destination);
  const words =
    (0x4500 | typeOfService) +
    totalLength +
    identification +
    flagsFragment +
    ((timeToLive << 8) | protocol) +
    (source >>> 16) +
    (source & 0xffff) +
    (destination >>> 16) +
    (destination & 0xffff);
  view.setUint16(at + CHECKSUM, finish(words));
}

/** Sums the header of `headerOctets` octets anew, after it was changed in place. */
export function fillChecksum(view: DataView, at: number): void {
  view.setUint16(at + CHECKSUM, 0);
  view.setUint16(at + CHECKSUM, finish(sum(view, at, headerOctets(view, at))));
}
