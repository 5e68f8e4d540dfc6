/** The guests' IPv6 network beside their IPv4 one. */

import { type Address, ipv4Word, isIpv4, parseSubnet, type Subnet, setWord } from '../stack/wire/address.ts';

/** What every guest's network is: autoconfiguration wants 64 bits for what follows. RFC 4862 5.5.3(d), RFC 7421. */
export const SUBNET6_PREFIX = 64;

/**
 * The unique local prefix (RFC 4193) of a network whose IPv4 addresses are `subnet`, such as fd53:6c69:c0a8:4100::/64
 * for 192.168.65.0: the same at every start, and another one for another subnet, or another `alternative`.
 */
export function uniqueLocal(subnet: Subnet, alternative = 0): Subnet {
  const address: Address = new Uint8Array(16);
  setWord(address, 0, 0xfd536c69 + alternative);
  setWord(address, 1, ipv4Word(subnet.address));
  return { address, prefix: SUBNET6_PREFIX };
}

/** `text` as the guests' network; undefined: there is none. Throws for what is neither a /64, `auto` nor `off`. */
export function guestSubnet6(text: string, subnet: Subnet): Subnet | undefined {
  if (text === 'off') return undefined;
  if (text === 'auto') return uniqueLocal(subnet);
  const found = text.includes(':') ? parseSubnet(text) : undefined;
  if (found?.prefix === SUBNET6_PREFIX) return found;
  throw new Error(`'${text}' is not a /64 such as fd00:1:2:3::/64, auto or off`);
}

/** Host `number` of a /64. */
export function hostOf6(subnet: Subnet, number: number): Address {
  const address: Address = new Uint8Array(16);
  address.set(subnet.address.subarray(0, SUBNET6_PREFIX / 8));
  setWord(address, 3, number);
  return address;
}

/** Of a network's own addresses the one of the same IP version; undefined: it has none. */
export const ofFamily = (addresses: readonly Address[], other: Address): Address | undefined =>
  addresses.find((address) => isIpv4(address) === isIpv4(other));
