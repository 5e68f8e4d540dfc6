/** Address and port as a key for maps: a number for IPv4, so that none is made per datagram, text for IPv6. */

import type { Address } from '../stack/port.ts';
import { ipv4Word, isIpv4 } from '../stack/wire/address.ts';

export type EndpointKey = number | string;

export function endpointKey(address: Address, port: number): EndpointKey {
  // 48 bits: exact in a number.
  if (isIpv4(address)) return (ipv4Word(address) >>> 0) * 65536 + port;
  let text = '';
  for (let i = 0; i < 16; i++) text += String.fromCharCode(address[i]!);
  return text + port;
}
