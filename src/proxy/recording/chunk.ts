/**
 * A recording's file: a header, then chunks of whole records, each behind its length and a sum of its octets, so that a
 * file that was cut off or damaged is known as such, and where.
 */

import { octetWord } from './octet-sum.ts';

/** A signature in the manner of PNG's, which text conversions break, and the version. */
export const HEADER = Uint8Array.of(0x89, 0x53, 0x4c, 0x50, 0x57, 0x0d, 0x0a, 1);
/** Length and sum, 32 bits each. */
export const CHUNK_HEADER = 8;
/** A chunk is about as large as `CHUNK`, or one record larger. */
export const CHUNK = 64 * 1024;
export const LARGEST_CHUNK = 256 << 20;

export function chunkHeader(records: Uint8Array): Uint8Array {
  const header = new Uint8Array(CHUNK_HEADER);
  const view = new DataView(header.buffer);
  view.setUint32(0, records.length);
  view.setUint32(4, octetWord(records));
  return header;
}
