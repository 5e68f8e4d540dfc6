/**
 * The host's name servers: how they are written (the setting `network.dns`, resolv.conf), which of them answer for a name
 * (zones), which the policy lets be asked, and in which order they are.
 *
 * That is as written, except that one that was silent twice running, or is known to be unreachable, is asked after the
 * others for a while. Then one query goes to it and to the others at once: if it answers it is back in its place, and if
 * not, nobody has waited for it.
 */

import { equal, parseAddress } from '../../stack/wire/address.ts';
import type { HostResolverPort, NameServer, ResolverConfig } from '../port.ts';
import { isLinkLocal6 } from '../scoped-address.ts';
import { isWithin, wireName } from './zones.ts';

export const DNS_PORT = 53;
/** As many as resolvers take themselves are enough; more only delay a failure. */
const MAX_SERVERS = 8;
const SHUNNED_MS = 10_000;
/** Queries that a server may leave unanswered before it is shunned. */
const STRIKES = 2;

/** Reads `ADDRESS[#PORT],...`; throws an Error that names what is wrong. */
export function parseNameServers(text: string): NameServer[] {
  const items = text.split(',').map((item) => item.trim());
  return items
    .filter((item) => item !== '')
    .map((item) => {
      const [host, port = String(DNS_PORT), more] = item.split('#');
      const server = parseServer(host!, Number(port));
      if (!server || more !== undefined || !/^[1-9]\d{0,4}$/.test(port) || Number(port) > 65_535)
        throw new Error(`'${item}' is not a DNS server: write ADDRESS or ADDRESS#PORT, such as 192.0.2.53#5353`);
      return server;
    });
}

/** An address; a link-local one of IPv6 with its zone, such as fe80::1%eth0. RFC 4007 11. */
function parseServer(host: string, port: number): NameServer | undefined {
  const [text, zone, more] = host.split('%');
  const address = parseAddress(text!);
  if (!address || zone === undefined) return address && { address, port };
  return more === undefined && /^[^\s/]{1,15}$/.test(zone) && isLinkLocal6(address)
    ? { address, port, zone }
    : undefined;
}

/** Reads resolv.conf(5). What it does not know it passes over. */
export function parseResolvConf(text: string): ResolverConfig {
  const servers: NameServer[] = [];
  let search: string[] = [];
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line.trim().split(/\s+/);
    if (keyword === 'nameserver' && values[0] !== undefined) {
      const server = parseServer(values[0], DNS_PORT);
      if (server && servers.length < MAX_SERVERS) servers.push(server);
      // The last of them counts; domain is an older form of search.
    } else if (keyword === 'search') search = values;
    else if (keyword === 'domain') search = values.slice(0, 1);
  }
  return { servers, search: search.filter((name) => name !== '.') };
}

/** Says whether a server may be asked on a guest's behalf; what it says holds for as long as `generation` stays. */
export interface NameServerGate {
  readonly generation: number;
  nameServer(server: NameServer, protocol: DnsTransport): { readonly allowed: boolean };
}

export type DnsTransport = 'udp' | 'tcp';

/** Whom to ask: the first `atOnce` of `servers` together, the others when those do not answer. */
export interface Order {
  readonly servers: readonly NameServer[];
  readonly atOnce: number;
}

interface Health {
  strikes: number;
  shunnedUntilMs: number;
}

/** The servers of a zone, or those for everything else. */
export class ZoneServers {
  /** Undefined: not of a zone's. */
  readonly zone: string | undefined;
  /** The zone's name. */
  readonly apex: Uint8Array;
  /** Servers that the policy keeps from being asked, by UDP. */
  readonly denied: readonly NameServer[];
  readonly #servers: Readonly<Record<DnsTransport, readonly NameServer[]>>;
  readonly #health = new Map<NameServer, Health>();
  readonly #usual: Readonly<Record<DnsTransport, Order>>;

  constructor(zone: string | undefined, servers: readonly NameServer[], gate: NameServerGate | undefined) {
    this.zone = zone;
    this.apex = wireName(zone ?? '');
    const allowed = (protocol: DnsTransport): readonly NameServer[] =>
      gate ? servers.filter((server) => gate.nameServer(server, protocol).allowed) : servers;
    const [udp, tcp] = [allowed('udp'), allowed('tcp')];
    this.#servers = { udp, tcp };
    this.#usual = { udp: { servers: udp, atOnce: 1 }, tcp: { servers: tcp, atOnce: 1 } };
    this.denied = servers.filter((server) => !udp.includes(server));
  }

  /** Those that may be asked, as written. */
  get servers(): readonly NameServer[] {
    return this.#servers.udp;
  }

  /** In the order to be asked now. */
  inOrder(protocol: DnsTransport, nowMs: number): Order {
    if (this.#health.size === 0) return this.#usual[protocol];
    const healthy: NameServer[] = [];
    const shunned: NameServer[] = [];
    let atOnce = 0;
    for (const server of this.#servers[protocol]) {
      const health = this.#health.get(server);
      if (!health || health.strikes < STRIKES) {
        healthy.push(server);
        atOnce ||= healthy.length;
      } else if (protocol === 'udp' && health.shunnedUntilMs <= nowMs) {
        // Time to see whether it is back; once, for this while.
        health.shunnedUntilMs = nowMs + SHUNNED_MS;
        healthy.push(server);
      } else shunned.push(server);
    }
    return { servers: [...healthy, ...shunned], atOnce: atOnce || Math.max(1, healthy.length) };
  }

  isShunned(server: NameServer): boolean {
    return (this.#health.get(server)?.strikes ?? 0) >= STRIKES;
  }

  answered(server: NameServer): void {
    if (this.#health.size > 0) this.#health.delete(server);
  }

  silent(server: NameServer, nowMs: number, strikes = 1): void {
    const health = this.#health.get(server) ?? { strikes: 0, shunnedUntilMs: 0 };
    health.strikes += strikes;
    health.shunnedUntilMs = nowMs + SHUNNED_MS;
    this.#health.set(server, health);
  }

  unreachable(server: NameServer, nowMs: number): void {
    this.silent(server, nowMs, STRIKES);
  }
}

export class NameServers {
  readonly #source: HostResolverPort;
  readonly #gate: NameServerGate | undefined;
  #config: ResolverConfig | undefined;
  #gateGeneration = 0;
  #rest = new ZoneServers(undefined, [], undefined);
  /** The smallest first. */
  #zones: readonly ZoneServers[] = [];
  /** Grows with every change. */
  generation = 0;

  constructor(source: HostResolverPort, gate?: NameServerGate) {
    this.#source = source;
    this.#gate = gate;
  }

  /** Reads the host's configuration again; true when it has changed since the last call. */
  refresh(): boolean {
    const config = this.#source.current();
    const gate = this.#gate;
    if (config === this.#config && (!gate || gate.generation === this.#gateGeneration)) return false;
    this.#config = config;
    if (gate) this.#gateGeneration = gate.generation;
    this.generation++;
    this.#rest = new ZoneServers(undefined, config.servers, gate);
    this.#zones = (config.zones ?? [])
      .map(({ name, servers }) => new ZoneServers(name, servers, gate))
      .sort((a, b) => b.apex.length - a.apex.length);
    return true;
  }

  /** Whom the name that begins at 12 of `bytes` and ends at `nameEnd` is asked of. */
  of(bytes: Uint8Array, nameEnd: number): ZoneServers {
    for (const zone of this.#zones) if (isWithin(zone.apex, bytes, nameEnd)) return zone;
    return this.#rest;
  }

  /** Every zone, and at last what is for everything else. */
  all(): readonly ZoneServers[] {
    return [...this.#zones, this.#rest];
  }
}

export const isServer = (server: NameServer, address: Uint8Array, port: number): boolean =>
  server.port === port && equal(server.address, address);
