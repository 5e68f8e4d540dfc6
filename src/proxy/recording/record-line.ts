/** Records in words. */

import { formatAddress } from '../../stack/wire/address.ts';
import { chunkHeader, HEADER } from './chunk.ts';
import { frameLine } from './frame-line.ts';
import type { Difference } from './player.ts';
import { formatData } from './record.ts';
import { type DecodedRecord, RecordDecoder, type RecordedFrame } from './record-decoder.ts';

/** Reads one record by itself. */
export function decodeAlone(record: Uint8Array): DecodedRecord {
  const file = new Uint8Array([...HEADER, ...chunkHeader(record), ...record]);
  let at = 0;
  const source = (octets: number): Uint8Array => file.subarray(at, (at += octets));
  return new RecordDecoder(source).take()!;
}

export function recordLine({ name, values }: DecodedRecord): string {
  if (name === 'commit') {
    const { link, head, octets, checksumStart, segmentOctets } = values;
    const offload = `${Number(checksumStart) > 0 ? ', checksum left' : ''}${
      Number(segmentOctets) > 0 ? `, segments of ${segmentOctets}` : ''
    }`;
    return `sends by link ${link}: ${frameLine(head as Uint8Array, Number(octets))}${offload}`;
  }
  if (name === 'frames') {
    const frames = values.frames as readonly RecordedFrame[];
    const lines = frames.map(({ fragments }) => {
      const octets = fragments.reduce((sum, { length }) => sum + length, 0);
      return frameLine(fragments[0]!, octets);
    });
    return `link ${values.link} brings ${lines.join('; ')}`;
  }
  const fields = Object.entries(values)
    .filter(([field]) => field !== 'atMs')
    .map(([field, value]) => `${field} ${words(field, value)}`);
  return fields.length > 0 ? `${name}: ${fields.join(', ')}` : name;
}

function words(field: string, value: unknown): string {
  if (!(value instanceof Uint8Array)) return typeof value === 'object' ? formatData(value) : String(value);
  if (field === 'address') return value.length === 16 ? formatAddress(value) : 'none';
  const shown = [...value.subarray(0, 16)].map((octet) => octet.toString(16).padStart(2, '0')).join('');
  return value.length > 16 ? `${shown}... (${value.length} octets)` : shown || 'none';
}

/** What tells two records of one kind apart, in words; undefined: there is nothing more to be said. */
export function firstDifference({ recorded, replayed }: Difference): string | undefined {
  if (!recorded || typeof replayed !== 'object' || recorded.name !== replayed.name) return undefined;
  for (const [field, was] of Object.entries(recorded.values)) {
    const now = replayed.values[field];
    if (!(was instanceof Uint8Array) || !(now instanceof Uint8Array)) {
      if (was !== now) return `${field} was ${words(field, was)} and is ${words(field, now)}`;
      continue;
    }
    const at = was.findIndex((octet, i) => octet !== now[i]);
    if (at < 0 && was.length === now.length) continue;
    if (field === 'sum') return 'the octets after those that a recording keeps are others';
    if (at < 0) return `${field} was ${was.length} octets and is ${now.length}`;
    return `octet ${at} of ${field} was 0x${hex(was[at])} and is 0x${hex(now[at])}`;
  }
  return undefined;
}

const hex = (octet: number | undefined): string => (octet ?? 0).toString(16).padStart(2, '0');
