/** The networks that the host reaches by itself: those of its interfaces, and on Linux its routes but the default. */

import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { isIpv4, ofIpv4, parseSubnet, type Subnet } from '../../stack/wire/address.ts';

/** A route as wide as this is a way out, not a network that a guest's could hide. */
const WIDEST_PREFIX = 8;

export function hostNetworks(routes = '/proc/net/route', routes6 = '/proc/net/ipv6_route'): Subnet[] {
  const found: (Subnet | undefined)[] = [];
  for (const addresses of Object.values(networkInterfaces()))
    for (const { internal, cidr } of addresses ?? []) if (!internal && cidr) found.push(parseSubnet(cidr));
  found.push(...readLines(routes).slice(1).map(parseRoute), ...readLines(routes6).map(parseRoute6));
  return found.filter((subnet) => subnet !== undefined && isNetwork(subnet)) as Subnet[];
}

/** Link-local and multicast networks are on every link. */
function isNetwork({ address, prefix }: Subnet): boolean {
  if (isIpv4(address)) return prefix - 96 >= WIDEST_PREFIX;
  return prefix >= WIDEST_PREFIX && address[0] !== 0xff && !(address[0] === 0xfe && address[1]! >> 6 === 2);
}

function readLines(path: string): string[] {
  try {
    return readFileSync(path, 'latin1').split('\n');
  } catch {
    return [];
  }
}

/** `eth0 0041A8C0 00000000 0001 0 0 0 00FFFFFF ...`: destination and mask are words in the host's (little-endian) order. */
export function parseRoute(line: string): Subnet | undefined {
  const [, destination, , , , , , mask] = line.trim().split(/\s+/);
  if (!/^[0-9A-F]{8}$/.test(destination ?? '') || !/^[0-9A-F]{8}$/.test(mask ?? '')) return undefined;
  const word = (hex: string): number => Buffer.from(hex, 'hex').readUInt32LE(0);
  const bits = word(mask!).toString(2).replace(/0+$/, '').length;
  return { address: ofIpv4(word(destination!)), prefix: 96 + (word(mask!) === 0 ? 0 : bits) };
}

/** `fd000000000000000000000000000000 40 000...0 00 000...0 00000100 00000001 00000000 00000001 eth0`. */
export function parseRoute6(line: string): Subnet | undefined {
  const [destination, prefix, , , , , , , , device] = line.trim().split(/\s+/);
  if (!/^[0-9a-f]{32}$/.test(destination ?? '') || !/^[0-9a-f]{2}$/.test(prefix ?? '')) return undefined;
  const bits = Number.parseInt(prefix!, 16);
  // What goes to lo is the host itself.
  if (bits > 128 || device === undefined || device === 'lo') return undefined;
  return { address: new Uint8Array(Buffer.from(destination!, 'hex')), prefix: bits };
}
