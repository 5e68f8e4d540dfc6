/** UDP. RFC 768, RFC 1122 4.1. */

import { BAD_LENGTH, type Fault, SOUND, TOO_SHORT } from './fault.ts';

export const SOURCE_PORT = 0;
export const DESTINATION_PORT = 2;
export const LENGTH = 4;
export const CHECKSUM = 6;
export const HEADER_OCTETS = 8;

export const sourcePort = (view: DataView, at: number): number => view.getUint16(at + SOURCE_PORT);
export const destinationPort = (view: DataView, at: number): number => view.getUint16(at + DESTINATION_PORT);
/** Of header and payload. */
export const length = (view: DataView, at: number): number => view.getUint16(at + LENGTH);
/** 0: the sender did not sum (IPv4 only). */
export const checksum = (view: DataView, at: number): number => view.getUint16(at + CHECKSUM);

/** Whether `at` begins a sound UDP header of a datagram of which `available` octets are at hand (what IP carried). */
export function check(view: DataView, at: number, available: number): Fault {
  if (available < HEADER_OCTETS) return TOO_SHORT;
  const total = view.getUint16(at + LENGTH);
  return total < HEADER_OCTETS || total > available ? BAD_LENGTH : SOUND;
}

/** Writes a header with checksum 0; `length` is of header and payload. */
export function emit(view: DataView, at: number, sourcePort: number, destinationPort: number, length: number): void {
  view.setUint16(at + SOURCE_PORT, sourcePort);
  view.setUint16(at + DESTINATION_PORT, destinationPort);
  view.setUint16(at + LENGTH, length);
  view.setUint16(at + CHECKSUM, 0);
}

/** Fills in the checksum; a sum of 0 travels as 0xffff, as 0 means there is none. RFC 768. */
export const setChecksum = (view: DataView, at: number, checksum: number): void =>
  view.setUint16(at + CHECKSUM, checksum === 0 ? 0xffff : checksum);
