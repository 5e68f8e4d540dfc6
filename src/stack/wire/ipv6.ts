/** The IPv6 header. RFC 8200 3. What may follow it before the transport: ipv6-extension.ts. */

import { ADDRESS_OCTETS, type Address } from './address.ts';
import { sum } from './checksum.ts';
import { BAD_LENGTH, BAD_VERSION, type Fault, SOUND, TOO_SHORT } from './fault.ts';

export const VERSION_CLASS_FLOW = 0;
export const PAYLOAD_LENGTH = 4;
export const NEXT_HEADER = 6;
export const HOP_LIMIT = 7;
export const SOURCE = 8;
export const DESTINATION = 24;
export const HEADER_OCTETS = 40;

export const PROTOCOL_ICMPV6 = 58;
/** Nothing follows. RFC 8200 4.7. */
export const NO_NEXT_HEADER = 59;
/** The least that every link carries. RFC 8200 5. */
export const MINIMUM_MTU = 1280;

export const trafficClass = (view: DataView, at: number): number => (view.getUint16(at) >> 4) & 0xff;
export const flowLabel = (view: DataView, at: number): number => view.getUint32(at) & 0xf_ffff;
/** Of everything after this header, extension headers included. */
export const payloadLength = (view: DataView, at: number): number => view.getUint16(at + PAYLOAD_LENGTH);
export const nextHeader = (view: DataView, at: number): number => view.getUint8(at + NEXT_HEADER);
export const hopLimit = (view: DataView, at: number): number => view.getUint8(at + HOP_LIMIT);
/** Word 0 to 3 of an address, as a signed 32-bit integer. */
export const sourceWord = (view: DataView, at: number, index: number): number =>
  view.getInt32(at + SOURCE + (index << 2));
export const destinationWord = (view: DataView, at: number, index: number): number =>
  view.getInt32(at + DESTINATION + (index << 2));

/** Copies the address at `at`. */
export function address(view: DataView, at: number, into: Address): void {
  for (let i = 0; i < ADDRESS_OCTETS; i++) into[i] = view.getUint8(at + i);
}

/**
 * Whether `at` begins a sound IPv6 header, of a packet of which `length` octets are at hand (padding after it is fine).
 * `contiguous` octets of them can be read at `at`. A jumbogram (RFC 2675) is no packet of ours: its length is 0.
 */
export function check(view: DataView, at: number, length: number, contiguous = length): Fault {
  if (contiguous < HEADER_OCTETS || length < HEADER_OCTETS) return TOO_SHORT;
  if (view.getUint8(at) >> 4 !== 6) return BAD_VERSION;
  return HEADER_OCTETS + view.getUint16(at + PAYLOAD_LENGTH) > length ? BAD_LENGTH : SOUND;
}

export function emit(
  view: DataView,
  at: number,
  payloadLength: number,
  nextHeader: number,
  hopLimit: number,
  source: Address,
  destination: Address,
  trafficClass = 0,
  flowLabel = 0,
): void {
  view.setUint32(at, ((6 << 28) | (trafficClass << 20) | flowLabel) >>> 0);
  view.setUint16(at + PAYLOAD_LENGTH, payloadLength);
  view.setUint16(at + NEXT_HEADER, (nextHeader << 8) | hopLimit);
  for (let i = 0; i < ADDRESS_OCTETS; i++) {
    view.setUint8(at + SOURCE + i, source[i]!);
    view.setUint8(at + DESTINATION + i, destination[i]!);
  }
}

/**
 * The partial sum of the pseudo-header of a transport (`protocol`: not an extension header's number) of `octets` octets,
 * its addresses taken from the header at `at`. RFC 8200 8.1. With a routing header that is not used up, the destination
 * is another one; such packets are not ours.
 */
export const pseudoHeaderSum = (view: DataView, at: number, protocol: number, octets: number): number =>
  sum(view, at + SOURCE, 2 * ADDRESS_OCTETS) + (octets >>> 16) + (octets & 0xffff) + protocol;
