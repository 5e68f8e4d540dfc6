/**
 * Which addresses are whose, on a network of several guests that do not trust each other: a port may send only from its
 * own MAC and network addresses, and may say in ARP and NDP only what is true of them. What only the network itself may
 * say is dropped: router advertisements and redirects (RFC 6105), answers of DHCP and DHCPv6 servers.
 *
 * An address is a port's by a lease (`bind`), or by being the first to use it, which a lease overrides; a strict guard
 * knows leases alone. Addresses outside the network's own prefixes (containers behind a guest, say) may be used towards
 * the network, whose flows are kept by port, but not towards other guests.
 *
 * Limits: `MACS` MAC addresses and `ADDRESSES` addresses a port has claimed without a lease; its oldest give way, never
 * another port's.
 */

import type { Address } from '../port.ts';
import * as arp from '../wire/arp.ts';
import * as ethernet from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import { PROTOCOL_ICMPV6 } from '../wire/ipv6.ts';
import * as ndp from '../wire/ndp.ts';
import { type FrameHeaders, Net } from './frame-headers.ts';

const MACS = 16;
const ADDRESSES = 64;

const DHCP_SERVER_PORT = 67;
const DHCPV6_SERVER_PORT = 547;

const reasons = [
  'source-mac' /** another port's, or the gateway's */,
  'source-address' /** another port's, or not leased where leases are asked for */,
  'arp-source' /** ARP about an address or MAC address that is not the port's own */,
  'neighbor-advertisement' /** the same in NDP */,
  'router-advertisement' /** or a redirect */,
  'dhcp-answer',
  'header-chain' /** an IPv6 packet that hides what it carries. RFC 7113 */,
  'type' /** neither IPv4, ARP nor IPv6 */,
] as const;

export type GuardReason = (typeof reasons)[number];
/** Who may have a frame: the network and other guests, or the network alone. */
export type Reach = 'all' | 'network';

export interface GuardOptions {
  /** The gateway's. */
  readonly macAddress: Uint8Array;
  /** Addresses that are the network's own: no port has them. */
  readonly own: readonly Address[];
  /** The network's prefixes, of 128 bits. */
  readonly subnets: readonly { readonly address: Address; readonly prefix: number }[];
  /** Only leased addresses within the subnets. */
  readonly strict?: boolean;
}

interface Claim {
  readonly port: GuardedPort;
  readonly mac: number | undefined;
  /** By a lease. */
  readonly bound: boolean;
}

/** A port as the guard knows it. */
export class GuardedPort {
  readonly macs = new Set<number>();
  readonly claims = new Set<string>();
  /** What the last frame came from: runs of frames are alike. */
  lastMac = -1;
  readonly lastAddress = new Int32Array(4);
  hasLast = false;
}

const keyOf = (words: Int32Array): string => `${words[0]},${words[1]},${words[2]},${words[3]}`;

function wordsOf(address: Address): Int32Array {
  const view = new DataView(address.buffer, address.byteOffset, 16);
  return Int32Array.from({ length: 4 }, (_, i) => view.getInt32(4 * i));
}

export class SourceGuard {
  readonly drops: Record<GuardReason, number>;
  readonly #mac: number;
  readonly #own: ReadonlySet<string>;
  readonly #nets: readonly Net[];
  readonly #strict: boolean;
  readonly #ports = new Map<number, GuardedPort>();
  readonly #claims = new Map<string, Claim>();
  readonly #target = new Int32Array(4);
  readonly #linkLocal = new Net(Uint8Array.of(0xfe, 0x80, ...new Uint8Array(14)), 10);

  constructor(options: GuardOptions) {
    this.drops = Object.fromEntries(reasons.map((reason) => [reason, 0])) as Record<GuardReason, number>;
    this.#mac = ethernet.macOfBytes(options.macAddress);
    this.#own = new Set(options.own.map((address) => keyOf(wordsOf(address))));
    this.#nets = options.subnets.map(({ address, prefix }) => new Net(address, prefix));
    this.#strict = options.strict ?? false;
  }

  /** Whose MAC address it is; undefined: nobody's yet. */
  portOf(mac: number): GuardedPort | undefined {
    return this.#ports.get(mac);
  }

  /** A lease or an assignment: the address is this port's, whoever has used it before. */
  bind(address: Address, port: GuardedPort, macAddress: Uint8Array): void {
    const key = keyOf(wordsOf(address));
    const before = this.#claims.get(key);
    before?.port.claims.delete(key);
    if (before) before.port.hasLast = false;
    this.#claims.set(key, { port, mac: ethernet.macOfBytes(macAddress), bound: true });
    port.hasLast = false;
  }

  unbind(address: Address): void {
    const key = keyOf(wordsOf(address));
    const claim = this.#claims.get(key);
    if (!claim) return;
    this.#claims.delete(key);
    claim.port.claims.delete(key);
    claim.port.hasLast = false;
  }

  /** Forgets a port; `bound` says whether its leases go as well. */
  forget(port: GuardedPort, bound: boolean): void {
    for (const [key, claim] of this.#claims)
      if (claim.port === port && (bound || !claim.bound)) this.#claims.delete(key);
    for (const mac of port.macs) this.#ports.delete(mac);
    port.macs.clear();
    port.claims.clear();
    port.lastMac = -1;
    port.hasLast = false;
  }

  /** Who may have the frame; undefined: nobody, and that is counted. `headers` have been read from it. */
  check(port: GuardedPort, headers: FrameHeaders, view: DataView, at: number, length: number): Reach | undefined {
    const { sourceMac, type } = headers;
    if (sourceMac !== port.lastMac) {
      if (!this.#ownsMac(port, sourceMac)) return this.#drop('source-mac');
      port.lastMac = sourceMac;
      port.hasLast = false;
    }
    if (type === ethernet.TYPE_IPV4) return this.#ip(port, headers);
    if (type === ethernet.TYPE_IPV6) return this.#ipv6(port, headers, view, at, length);
    if (type === ethernet.TYPE_ARP) return this.#arp(port, headers, view, at);
    return this.#drop('type');
  }

  #drop(reason: GuardReason): undefined {
    this.drops[reason]++;
    return undefined;
  }

  #ownsMac(port: GuardedPort, mac: number): boolean {
    // The group bit is the lowest of the first octet.
    if (mac === this.#mac || mac === 0 || Math.floor(mac / 2 ** 40) % 2 === 1) return false;
    const owner = this.#ports.get(mac);
    if (owner) return owner === port;
    if (port.macs.size >= MACS) {
      const [oldest] = port.macs;
      port.macs.delete(oldest!);
      this.#ports.delete(oldest!);
    }
    port.macs.add(mac);
    this.#ports.set(mac, port);
    return true;
  }

  /** Whether the port may use an address; 'foreign': it is none of the network's, and towards the network it may. */
  #owns(port: GuardedPort, mac: number, words: Int32Array): boolean | 'foreign' {
    const key = keyOf(words);
    if (this.#own.has(key)) return false;
    const claim = this.#claims.get(key);
    if (claim) return claim.port === port && (claim.mac === undefined || claim.mac === mac);
    const linkLocal = this.#linkLocal.has(words);
    if (!linkLocal && !this.#nets.some((net) => net.has(words))) return 'foreign';
    // Nobody leases link-local addresses.
    if (this.#strict && !linkLocal) return false;
    if (port.claims.size >= ADDRESSES) {
      const [oldest] = port.claims;
      port.claims.delete(oldest!);
      this.#claims.delete(oldest!);
      port.hasLast = false;
    }
    port.claims.add(key);
    this.#claims.set(key, { port, mac: undefined, bound: false });
    return true;
  }

  #source(port: GuardedPort, headers: FrameHeaders): Reach | undefined {
    const { source } = headers;
    const { lastAddress } = port;
    if (port.hasLast && source[3] === lastAddress[3] && source[2] === lastAddress[2])
      if (source[1] === lastAddress[1] && source[0] === lastAddress[0]) return 'all';
    const owns = this.#owns(port, headers.sourceMac, source);
    if (owns === false) return this.#drop('source-address');
    if (owns === 'foreign') return 'network';
    lastAddress.set(source);
    port.hasLast = true;
    return 'all';
  }

  #ip(port: GuardedPort, headers: FrameHeaders): Reach | undefined {
    // The stack counts what is malformed.
    if (!headers.hasAddresses) return 'network';
    if (headers.protocol === ipv4.PROTOCOL_UDP) {
      if (headers.sourcePort === DHCP_SERVER_PORT) return this.#drop('dhcp-answer');
      // What a client asks is for the network alone, and it may have no address yet. RFC 2131 4.1.
      if (headers.destinationPort === DHCP_SERVER_PORT && headers.source[3] === 0) return 'network';
    }
    const reach = this.#source(port, headers);
    return headers.destinationPort === DHCP_SERVER_PORT && reach ? 'network' : reach;
  }

  #ipv6(port: GuardedPort, headers: FrameHeaders, view: DataView, at: number, length: number): Reach | undefined {
    if (!headers.hasAddresses) return 'network';
    const { protocol, transportAt, source } = headers;
    const isUnspecified = source[0] === 0 && source[1] === 0 && source[2] === 0 && source[3] === 0;
    if (protocol === ipv4.PROTOCOL_UDP && headers.sourcePort === DHCPV6_SERVER_PORT) return this.#drop('dhcp-answer');
    if (headers.hidesTransport) return this.#drop('header-chain');
    if (protocol === PROTOCOL_ICMPV6 && transportAt > 0) {
      const type = view.getUint8(at + transportAt);
      if (type === ndp.ROUTER_ADVERTISEMENT || type === ndp.REDIRECT) return this.#drop('router-advertisement');
      if (type >= ndp.ROUTER_SOLICITATION && type <= ndp.REDIRECT && headers.isFragment)
        return this.#drop('header-chain');
      if (type === ndp.NEIGHBOR_ADVERTISEMENT) {
        if (length < transportAt + ndp.messageOctets(type)) return this.#drop('header-chain');
        for (let i = 0; i < 4; i++) this.#target[i] = view.getInt32(at + transportAt + ndp.TARGET + 4 * i);
        if (this.#owns(port, headers.sourceMac, this.#target) !== true) return this.#drop('neighbor-advertisement');
      }
      // Duplicate address detection asks from nowhere. RFC 4862 5.4.2.
      if (isUnspecified) return type === ndp.NEIGHBOR_SOLICITATION ? 'all' : 'network';
      if (type === ndp.ROUTER_SOLICITATION) return this.#source(port, headers) && 'network';
    }
    if (isUnspecified) return 'network';
    const reach = this.#source(port, headers);
    return headers.destinationPort === DHCPV6_SERVER_PORT && reach ? 'network' : reach;
  }

  #arp(port: GuardedPort, headers: FrameHeaders, view: DataView, at: number): Reach | undefined {
    if (!headers.hasAddresses) return 'network';
    const packet = at + ethernet.HEADER_OCTETS;
    if (ethernet.mac(view, packet + arp.SENDER_MAC) !== headers.sourceMac) return this.#drop('arp-source');
    // A probe (RFC 5227 2.1.1) has no sender, and is a request.
    if (headers.source[3] === 0) return arp.operation(view, packet) === arp.REQUEST ? 'all' : this.#drop('arp-source');
    const owns = this.#owns(port, headers.sourceMac, headers.source);
    return owns === true ? 'all' : owns === 'foreign' ? 'network' : this.#drop('arp-source');
  }
}
