/**
 * Addresses that are never dialled on the host on a guest's behalf, whatever the settings: 0/8 and :: (connect() to them
 * reaches loopback listeners), loopback, link-local and other addresses of metadata services, multicast, broadcast,
 * reserved, IPv4-compatible addresses, and such IPv4 addresses inside transition formats (NAT64, 6to4, SIIT, Teredo,
 * ISATAP). Mapped addresses are IPv4 addresses here (decision 6), so ::ffff:127.0.0.1 is loopback.
 */

import { type Address, type AddressKind, equal, kind, ofIpv4, word } from '../../stack/wire/address.ts';

/** Where clouds have metadata services beside link-local addresses: Alibaba, Azure, Oracle, AWS twice, Google, Scaleway. */
const metadataServices = [
  ofIpv4(0x646464c8),
  ofIpv4(0xa83f8110),
  ofIpv4(0xc00000c0),
  Uint8Array.of(0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54),
  // Credentials for pods, at EKS.
  Uint8Array.of(0xfd, 0x00, 0x0e, 0xc2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x23),
  Uint8Array.of(0xfd, 0x20, 0x00, 0xce, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x02, 0x54),
  Uint8Array.of(0xfd, 0x00, 0x00, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x42),
];

const dialled = (found: AddressKind): boolean => found === 'private' || found === 'global';

/** The IPv4 address that a transition format carries, or undefined. */
export function embedded(address: Address): Address | undefined {
  const first = word(address, 0);
  // RFC 6052 2.1: 64:ff9b::/96, and RFC 8215: of a network's own, prefixes of 96 bits in 64:ff9b:1::/48.
  if (first === 0x0064ff9b && word(address, 1) === 0 && word(address, 2) === 0) return ofIpv4(word(address, 3));
  if (first === 0x0064ff9b && word(address, 1) >>> 16 === 1) return ofIpv4(word(address, 3));
  // RFC 7915 and before it RFC 2765 2.1: ::ffff:0:a.b.c.d.
  if (first === 0 && word(address, 1) === 0 && word(address, 2) === -65536) return ofIpv4(word(address, 3));
  // RFC 4380 4: 2001::/32, the client's address with its bits turned over.
  if (first === 0x20010000) return ofIpv4(~word(address, 3));
  // RFC 5214 6.1: an interface identifier 0:5efe:a.b.c.d, or 200:5efe:a.b.c.d.
  if ((word(address, 2) & ~0x02000000) === 0x5efe) return ofIpv4(word(address, 3));
  // RFC 3056 2: 2002:V4ADDR::/48.
  if (first >>> 16 === 0x2002) return ofIpv4((first << 16) | (word(address, 1) >>> 16));
  return undefined;
}

/** Whether an address, or the one of IPv4 that it carries, is never dialled. */
export function isClosed(address: Address): boolean {
  const inner = embedded(address);
  if (!dialled(kind(address)) || (inner && !dialled(kind(inner)))) return true;
  return metadataServices.some((service) => equal(service, inner ?? address));
}
