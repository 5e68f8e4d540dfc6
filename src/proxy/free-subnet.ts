/** Where to put the guest's network so that it hides none of the host's. */

import { contains, formatAddress, parseSubnet, type Subnet } from '../stack/wire/address.ts';
import { uniqueLocal } from './subnet6.ts';

const MOST_ALTERNATIVES6 = 256;

/** Tried in turn when the wanted network is taken: 192.168.N.0/24, then 10.N.65.0/24. */
function* alternatives(): Generator<string> {
  for (let n = 66; n < 256; n++) yield `192.168.${n}.0/24`;
  for (let n = 65; n < 256; n++) yield `10.${n}.65.0/24`;
}

/** `wanted`, or the first alternative that overlaps none of `taken`; `wanted` again when there is none. */
export function freeSubnet(wanted: string, taken: readonly Subnet[]): string {
  const free = (text: string): boolean => {
    const subnet = parseSubnet(text);
    return subnet !== undefined && !taken.some((other) => overlap(subnet, other));
  };
  if (free(wanted)) return wanted;
  for (const text of alternatives()) if (free(text)) return text;
  return wanted;
}

/**
 * What `text` says of the IPv6 network beside `subnet`; where that is `auto`, the first of the unique local ones that
 * overlaps none of `taken`, or `auto` when there is none.
 */
export function freeSubnet6(text: string, subnet: Subnet, taken: readonly Subnet[]): string {
  if (text !== 'auto') return text;
  for (let n = 0; n < MOST_ALTERNATIVES6; n++) {
    const found = uniqueLocal(subnet, n);
    if (!taken.some((other) => overlap(found, other))) return `${formatAddress(found.address)}/${found.prefix}`;
  }
  return text;
}

function overlap(one: Subnet, other: Subnet): boolean {
  const [wide, narrow] = one.prefix <= other.prefix ? [one, other] : [other, one];
  return contains(wide.address, wide.prefix, narrow.address);
}
