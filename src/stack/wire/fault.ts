/** What `check` of the wire modules returns: a small number that indexes `faultNames`, 0 for a sound header. */

export const SOUND = 0;
/** Fewer octets than the header needs. */
export const TOO_SHORT = 1;
export const BAD_VERSION = 2;
/** The header's own length field is below its minimum or beyond the octets at hand. */
export const BAD_HEADER_LENGTH = 3;
/** The length field of header and payload is below the header's length or beyond the octets at hand. */
export const BAD_LENGTH = 4;
export const BAD_CHECKSUM = 5;
/** A field has a value that this protocol does not know here (hardware type, magic cookie). */
export const BAD_FORMAT = 6;

export type Fault = 0 | 1 | 2 | 3 | 4 | 5 | 6;

/** A fault's name, for drop counters. */
export const faultNames = [
  'sound',
  'too-short',
  'bad-version',
  'bad-header-length',
  'bad-length',
  'bad-checksum',
  'bad-format',
] as const;
