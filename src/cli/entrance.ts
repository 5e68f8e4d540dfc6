/** The option that opens the host's way to the guests by SOCKS 5 and HTTP, and what it needs. */

import { readFileSync, statSync } from 'node:fs';
import type { Network } from '../network.ts';
import { type EntranceAt, parseEntrance } from '../proxy/entrance/place.ts';
import { UsageError } from './usage-error.ts';

/** For `parseArgs`. */
export const entranceOptions = {
  entrance: { type: 'string' },
  'entrance-credential': { type: 'string' },
} as const;

export const entranceHelp = `  --entrance WHERE      let the host reach guests by their own addresses, through SOCKS 5 and an HTTP proxy at
                        unix:PATH (yours alone) or 127.0.0.1:PORT, which needs
  --entrance-credential FILE
                        one line USER:PASSWORD, in a file of mode 0600
`;

export interface EntranceRequest {
  readonly at: EntranceAt;
  readonly credential: string | undefined;
}

export function readEntranceOptions(values: {
  readonly entrance?: string | undefined;
  readonly 'entrance-credential'?: string | undefined;
}): EntranceRequest | undefined {
  const { entrance, 'entrance-credential': file } = values;
  if (entrance === undefined) {
    if (file !== undefined) throw new UsageError('--entrance-credential goes with --entrance');
    return undefined;
  }
  const at = parsed(entrance);
  if ('address' in at && file === undefined)
    throw new UsageError('--entrance on loopback needs --entrance-credential FILE: others of this host use it too');
  return { at, credential: file === undefined ? undefined : readCredential(file, '--entrance-credential') };
}

function parsed(text: string): EntranceAt {
  try {
    return parseEntrance(text);
  } catch (error) {
    throw new UsageError(`--entrance: ${(error as Error).message}`);
  }
}

/** USER:PASSWORD from a file that nobody else can read. What is in it is in no error. */
export function readCredential(file: string, option: string): string {
  let text: string;
  let mode: number;
  try {
    mode = statSync(file).mode;
    text = readFileSync(file, 'utf8').split(/\r?\n/)[0]!;
  } catch (error) {
    throw new UsageError(`${option}: ${(error as Error).message}`);
  }
  if ((mode & 0o077) !== 0) throw new UsageError(`${option}: others can read ${file}; chmod 600 ${file}`);
  if (!/^[^:]{1,255}:.{1,255}$/.test(text)) throw new UsageError(`${option}: ${file} has no line USER:PASSWORD`);
  return text;
}

/** Of guests alone no names are known but `vm.docker.internal`. */
export async function openEntrance(network: Network, request: EntranceRequest | undefined): Promise<void> {
  if (request) await network.openEntrance({ ...request, names: { addressOf: async () => undefined } });
}
