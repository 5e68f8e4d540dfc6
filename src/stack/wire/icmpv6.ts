/**
 * ICMPv6. RFC 4443. The checksum covers the pseudo-header (`ipv6.pseudoHeaderSum`), header and payload: the caller sums.
 * Neighbour discovery: ndp.ts.
 */

import { type Fault, SOUND, TOO_SHORT } from './fault.ts';

export const TYPE = 0;
export const CODE = 1;
export const CHECKSUM = 2;
/** Echo only. */
export const IDENTIFIER = 4;
/** Echo only. */
export const SEQUENCE = 6;
/** Packet too big only. 3.2. */
export const MTU = 4;
/** Parameter problem only. 3.4. */
export const POINTER = 4;
export const HEADER_OCTETS = 8;

export const DESTINATION_UNREACHABLE = 1;
export const PACKET_TOO_BIG = 2;
export const TIME_EXCEEDED = 3;
export const PARAMETER_PROBLEM = 4;
export const ECHO_REQUEST = 128;
export const ECHO_REPLY = 129;

/** Codes of DESTINATION_UNREACHABLE. 3.1. */
export const NO_ROUTE = 0;
export const ADMINISTRATIVELY_PROHIBITED = 1;
export const ADDRESS_UNREACHABLE = 3;
export const PORT_UNREACHABLE = 4;

/** Codes of TIME_EXCEEDED. 3.3. */
export const HOP_LIMIT_EXCEEDED = 0;
export const REASSEMBLY_TIME_EXCEEDED = 1;

export const type = (view: DataView, at: number): number => view.getUint8(at + TYPE);
export const code = (view: DataView, at: number): number => view.getUint8(at + CODE);
export const checksum = (view: DataView, at: number): number => view.getUint16(at + CHECKSUM);
export const identifier = (view: DataView, at: number): number => view.getUint16(at + IDENTIFIER);
export const sequence = (view: DataView, at: number): number => view.getUint16(at + SEQUENCE);
export const mtu = (view: DataView, at: number): number => view.getUint32(at + MTU);
export const pointer = (view: DataView, at: number): number => view.getUint32(at + POINTER);

/** An error message, about which no ICMPv6 error may be sent. RFC 4443 2.1, 2.4(e.1). */
export const isError = (type: number): boolean => type < 128;

/** Whether `length` octets hold an ICMPv6 header. */
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
