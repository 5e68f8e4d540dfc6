/**
 * hosts(5): names that the host has addresses for in its own file. What the file says of the host's loopback is about the
 * host: the loopback's own names (localhost and its like) are none of the guest's business, and any other name there leads
 * to the host alias. Multicast and link-local addresses mean something else in another network and are left out.
 */

import { type Address, equal, kind, parseAddress } from '../../stack/wire/address.ts';
import type { HostsTable } from '../port.ts';

const loopbackNames =
  /^(?:(?:.*\.)?localhost|localhost\.localdomain|(?:ip6-)?localhost[46]?(?:\.localdomain[46]?)?|ip6-.*|broadcasthost)$/;

/** An address and its names on each line. */
export function parseHosts(text: string): HostsTable {
  const hosts = new Map<string, Address[]>();
  for (const line of text.split('\n')) {
    const [first = '', ...names] = line.replace(/#.*$/, '').trim().split(/\s+/);
    const address = parseAddress(first);
    if (!address) continue;
    for (const written of names) {
      const name = written.toLowerCase().replace(/\.$/, '');
      const known = hosts.get(name);
      if (!known) hosts.set(name, [address]);
      else if (!known.some((one) => equal(one, address))) known.push(address);
    }
  }
  return hosts;
}

/** What guests are told of it. */
export function hostsForGuests(hosts: HostsTable, hostAliases: readonly Address[]): HostsTable {
  const told = new Map<string, readonly Address[]>();
  for (const [name, addresses] of hosts) {
    if (loopbackNames.test(name)) continue;
    const kinds = addresses.map(kind);
    const kept = addresses.filter((_, i) => ['private', 'global', 'unspecified'].includes(kinds[i]!));
    if (kept.length > 0) told.set(name, kept);
    else if (kinds.includes('loopback')) told.set(name, hostAliases);
  }
  return told;
}

/**
 * Addresses that this machine may have for a name and guests are not told: who resolves it here, as an upstream proxy of
 * the host's does, may go there. Of the loopback's own names with or without the file's saying so.
 */
export function untoldAddresses(hosts: HostsTable, name: string): readonly Address[] {
  const known = hosts.get(name) ?? [];
  const told = hostsForGuests(new Map([[name, known]]), known).get(name) ?? [];
  const own = loopbackNames.test(name) ? [loopback] : [];
  return [...own, ...known.filter((address) => !told.includes(address))];
}

const loopback = parseAddress('127.0.0.1')!;
