/** ICMP for IPv4. RFC 792, RFC 1122 3.2.2, RFC 1191 4. The checksum covers header and payload: the caller sums. */

import { type Fault, SOUND, TOO_SHORT } from './fault.ts';

export const TYPE = 0;
export const CODE = 1;
export const CHECKSUM = 2;
/** Echo only. */
export const IDENTIFIER = 4;
/** Echo only. */
export const SEQUENCE = 6;
/** Fragmentation needed only. RFC 1191 4. */
export const NEXT_HOP_MTU = 6;
export const HEADER_OCTETS = 8;

export const ECHO_REPLY = 0;
export const DESTINATION_UNREACHABLE = 3;
export const SOURCE_QUENCH = 4;
export const REDIRECT = 5;
export const ECHO_REQUEST = 8;
export const TIME_EXCEEDED = 11;
export const PARAMETER_PROBLEM = 12;

/** Codes of DESTINATION_UNREACHABLE. */
export const NETWORK_UNREACHABLE = 0;
export const HOST_UNREACHABLE = 1;
export const PROTOCOL_UNREACHABLE = 2;
export const PORT_UNREACHABLE = 3;
export const FRAGMENTATION_NEEDED = 4;
/** RFC 1812 5.2.7.1. */
export const ADMINISTRATIVELY_PROHIBITED = 13;

/** Codes of TIME_EXCEEDED. */
export const TIME_TO_LIVE_EXCEEDED = 0;
export const REASSEMBLY_TIME_EXCEEDED = 1;

export const type = (view: DataView, at: number): number => view.getUint8(at + TYPE);
export const code = (view: DataView, at: number): number => view.getUint8(at + CODE);
export const checksum = (view: DataView, at: number): number => view.getUint16(at + CHECKSUM);
export const identifier = (view: DataView, at: number): number => view.getUint16(at + IDENTIFIER);
export const sequence = (view: DataView, at: number): number => view.getUint16(at + SEQUENCE);
export const nextHopMtu = (view: DataView, at: number): number => view.getUint16(at + NEXT_HOP_MTU);
/** An error message, about which no ICMP error may be sent. RFC 1122 3.2.2. */
export const isError = (type: number): boolean =>
  type === DESTINATION_UNREACHABLE ||
  type === SOURCE_QUENCH ||
  type === REDIRECT ||
  type === TIME_EXCEEDED ||
  type === PARAMETER_PROBLEM;

/** Whether `length` octets hold an ICMP header. */
export const check = (length: number): Fault => (length < HEADER_OCTETS ? TOO_SHORT : SOUND);

/** Writes a header with checksum 0, to be summed with the payload and filled in. `rest`: the second 32-bit word. */
export function emit(view: DataView, at: number, type: number, code: number, rest: number): void {
  view.setUint16(at + TYPE, (type << 8) | code);
  view.setUint16(at + CHECKSUM, 0);
  view.setUint32(at + IDENTIFIER, rest);
}

export const emitEcho = (view: DataView, at: number, type: number, identifier: number, sequence: number): void =>
  emit(view, at, type, 0, (identifier << 16) | sequence);

export const setChecksum = (view: DataView, at: number, checksum: number): void =>
  view.setUint16(at + CHECKSUM, checksum);
