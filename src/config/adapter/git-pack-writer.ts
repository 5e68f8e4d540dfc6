/**
 * Several objects as one pack and its index (gitformat-pack, version 2), so that a group of commits costs as many
 * syncs as one commit. Objects are stored whole; git finds deltas when it repacks.
 */

import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { ObjectType } from '../git-object.ts';
import { deflated } from './deflated.ts';

export interface PackedObject {
  readonly hash: string;
  readonly type: ObjectType;
  readonly content: Uint8Array;
}

export interface Pack {
  readonly name: string;
  readonly pack: Uint8Array;
  readonly index: Buffer;
}

const typeNumber: Readonly<Record<ObjectType, number>> = { commit: 1, tree: 2, blob: 3, tag: 4 };

export function makePack(objects: readonly PackedObject[]): Pack {
  return packOf(
    objects.map(({ hash, type, content }) => {
      const octets = Buffer.concat([entryHead(typeNumber[type], content.length), deflated(content)]);
      return { hash, octets, crc: crc32(octets) };
    }),
  );
}

/** An object as it lies in a pack; `crc` is of its octets. */
export interface PackedEntry {
  readonly hash: string;
  readonly octets: Uint8Array;
  readonly crc: number;
}

/** Of entries that do not ask for others at some distance from them. */
export function packOf(entries: readonly PackedEntry[]): Pack {
  const head = Buffer.alloc(12);
  head.write('PACK', 'latin1');
  head.writeUInt32BE(2, 4);
  head.writeUInt32BE(entries.length, 8);
  const parts: Uint8Array[] = [head];
  const rows: { hash: Buffer; offset: number; crc: number }[] = [];
  let offset = head.length;
  for (const { hash, octets, crc } of entries) {
    rows.push({ hash: Buffer.from(hash, 'hex'), offset, crc });
    parts.push(octets);
    offset += octets.length;
  }
  const checksum = sha1(parts);
  parts.push(checksum);
  rows.sort((a, b) => a.hash.compare(b.hash));
  return { name: checksum.toString('hex'), pack: Buffer.concat(parts), index: makeIndex(rows, checksum) };
}

function makeIndex(rows: readonly { hash: Buffer; offset: number; crc: number }[], checksum: Buffer): Buffer {
  const fanout = new Uint32Array(256);
  for (const { hash } of rows) fanout[hash[0]!]!++;
  const table = Buffer.alloc(8 + 1024);
  table.writeUInt32BE(0xff744f63, 0);
  table.writeUInt32BE(2, 4);
  let sum = 0;
  for (let i = 0; i < 256; i++) {
    sum += fanout[i]!;
    table.writeUInt32BE(sum, 8 + 4 * i);
  }
  const numbers = Buffer.alloc(8 * rows.length);
  rows.forEach(({ crc, offset }, i) => {
    numbers.writeUInt32BE(crc, 4 * i);
    numbers.writeUInt32BE(offset, 4 * (rows.length + i));
  });
  const parts = [table, ...rows.map(({ hash }) => hash), numbers, checksum];
  return Buffer.concat([...parts, sha1(parts)]);
}

/** Type and size: four bits of the size, then seven at a time. */
function entryHead(type: number, size: number): Buffer {
  const octets: number[] = [];
  let octet = (type << 4) | (size & 15);
  for (let rest = Math.floor(size / 16); ; rest = Math.floor(rest / 128)) {
    octets.push(rest > 0 ? octet | 0x80 : octet);
    if (rest === 0) return Buffer.from(octets);
    octet = rest & 0x7f;
  }
}

function sha1(parts: readonly Uint8Array[]): Buffer {
  const hash = createHash('sha1');
  for (const part of parts) hash.update(part);
  return hash.digest();
}
