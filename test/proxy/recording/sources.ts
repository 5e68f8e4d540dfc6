/** Recordings in memory: read, and changed. */

import { chunkHeader, HEADER } from '../../../src/proxy/recording/chunk.ts';
import { type DecodedRecord, RecordDecoder, type Source } from '../../../src/proxy/recording/record-decoder.ts';

export function sourceOf(file: Uint8Array): Source {
  let at = 0;
  return (octets) => file.subarray(at, (at = Math.min(file.length, at + octets)));
}

/** A recording of one chunk. */
export const chunked = (records: Uint8Array): Uint8Array =>
  new Uint8Array([...HEADER, ...chunkHeader(records), ...records]);

/** The same recording with its records changed: `change` gives a record's octets, undefined for none. */
export function changed(
  file: Uint8Array,
  change: (record: DecodedRecord, i: number) => Uint8Array | undefined,
): Uint8Array {
  const decoder = new RecordDecoder(sourceOf(file));
  const parts: Uint8Array[] = [];
  for (let i = 0; ; i++) {
    const record = decoder.take();
    if (!record) break;
    const octets = change(record, i);
    if (octets) parts.push(octets);
  }
  return new Uint8Array(Buffer.concat([HEADER, ...parts.flatMap((part) => [chunkHeader(part), part])]));
}
