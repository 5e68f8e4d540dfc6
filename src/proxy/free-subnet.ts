/** Where to put the guest's network so that it hides none of the host's. */

import { contains, parseSubnet, type Subnet } from '../stack/wire/address.ts';

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

function overlap(one: Subnet, other: Subnet): boolean {
  const [wide, narrow] = one.prefix <= other.prefix ? [one, other] : [other, one];
  return contains(wide.address, wide.prefix, narrow.address);
}
