/**
 * Split DNS: zones whose names are asked of servers of their own, and of nobody else, also when those fail. The setting
 * is `corp=10.0.0.53,10.0.0.54#5353; lab.example=10.1.0.53`: of a name that is in several, the smallest zone decides.
 */

import type { DnsZone } from '../port.ts';
import { HEADER_OCTETS, lower } from './message.ts';
import { parseNameServers } from './name-servers.ts';

const MAX_ZONES = 256;
const label = /^[a-z0-9_-]{1,63}$/;

/** A name in lower case without a dot at its end, or undefined: it is none. */
export function plainName(text: string): string | undefined {
  const name = text.trim().toLowerCase().replace(/\.$/, '');
  return name.length <= 253 && name.split('.').every((one) => label.test(one)) ? name : undefined;
}

/** Reads `ZONE=ADDRESS[#PORT],...` set apart by `;` or lines; throws an Error that names what is wrong. */
export function parseDnsZones(text: string): DnsZone[] {
  const zones = new Map<string, DnsZone>();
  for (const item of text.split(/[;\n]/).map((one) => one.trim())) {
    if (item === '') continue;
    const [written = '', servers, more] = item.split('=');
    const name = plainName(written.replace(/^\s*\*?\./, ''));
    if (name === undefined || servers === undefined || more !== undefined)
      throw new Error(`'${item}' is no zone: write NAME=ADDRESS[#PORT],..., such as corp=10.0.0.53`);
    const asked = parseNameServers(servers);
    if (asked.length === 0) throw new Error(`'${item}' names no server: write NAME=ADDRESS[#PORT],...`);
    if (zones.has(name)) throw new Error(`the zone '${name}' is there twice: name its servers in one place`);
    zones.set(name, { name, servers: asked });
  }
  if (zones.size > MAX_ZONES) throw new Error(`there are more than ${MAX_ZONES} zones`);
  return [...zones.values()];
}

/** A name as it stands on the wire, in lower case. */
export function wireName(name: string): Uint8Array {
  if (name === '') return Uint8Array.of(0);
  return Uint8Array.from([
    ...name.split('.').flatMap((one) => [one.length, ...[...one].map((letter) => letter.charCodeAt(0))]),
    0,
  ]);
}

/** Whether the name that begins at 12 and ends at `nameEnd` is `zone` or below it. */
export function isWithin(zone: Uint8Array, bytes: Uint8Array, nameEnd: number): boolean {
  let at = HEADER_OCTETS;
  while (nameEnd - at > zone.length) at += 1 + bytes[at]!;
  if (nameEnd - at !== zone.length) return false;
  for (let i = 0; i < zone.length; i++) if (lower(bytes[at + i]!) !== zone[i]) return false;
  return true;
}
