/**
 * The host's name servers: how they are written (the setting `network.dns`, resolv.conf), and in which order they are
 * asked: as written, except that one that did not answer is asked after the others for a while.
 */

import { equal, parseAddress } from '../../stack/wire/address.ts';
import type { HostResolverPort, NameServer, ResolverConfig } from '../port.ts';

export const DNS_PORT = 53;
/** As many as resolvers take themselves are enough; more only delay a failure. */
const MAX_SERVERS = 8;
const SHUNNED_MS = 30_000;

/** Reads `ADDRESS[#PORT],...`; throws an Error that names what is wrong. */
export function parseNameServers(text: string): NameServer[] {
  const items = text.split(',').map((item) => item.trim());
  return items
    .filter((item) => item !== '')
    .map((item) => {
      const [host, port = String(DNS_PORT), more] = item.split('#');
      const address = parseAddress(host!);
      if (!address || more !== undefined || !/^[1-9]\d{0,4}$/.test(port) || Number(port) > 65_535)
        throw new Error(`'${item}' is not a DNS server: write ADDRESS or ADDRESS#PORT, such as 192.0.2.53#5353`);
      return { address, port: Number(port) };
    });
}

/** Reads resolv.conf(5). What it does not know, or cannot express (addresses with a zone), it passes over. */
export function parseResolvConf(text: string): ResolverConfig {
  const servers: NameServer[] = [];
  let search: string[] = [];
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line.trim().split(/\s+/);
    if (keyword === 'nameserver' && values[0] !== undefined) {
      const address = parseAddress(values[0]);
      if (address && servers.length < MAX_SERVERS) servers.push({ address, port: DNS_PORT });
      // The last of them counts; domain is an older form of search.
    } else if (keyword === 'search') search = values;
    else if (keyword === 'domain') search = values.slice(0, 1);
  }
  return { servers, search: search.filter((name) => name !== '.') };
}

export class NameServers {
  readonly #source: HostResolverPort;
  #config: ResolverConfig | undefined;
  #shunnedUntilMs = new Map<NameServer, number>();

  constructor(source: HostResolverPort) {
    this.#source = source;
  }

  /** Reads the host's configuration again; true when it has changed since the last call. */
  refresh(): boolean {
    const config = this.#source.current();
    if (config === this.#config) return false;
    this.#config = config;
    this.#shunnedUntilMs = new Map();
    return true;
  }

  /** In the order to be asked now. */
  inOrder(nowMs: number): readonly NameServer[] {
    const servers = this.#config?.servers ?? [];
    if (this.#shunnedUntilMs.size === 0) return servers;
    const shunned = (server: NameServer): boolean => (this.#shunnedUntilMs.get(server) ?? 0) > nowMs;
    if (!servers.some(shunned)) return servers;
    return [...servers.filter((server) => !shunned(server)), ...servers.filter(shunned)];
  }

  answered(server: NameServer): void {
    this.#shunnedUntilMs.delete(server);
  }

  failed(server: NameServer, nowMs: number): void {
    if (this.#config?.servers.includes(server)) this.#shunnedUntilMs.set(server, nowMs + SHUNNED_MS);
  }
}

export const isServer = (server: NameServer, address: Uint8Array, port: number): boolean =>
  server.port === port && equal(server.address, address);
