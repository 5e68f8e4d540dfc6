/** The IPv4 networks that the host reaches by itself: those of its interfaces, and on Linux its routes but the default. */

import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { ofIpv4, parseSubnet, type Subnet } from '../../stack/wire/address.ts';

/** A route as wide as this is a way out, not a network that a guest's could hide. */
const WIDEST_PREFIX = 8;

export function hostNetworks(routes = '/proc/net/route'): Subnet[] {
  const found: Subnet[] = [];
  for (const addresses of Object.values(networkInterfaces()))
    for (const { family, internal, cidr } of addresses ?? [])
      if (family === 'IPv4' && !internal && cidr) add(found, parseSubnet(cidr));
  for (const line of readRoutes(routes)) add(found, parseRoute(line));
  return found;
}

function add(found: Subnet[], subnet: Subnet | undefined): void {
  if (subnet && subnet.prefix - 96 >= WIDEST_PREFIX) found.push(subnet);
}

function readRoutes(path: string): string[] {
  try {
    return readFileSync(path, 'latin1').split('\n').slice(1);
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
