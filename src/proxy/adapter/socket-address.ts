/** struct sockaddr of IPv4, IPv6 and unix sockets, written and read. */

import type { Place } from '../../native/memory.ts';
import { AF_INET, AF_INET6, AF_UNIX } from '../../native/system-calls.ts';
import type { Address } from '../../stack/port.ts';
import { ipv4Word, isIpv4, ofIpv4 } from '../../stack/wire/address.ts';
import { isLinkLocal6, scopeOf, withScope } from '../scoped-address.ts';

/**
 * Writes struct sockaddr_in, or sockaddr_in6 where the address is none of IPv4 (with its scope, scoped-address.ts), to the
 * beginning of `place`; its length.
 */
export function encodeAddress(place: Place, address: Address, port: number): number {
  const { bytes, view } = place;
  view.setUint16(2, port);
  if (isIpv4(address)) {
    view.setUint16(0, AF_INET, true);
    view.setInt32(4, ipv4Word(address));
    return 16;
  }
  view.setUint16(0, AF_INET6, true);
  view.setUint32(4, 0);
  bytes.set(address, 8);
  const scope = scopeOf(address);
  view.setUint32(24, scope, true);
  if (scope !== 0) view.setUint32(12, 0);
  return 28;
}

/** Writes struct sockaddr_un; its length, 0 when the path is too long for one. */
export function encodePath(place: Place, path: string): number {
  const text = Buffer.from(path);
  if (text.length === 0 || text.length > 107) return 0;
  place.view.setUint16(0, AF_UNIX, true);
  place.bytes.set(text, 2);
  place.bytes[2 + text.length] = 0;
  return 3 + text.length;
}

/**
 * The address in a struct sockaddr_in or sockaddr_in6, a link-local one with its scope; undefined for other families, and
 * for a link-local one without: it could be on any link.
 */
export function decodeAddress(view: DataView, at: number): Address | undefined {
  const family = view.getUint16(at, true);
  if (family === AF_INET) return ofIpv4(view.getInt32(at + 4));
  if (family !== AF_INET6) return undefined;
  const address = new Uint8Array(view.buffer, view.byteOffset + at + 8, 16).slice();
  if (!isLinkLocal6(address)) return address;
  const scope = view.getUint32(at + 24, true);
  return scope === 0 ? undefined : withScope(address, scope);
}

export function decodePort(view: DataView, at: number): number {
  return view.getUint16(at + 2);
}
