/**
 * What guests are told of their network: the gateway is their router, the prefix they make addresses in (RFC 4862), the
 * MTU, name servers and search list (RFC 8106), and whether a DHCPv6 server has more to say (RFC 8415). RFC 4861 6.2.
 *
 * Told to each guest that asks, at once and to it alone (there is one router, so that nobody needs to wait for others;
 * RFC 6085 for those without an address), to all when a link is attached, and from time to time (6.2.4). A last one ends
 * what the others told, as well as may be (6.2.5). Timers: one.
 */

import type { Drops } from './drops.ts';
import type { Identity } from './identity.ts';
import { ALL_NODES, type Ipv6Identity, PREFIX_BITS } from './ipv6-identity.ts';
import type { Ipv6Output } from './ipv6-output.ts';
import { HOP_LIMIT, isUnspecified, macOfGroup } from './ndp.ts';
import type { Packet } from './packet.ts';
import type { Address } from './port.ts';
import type { SwitchPort } from './switch-port.ts';
import { Timer, type TimerWheel } from './timers.ts';
import { ADDRESS_OCTETS } from './wire/address.ts';
import { MINIMUM_MTU } from './wire/ipv6.ts';
import * as wire from './wire/ndp.ts';

/** MaxRtrAdvInterval and MinRtrAdvInterval's defaults. RFC 4861 6.2.1. */
const MAX_INTERVAL_MS = 600_000;
const MIN_INTERVAL_MS = 198_000;
/** RFC 4861 6.2.4, 10. */
const INITIAL_ADVERTISEMENTS = 3;
const INITIAL_INTERVAL_MS = 16_000;
/** AdvDefaultLifetime, and RFC 8106 5.1's lifetime: three times the longest interval. */
const LIFETIME_SECONDS = 1800;
/** AdvValidLifetime, AdvPreferredLifetime. RFC 4861 6.2.1. */
const VALID_SECONDS = 2_592_000;
const PREFERRED_SECONDS = 604_800;
/** What guests begin with as their packets' hop limit. */
const GUEST_HOP_LIMIT = 64;
/** An advertisement fits in one packet of any link. */
const MOST_SERVERS = 8;
const MOST_NAMES_OCTETS = 512;
const MOST_OCTETS = MINIMUM_MTU - 40;

export interface RouterAdvertiserOptions {
  readonly identity: Identity;
  readonly ipv6: Ipv6Identity;
  readonly output: Ipv6Output;
  readonly drops: Drops;
  readonly timers: TimerWheel;
  readonly ports: () => Iterable<SwitchPort>;
  /** 32 bits. */
  readonly random: () => number;
}

export class RouterAdvertiser {
  readonly #options: RouterAdvertiserOptions;
  readonly #servers: readonly Address[];
  readonly #flags: number;
  readonly #timer = new Timer({ expired: (nowMs) => this.#periodic(nowMs) });
  readonly #to = new Uint8Array(ADDRESS_OCTETS);
  #initial = 0;

  constructor(options: RouterAdvertiserOptions) {
    this.#options = options;
    const { ipv6 } = options;
    const { dhcp, dnsServers } = ipv6.options;
    this.#servers = (dnsServers ?? [ipv6.gateway]).slice(0, MOST_SERVERS);
    this.#flags = dhcp === 'addresses' ? wire.MANAGED | wire.OTHER : dhcp === 'information' ? wire.OTHER : 0;
  }

  /** A link is new: who is there is told at once, and again a little later. RFC 4861 6.2.4. */
  attached(nowMs: number): void {
    this.#initial = INITIAL_ADVERTISEMENTS;
    this.#options.timers.arm(this.#timer, nowMs);
  }

  /** RFC 4861 6.2.6 */
  solicited(packet: Packet, mac: number): void {
    if (!isUnspecified(packet)) {
      packet.copySource(this.#to);
      this.#advertise(packet.port, mac, this.#to);
    } else this.#advertise(packet.port, mac, ALL_NODES);
  }

  /** There is no router any more, nor a name server. RFC 4861 6.2.5, RFC 8106 5.1. */
  cease(): void {
    this.#options.timers.cancel(this.#timer);
    this.#advertiseToAll(0);
  }

  #periodic(nowMs: number): void {
    this.#advertiseToAll();
    if (this.#initial > 0) this.#initial--;
    const span = MAX_INTERVAL_MS - MIN_INTERVAL_MS;
    const interval =
      this.#initial > 0 ? INITIAL_INTERVAL_MS : MIN_INTERVAL_MS + ((this.#options.random() >>> 0) % span);
    this.#options.timers.arm(this.#timer, nowMs + interval);
  }

  #advertiseToAll(lifetime?: number): void {
    for (const port of this.#options.ports())
      if (port.mtu >= MINIMUM_MTU && !port.blocked) this.#advertise(port, macOfGroup(ALL_NODES), ALL_NODES, lifetime);
  }

  #advertise(port: SwitchPort, mac: number, destination: Address, lifetime = LIFETIME_SECONDS): void {
    const { identity, ipv6, output } = this.#options;
    const names = namesOf(ipv6.options.searchDomains?.() ?? []);
    const octets =
      16 +
      wire.LINK_LAYER_OCTETS +
      wire.LINK_MTU_OCTETS +
      wire.PREFIX_OCTETS +
      (this.#servers.length > 0 ? 8 + ADDRESS_OCTETS * this.#servers.length : 0) +
      (names.length > 0 ? 8 + ((names.length + 7) & ~7) : 0);
    if (octets > MOST_OCTETS || !output.open({ mac, port }, destination, octets)) return;
    const { view } = output.arena;
    let at = output.at;
    at += wire.emitRouterAdvertisement(view, at, GUEST_HOP_LIMIT, this.#flags, lifetime);
    at += wire.emitLinkLayer(view, at, wire.SOURCE_LINK_LAYER, identity.mac);
    at += wire.emitLinkMtu(view, at, port.mtu);
    const flags = wire.ON_LINK | wire.AUTONOMOUS;
    at += wire.emitPrefix(view, at, ipv6.prefix, PREFIX_BITS, flags, VALID_SECONDS, PREFERRED_SECONDS);
    if (this.#servers.length > 0) at += wire.emitDnsServers(view, at, lifetime, this.#servers);
    if (names.length > 0) wire.emitDnsSearch(view, at, lifetime, names);
    output.closeIcmp(ipv6.linkLocal, destination, HOP_LIMIT);
  }
}

/** Domain names as RFC 1035 3.1 has them, one after the other; those that are none, or too many, are left out. */
function namesOf(domains: readonly string[]): Uint8Array {
  const octets: number[] = [];
  for (const domain of domains) {
    const labels = domain.replace(/\.$/, '').split('.');
    if (labels.some((label) => !/^[\x21-\x7e]{1,63}$/.test(label))) continue;
    const name = [...labels.flatMap((label) => [label.length, ...[...label].map((c) => c.charCodeAt(0))]), 0];
    if (name.length <= 255 && octets.length + name.length <= MOST_NAMES_OCTETS) octets.push(...name);
  }
  return Uint8Array.from(octets);
}
