/** The header that ICMP (RFC 792) and ICMPv6 (RFC 4443 2.1) have in common, and that of their echo messages. */

import { type Fault, SOUND, TOO_SHORT } from './fault.ts';

export const TYPE = 0;
export const CODE = 1;
export const CHECKSUM = 2;
/** Echo only. */
export const IDENTIFIER = 4;
/** Echo only. */
export const SEQUENCE = 6;
export const HEADER_OCTETS = 8;

export const type = (view: DataView, at: number): number => view.getUint8(at + TYPE);
export const code = (view: DataView, at: number): number => view.getUint8(at + CODE);
export const checksum = (view: DataView, at: number): number => view.getUint16(at + CHECKSUM);
export const identifier = (view: DataView, at: number): number => view.getUint16(at + IDENTIFIER);
export const sequence = (view: DataView, at: number): number => view.getUint16(at + SEQUENCE);

/** Whether `length` octets hold a header. */
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
