/** Captures from the command line: what is captured, and into which file. */

import type { Network } from '../network.ts';
import { type CaptureFilter, parseCaptureFilter } from '../stack/link/capture-filter.ts';
import { CaptureFile } from './capture-file.ts';
import { UsageError } from './usage-error.ts';

const text = { type: 'string' } as const;

/** For `parseArgs`. */
export const captureOptions = {
  capture: text,
  pcap: text,
  'capture-filter': text,
  'capture-snap': text,
  'capture-size': text,
  'capture-files': text,
} as const;

export const captureHelp = `  --capture FILE        write the frames to a pcapng file for Wireshark (0600; --pcap is the same)
  --capture-filter EXPR only those that tcpdump's words pick: 'host 10.0.0.1 and not (port 22 or icmp)'
  --capture-snap N      keep N octets of each frame (default: all)
  --capture-size N      start a new file when one would grow beyond N octets (K, M and G are understood)
  --capture-files N     keep this many of them: FILE is the newest, FILE.1 the one before (default 2)
`;

export interface CaptureRequest {
  readonly path: string;
  readonly filter: CaptureFilter | undefined;
  readonly snapOctets: number | undefined;
  readonly fileOctets: number | undefined;
  readonly files: number;
}

type CaptureValues = { readonly [name in keyof typeof captureOptions]?: string | undefined };

/** What the options ask for; undefined: no capture. */
export function readCaptureOptions(values: CaptureValues): CaptureRequest | undefined {
  const path = values.capture ?? values.pcap;
  if (path === undefined) {
    const alone = Object.keys(values).find((name) => name.startsWith('capture-'));
    if (alone) throw new UsageError(`--${alone} goes with --capture`);
    return undefined;
  }
  if (path === '') throw new UsageError('--capture wants the name of a file');
  const { 'capture-filter': filter, 'capture-snap': snap, 'capture-size': size, 'capture-files': files } = values;
  return {
    path,
    filter: filter === undefined ? undefined : parseFilter(filter),
    snapOctets: snap === undefined ? undefined : octets('snap', snap, 14),
    fileOctets: size === undefined ? undefined : octets('size', size, 128 * 1024),
    files: files === undefined ? 2 : octets('files', files, 1),
  };
}

function parseFilter(expression: string): CaptureFilter {
  try {
    return parseCaptureFilter(expression);
  } catch (error) {
    throw new UsageError(`--capture-filter: ${(error as Error).message}`);
  }
}

function octets(name: string, value: string, least: number): number {
  const match = /^(\d{1,12})([KMG]?)$/i.exec(value);
  const shift = { '': 0, K: 10, M: 20, G: 30 }[match?.[2]?.toUpperCase() ?? ''] ?? 0;
  const number = Number(match?.[1]) * 2 ** shift;
  if (!match || number < least) throw new UsageError(`--capture-${name}: '${value}' is no number from ${least} on`);
  return number;
}

/** Captures until the function returned is called; it resolves when the file is complete. */
export async function startCapture(
  network: Network,
  request: CaptureRequest | undefined,
  report: (line: string) => void,
): Promise<() => Promise<void>> {
  if (!request) return async () => undefined;
  const { path, files, filter, snapOctets, fileOctets } = request;
  const failed = (error: Error): void => {
    capture.stop();
    report(error.message);
  };
  let file: CaptureFile;
  try {
    file = await CaptureFile.create(path, { files, failed });
  } catch (error) {
    throw new Error(`--capture ${path}: the file cannot be written: ${(error as Error).message}`);
  }
  const capture = network.capture({ sink: file, filter, snapOctets, fileOctets });
  file.follow(capture);
  return async () => {
    await file.close();
    if (capture.dropped > 0) report(`the capture has lost ${capture.dropped} frames: ${path} was written too slowly`);
  };
}
