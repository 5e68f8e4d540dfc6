/** The TCP header. RFC 9293 3.1. Options: tcp-options.ts. */

import { BAD_HEADER_LENGTH, type Fault, SOUND, TOO_SHORT } from './fault.ts';

export const SOURCE_PORT = 0;
export const DESTINATION_PORT = 2;
export const SEQUENCE = 4;
export const ACKNOWLEDGEMENT = 8;
export const DATA_OFFSET_FLAGS = 12;
export const WINDOW = 14;
export const CHECKSUM = 16;
export const URGENT = 18;
/** Without options, which begin here; 60 with all of them. */
export const HEADER_OCTETS = 20;

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const PSH = 0x08;
export const ACK = 0x10;
export const URG = 0x20;
export const ECE = 0x40;
export const CWR = 0x80;

export const sourcePort = (view: DataView, at: number): number => view.getUint16(at + SOURCE_PORT);
export const destinationPort = (view: DataView, at: number): number => view.getUint16(at + DESTINATION_PORT);
/** SEG.SEQ, unsigned. */
export const sequence = (view: DataView, at: number): number => view.getUint32(at + SEQUENCE);
/** SEG.ACK, unsigned. */
export const acknowledgement = (view: DataView, at: number): number => view.getUint32(at + ACKNOWLEDGEMENT);
/** Data offset in octets: the header with its options. */
export const headerOctets = (view: DataView, at: number): number => (view.getUint8(at + DATA_OFFSET_FLAGS) >> 4) << 2;
/** The eight control bits. */
export const flags = (view: DataView, at: number): number => view.getUint8(at + DATA_OFFSET_FLAGS + 1);
/** As it stands in the header, not scaled. */
export const window = (view: DataView, at: number): number => view.getUint16(at + WINDOW);
export const checksum = (view: DataView, at: number): number => view.getUint16(at + CHECKSUM);
export const urgentPointer = (view: DataView, at: number): number => view.getUint16(at + URGENT);

/**
 * Whether `at` begins a sound TCP header of a segment of `length` octets. `contiguous` octets of them can be read at
 * `at`: header and options must lie within.
 */
export function check(view: DataView, at: number, length: number, contiguous = length): Fault {
  if (contiguous < HEADER_OCTETS || length < HEADER_OCTETS) return TOO_SHORT;
  const header = (view.getUint8(at + DATA_OFFSET_FLAGS) >> 4) << 2;
  return header < HEADER_OCTETS || header > contiguous || header > length ? BAD_HEADER_LENGTH : SOUND;
}

/** Writes the fixed header with checksum and urgent pointer 0. `headerOctets`: with options, a multiple of 4. */
export function emit(
  view: DataView,
  at: number,
  sourcePort: number,
  destinationPort: number,
  sequence: number,
  acknowledgement: number,
  headerOctets: number,
  flags: number,
  window: number,
): void {
  view.setUint16(at + SOURCE_PORT, sourcePort);
  view.setUint16(at + DESTINATION_PORT, destinationPort);
  view.setUint32(at + SEQUENCE, sequence);
  view.setUint32(at + ACKNOWLEDGEMENT, acknowledgement);
  view.setUint16(at + DATA_OFFSET_FLAGS, (headerOctets << 10) | flags);
  view.setUint16(at + WINDOW, window);
  view.setUint32(at + CHECKSUM, 0);
}

export const setChecksum = (view: DataView, at: number, checksum: number): void =>
  view.setUint16(at + CHECKSUM, checksum);
