/** What of HTTP's messages a proxy reads and writes: targets and hop-by-hop fields. RFC 9110, 9112. Nothing throws. */

import { parseAddress } from '../../stack/wire/address.ts';

/** Whom a client wants to reach. A host is a name in lower case, or an address without brackets. */
export interface HttpTarget {
  readonly host: string;
  readonly port: number;
}

/** A request that is refused before anybody is asked, or because of how asking went. */
export class HttpRefusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

const name = /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_][a-z0-9_-]{0,62})*\.?$/;
const decimal = /^\d{1,5}$/;
/** Its last label makes resolvers take it for an IPv4 address in some form: octal, hexadecimal, or with too few parts. */
const numeric = /(?:^|\.)(?:\d+|0x[0-9a-f]*)\.?$/;

/**
 * A host as a client writes it, without a port; undefined: none that we would ask anybody for. Addresses have one form
 * only: what others may read as 127.0.0.1 (0177.1, 2130706433, a zone in IPv6) is no host.
 */
export function parseHost(text: string): string | undefined {
  const lower = text.toLowerCase();
  const bracketed = /^\[([0-9a-f:.]+)\]$/.exec(lower)?.[1];
  if (bracketed !== undefined) return parseAddress(bracketed) && bracketed.includes(':') ? bracketed : undefined;
  if (numeric.test(lower)) return parseAddress(lower) ? lower : undefined;
  if (!name.test(lower)) return undefined;
  return lower.replace(/\.$/, '');
}

/** `host:port`, `[address]:port` or, with a default for it, without the port. RFC 9110 4.2, 7.2, 9.3.6. */
export function parseAuthority(text: string, defaultPort?: number): HttpTarget | undefined {
  const match = /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(text);
  const host = match && parseHost(match[1]!);
  if (!host) return undefined;
  const digits = match[2] || (defaultPort === undefined ? '' : String(defaultPort));
  const port = Number(digits);
  if (!decimal.test(digits) || port < 1 || port > 65535) return undefined;
  return { host, port };
}

/** A request target in absolute form and its path, empty where it has none. RFC 9112 3.2.2. */
export function parseAbsolute(text: string): { readonly target: HttpTarget; readonly path: string } | undefined {
  const match = /^http:\/\/([^/?#@]*)([/?][^#]*)?$/i.exec(text);
  const target = match && parseAuthority(match[1]!, 80);
  if (!target) return undefined;
  const path = match[2] ?? '';
  return { target, path: path.startsWith('?') ? `/${path}` : path };
}

/** As in a Host field or a request line. The default port is left out, as clients do. */
export function authorityText({ host, port }: HttpTarget, defaultPort?: number): string {
  const written = host.includes(':') ? `[${host}]` : host;
  return port === defaultPort ? written : `${written}:${port}`;
}

/** Fields for the next hop alone. RFC 9110 7.6.1; proxies' own, 11.7; what a proxy answers itself, 10.1.1. */
const hopByHop = new Set([
  'connection',
  'expect',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'upgrade',
]);

/** Raw fields, name and value in turn, without those for this hop alone. `except` names are left out too. */
export function endToEnd(raw: readonly string[], ...except: readonly string[]): string[] {
  const dropped = new Set([...hopByHop, ...except]);
  for (let i = 0; i + 1 < raw.length; i += 2)
    if (raw[i]!.toLowerCase() === 'connection')
      for (const word of raw[i + 1]!.split(',')) {
        const named = word.trim().toLowerCase();
        // How the body is framed is not the client's to take out.
        if (named !== 'transfer-encoding' && named !== 'content-length') dropped.add(named);
      }
  const kept: string[] = [];
  for (let i = 0; i + 1 < raw.length; i += 2) if (!dropped.has(raw[i]!.toLowerCase())) kept.push(raw[i]!, raw[i + 1]!);
  return kept;
}

/** `Basic`, RFC 7617, of USER:PASSWORD. */
export const basic = (credential: string): string => `Basic ${Buffer.from(credential).toString('base64')}`;
