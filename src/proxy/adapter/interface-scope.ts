/** Which number an interface has: what a zone such as `eth0` in fe80::1%eth0 stands for. And how Node wants an address. */

import { networkInterfaces } from 'node:os';
import type { Address } from '../../stack/port.ts';
import { formatAddress, parseAddress } from '../../stack/wire/address.ts';
import { scopeOf, withoutScope, withScope } from '../scoped-address.ts';

/** By interfaces' names, as they are now: of those that are up. */
function scopes(): Map<string, number> {
  const found = new Map<string, number>();
  for (const [name, addresses] of Object.entries(networkInterfaces()))
    for (const one of addresses ?? []) if (one.family === 'IPv6' && one.scopeid > 0) found.set(name, one.scopeid);
  return found;
}

/** A zone's number, by the interface's name or as a number (RFC 4007 11.2); undefined: there is no such interface. */
export function interfaceScope(zone: string): number | undefined {
  return /^[1-9]\d{0,9}$/.test(zone) ? Number(zone) : scopes().get(zone);
}

/** An address in text, with its zone where it has one. */
export function numericHost(address: Address): string {
  const scope = scopeOf(address);
  if (scope === 0) return formatAddress(address);
  const name = [...scopes()].find(([, number]) => number === scope)?.[0];
  return `${formatAddress(withoutScope(address))}%${name ?? scope}`;
}

/** The inverse; undefined: it is no address, or of an interface that is gone. */
export function parseNumericHost(text: string): Address | undefined {
  const [host, zone] = text.split('%');
  const address = parseAddress(host!);
  if (!address || zone === undefined) return address;
  const scope = interfaceScope(zone);
  return scope === undefined ? undefined : withScope(address, scope);
}
