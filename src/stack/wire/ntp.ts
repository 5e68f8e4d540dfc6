/** NTP messages. RFC 5905 7.3; extension fields RFC 7822. Timestamps are 64 bits: seconds since 1900, and a fraction. */

import { BAD_FORMAT, type Fault, SOUND, TOO_SHORT } from './fault.ts';

export const STRATUM = 1;
export const POLL = 2;
export const PRECISION = 3;
export const ROOT_DELAY = 4;
export const ROOT_DISPERSION = 8;
export const REFERENCE_ID = 12;
export const REFERENCE_TIMESTAMP = 16;
export const ORIGIN_TIMESTAMP = 24;
export const RECEIVE_TIMESTAMP = 32;
export const TRANSMIT_TIMESTAMP = 40;
export const HEADER_OCTETS = 48;

export const SERVER_PORT = 123;

export const MODE_CLIENT = 3;
export const MODE_SERVER = 4;

/** From 1900, where NTP's seconds begin, to 1970. */
const EPOCH_SECONDS = 2_208_988_800;

export const mode = (view: DataView, at: number): number => view.getUint8(at) & 7;
export const version = (view: DataView, at: number): number => (view.getUint8(at) >> 3) & 7;

/**
 * Whether `length` octets are a message: a header and, behind it, extension fields and a MAC at most.
 * RFC 7822 7.5: a field has 16 octets at least, 28 when it is the last without a MAC.
 */
export function check(view: DataView, at: number, length: number): Fault {
  if (length < HEADER_OCTETS) return TOO_SHORT;
  let rest = length - HEADER_OCTETS;
  while (rest > LARGEST_MAC) {
    const field = view.getUint16(at + length - rest + 2);
    if (field < 16 || field % 4 !== 0 || field > rest) return BAD_FORMAT;
    rest -= field;
  }
  return rest === 0 || rest === 4 || rest === 20 || rest === LARGEST_MAC ? SOUND : BAD_FORMAT;
}

/** Whether a message that is sound has a MAC at its end. */
export function hasMac(view: DataView, at: number, length: number): boolean {
  let rest = length - HEADER_OCTETS;
  while (rest > LARGEST_MAC) rest -= view.getUint16(at + length - rest + 2);
  return rest > 0;
}

/** Key identifier and a digest of 20 octets. */
const LARGEST_MAC = 24;

/** Writes the first word: leap indicator, version, mode, stratum, poll exponent, precision exponent. */
export function emit(
  view: DataView,
  at: number,
  first: { leap: number; version: number; mode: number; stratum: number; poll: number; precision: number },
): void {
  view.setUint8(at, (first.leap << 6) | (first.version << 3) | first.mode);
  view.setUint8(at + STRATUM, first.stratum);
  view.setInt8(at + POLL, first.poll);
  view.setInt8(at + PRECISION, first.precision);
}

/** Writes a timestamp; seconds are those of the era at hand (RFC 5905 6). */
export function setTimestamp(view: DataView, at: number, epochMs: number): void {
  const seconds = Math.floor(epochMs / 1000);
  view.setUint32(at, (seconds + EPOCH_SECONDS) % 0x1_0000_0000);
  view.setUint32(at + 4, Math.floor((epochMs / 1000 - seconds) * 0x1_0000_0000));
}

/** Writes a duration in NTP's short format: 16 bits of seconds, 16 of a fraction; what is longer is the longest. */
export const setDuration = (view: DataView, at: number, ms: number): void =>
  view.setUint32(at, Math.min(0xffff_ffff, Math.max(0, Math.ceil((ms / 1000) * 65536))));
