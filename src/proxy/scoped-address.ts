/**
 * Link-local IPv6 addresses of the host's networks. Such an address means something with its zone alone (RFC 4007 11), which
 * sockets have beside it (sin6_scope_id) and an `Address` has no place for. Octets 2 to 7 of it are zero (RFC 4291 2.5.6):
 * where it is the host's, the interface's number is kept in 4 to 7, as kernels of BSD keep it. No guest reaches or sees
 * one: the policy lets nobody to link-local addresses, and what comes from one goes to the DNS server and published ports.
 */

import type { Address } from '../stack/port.ts';
import { setWord, word } from '../stack/wire/address.ts';

const SCOPE_WORD = 1;

/** Of IPv6, with or without a scope. RFC 4291 2.5.6. */
export const isLinkLocal6 = (address: Address): boolean => address[0] === 0xfe && (address[1]! & 0xc0) === 0x80;

/** The interface's number; 0: none. */
export const scopeOf = (address: Address): number => (isLinkLocal6(address) ? word(address, SCOPE_WORD) >>> 0 : 0);

export function withScope(address: Address, scope: number): Address {
  const scoped = address.slice();
  setWord(scoped, SCOPE_WORD, scope);
  return scoped;
}

/** As others write and know it. */
export const withoutScope = (address: Address): Address => (scopeOf(address) === 0 ? address : withScope(address, 0));
