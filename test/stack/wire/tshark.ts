/** What tshark, an independent decoder, reads in frames: one line of fields for each. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureDebianPackages } from '../../../tools/debian.ts';

/** A frame, and our parsers' word of it, by tshark's fields. */
export interface Read {
  readonly frame: Uint8Array;
  readonly says: Readonly<Record<string, string | number>>;
}

/** Each frame by itself, and its checksums looked at. */
const SETTINGS = [
  'ipv6.defragment:FALSE',
  'ip.check_checksum:TRUE',
  'tcp.check_checksum:TRUE',
  'udp.check_checksum:TRUE',
  'tcp.relative_sequence_numbers:FALSE',
];

/** A classic pcap file, written here by its own rules. */
function pcap(frames: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(24 + frames.reduce((sum, { length }) => sum + 16 + length, 0));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0xa1b2c3d4);
  view.setUint32(4, 0x0002_0004);
  view.setUint32(16, 262_144);
  view.setUint32(20, 1);
  let at = 24;
  for (const frame of frames) {
    view.setUint32(at + 8, frame.length);
    view.setUint32(at + 12, frame.length);
    bytes.set(frame, at + 16);
    at += 16 + frame.length;
  }
  return bytes;
}

/** Per frame the fields asked for, as tshark prints them; a field that occurs several times joined by commas. */
export function tshark(frames: readonly Uint8Array[], fields: readonly string[]): string[][] {
  ensureDebianPackages([{ name: 'tshark', proof: 'tshark' }]);
  const folder = mkdtempSync(join(tmpdir(), 'slipway-tshark-'));
  try {
    const path = join(folder, 'frames.pcap');
    writeFileSync(path, pcap(frames));
    const words = ['-n', '-r', path, '-T', 'fields', '-E', 'separator=|', ...fields.flatMap((field) => ['-e', field])];
    const settings = SETTINGS.flatMap((setting) => ['-o', setting]);
    const done = spawnSync('tshark', [...settings, ...words], { encoding: 'utf8', maxBuffer: 1 << 28 });
    if (done.status !== 0) throw new Error(done.stderr);
    const lines = done.stdout.split('\n').slice(0, -1);
    if (lines.length !== frames.length) throw new Error(`${lines.length} lines for ${frames.length} frames`);
    return lines.map((line) => line.split('|'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Where tshark reads something else: the field, our word, its word, the frame. All frames in one run: they are independent. */
export function differencesToTshark(all: readonly Read[]): string[][] {
  const fields = [...new Set(all.flatMap(({ says }) => Object.keys(says)))];
  const read = tshark(
    all.map(({ frame }) => frame),
    fields,
  );
  return all.flatMap(({ says, frame }, i) =>
    Object.entries(says)
      .map(([field, value]) => [field, String(value), read[i]![fields.indexOf(field)]!] as const)
      .filter(([, value, got]) => got !== value)
      .map((difference) => [...difference, Buffer.from(frame).toString('hex')]),
  );
}
