/** The option that opens the host's way to the guests by SOCKS 5 and HTTP, and what it needs. */

import type { Network } from '../network.ts';
import { readCredential } from '../proxy/adapter/credential-file.ts';
import { type EntranceAt, parseEntrance } from '../proxy/entrance/place.ts';
import { UsageError } from './usage-error.ts';

/** For `parseArgs`. */
export const entranceOptions = {
  entrance: { type: 'string' },
  'entrance-credential': { type: 'string' },
} as const;

export const entranceHelp = `  --entrance WHERE      let the host reach guests by their own addresses, and as NAME.container.slipway.internal by
                        the names they give with DHCP, through SOCKS 5 and an HTTP proxy at
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
  const at = saying('--entrance', () => parseEntrance(entrance));
  if ('address' in at && file === undefined)
    throw new UsageError('--entrance on loopback needs --entrance-credential FILE: others of this host use it too');
  return {
    at,
    credential: file === undefined ? undefined : saying('--entrance-credential', () => readCredential(file)),
  };
}

function saying<T>(option: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new UsageError(`${option}: ${(error as Error).message}`);
  }
}

/** Guests are known by the names that they give with DHCP. */
export async function openEntrance(network: Network, request: EntranceRequest | undefined): Promise<void> {
  if (request)
    await network.openEntrance({ ...request, names: { addressOf: async (name) => network.guestNamed(name) } });
}
