/** Where the entrance listens: a unix socket, or a port of the host's loopback. */

import { parseAddress } from '../../stack/wire/address.ts';

export type EntranceAt = { readonly path: string } | { readonly address: string; readonly port: number };

/** Where it is to listen: `unix:PATH`, or a loopback address and a port; throws an Error that says what would do. */
export function parseEntrance(text: string): EntranceAt {
  const path = /^unix:(.+)$/.exec(text)?.[1];
  if (path !== undefined) return { path };
  const [, written = '', digits] = /^(127\.\d+\.\d+\.\d+|\[::1\]):(\d{1,5})$/.exec(text) ?? [];
  const address = written.replace(/[[\]]/g, '');
  if (!parseAddress(address) || Number(digits) > 65535)
    throw new Error(`'${text}' is neither unix:PATH nor a loopback address and a port, such as 127.0.0.1:1080`);
  return { address, port: Number(digits) };
}
