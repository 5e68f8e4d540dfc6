/**
 * Who is where in IPv6: neighbour discovery. RFC 4861 7, RFC 4862 5.4 (duplicate address detection), RFC 6980 (no
 * fragments). The same rules as for IPv4 in neighbor.ts: learnt from what guests of the prefix and the link say and
 * send, pinned by a lease, bounded; beyond the prefix by a route, or through the guest that was heard last. Solicitations
 * for our own addresses are answered, a guest's probe for one of them as well, so that it lets go of it; for others never.
 *
 * Limits: `MAX_NEIGHBOURS` learnt entries, the oldest goes; at most one solicitation a second per address.
 */

import type { Drops } from './drops.ts';
import { FlowTable, KEY_WORDS } from './flow-table.ts';
import type { Identity } from './identity.ts';
import { ALL_NODES, type Ipv6Identity, isMulticast, solicitedNode } from './ipv6-identity.ts';
import type { Ipv6Output } from './ipv6-output.ts';
import type { KeyedHash } from './keyed-hash.ts';
import type { Neighbor } from './neighbor.ts';
import type { Packet } from './packet.ts';
import type { Address } from './port.ts';
import type { SwitchPort } from './switch-port.ts';
import { ADDRESS_OCTETS, contains, word } from './wire/address.ts';
import * as ethernet from './wire/ethernet.ts';
import { SOUND } from './wire/fault.ts';
import * as icmpv6 from './wire/icmpv6.ts';
import { address, MINIMUM_MTU } from './wire/ipv6.ts';
import * as wire from './wire/ndp.ts';

const MAX_NEIGHBOURS = 1024;
const REQUEST_INTERVAL_MS = 1000;
/** Of every message, so that it comes from the link itself. RFC 4861 3.1. */
export const HOP_LIMIT = 255;
const NEIGHBOR_OCTETS = 24;
/** 33:33 and the last four octets of a group. RFC 2464 7. */
const MULTICAST_MAC = 0x3333_0000_0000;

export const macOfGroup = (group: Address): number => MULTICAST_MAC + (word(group, 3) >>> 0);

interface Entry extends Neighbor {
  readonly w0: number;
  readonly w1: number;
  readonly w2: number;
  readonly w3: number;
}

interface Route {
  readonly network: Address;
  readonly prefix: number;
  readonly via: Neighbor;
}

export interface NdpOptions {
  readonly identity: Identity;
  readonly ipv6: Ipv6Identity;
  readonly output: Ipv6Output;
  readonly hash: KeyedHash;
  readonly ports: () => Iterable<SwitchPort>;
  readonly drops: Drops;
  /** An address has become known, or has moved. */
  readonly learnt: () => void;
  /** A router solicitation that is sound, from `mac`; its source may be unspecified. */
  readonly solicited: (packet: Packet, mac: number) => void;
}

export class Ndp {
  readonly #options: NdpOptions;
  readonly #ipv6: Ipv6Identity;
  readonly #table: FlowTable<Entry>;
  /** In order of age. */
  readonly #entries = new Set<Entry>();
  readonly #key = new Int32Array(KEY_WORDS);
  readonly #routes: Route[] = [];
  readonly #asked = new Map<string, number>();
  readonly #target = new Uint8Array(ADDRESS_OCTETS);
  readonly #source = new Uint8Array(ADDRESS_OCTETS);
  /** The guest heard last. */
  #guest: Neighbor | undefined = undefined;

  constructor(options: NdpOptions) {
    this.#options = options;
    this.#ipv6 = options.ipv6;
    this.#table = new FlowTable(options.hash);
  }

  /** Next hop for an address; undefined: nobody known (see `ask`). */
  resolve(address: Address): Neighbor | undefined {
    const known = this.#find(address);
    if (known) return known;
    const w0 = word(address, 0);
    if (this.#ipv6.isOnLink(w0, word(address, 1)) || isMulticast(w0)) return undefined;
    for (const route of this.#routes) if (contains(route.network, route.prefix, address)) return route.via;
    return this.#guest;
  }

  /** A lease: this address is behind this port and MAC address, whatever others say. */
  pin(address: Address, port: SwitchPort, mac: number): void {
    this.#set(address, port, mac, true);
  }

  unpin(address: Address): void {
    const entry = this.#find(address);
    if (entry) this.#remove(entry);
  }

  /** Reaches a network through the guest at `mac`, ahead of the guest heard last. */
  route(network: Address, prefix: number, port: SwitchPort, mac: number): void {
    this.#routes.push({ network: network.slice(), prefix, via: { mac, port, pinned: true } });
    // Longest prefix first.
    this.#routes.sort((a, b) => b.prefix - a.prefix);
  }

  /** Forgets all that is behind a port. */
  forget(port: SwitchPort): void {
    for (const entry of this.#entries) if (entry.port === port) this.#remove(entry);
    for (let i = this.#routes.length - 1; i >= 0; i--)
      if (this.#routes[i]!.via.port === port) this.#routes.splice(i, 1);
    if (this.#guest?.port === port) this.#guest = undefined;
  }

  /** Takes note of who sent a packet. Four comparisons for all but the first of a run. */
  observe(packet: Packet): void {
    const { port, source0, source1, source2, source3 } = packet;
    const mac = ethernet.source(packet.view, packet.ethernetAt);
    if (port.learntIpv6Mac === mac) {
      const learnt = port.learntIpv6;
      if (learnt[3] === source3 && learnt[2] === source2 && learnt[1] === source1 && learnt[0] === source0) return;
    }
    if (!this.#ipv6.isOnLink(source0, source1)) return;
    packet.copySource(this.#source);
    this.#learn(port, this.#source, mac);
  }

  /** Asks who has an address, on every port, at most once a second. RFC 4861 7.2.2. */
  ask(target: Address, nowMs: number): void {
    const key = target.join();
    const before = this.#asked.get(key);
    if (before !== undefined && nowMs - before < REQUEST_INTERVAL_MS) return;
    if (this.#asked.size >= MAX_NEIGHBOURS) this.#asked.clear();
    this.#asked.set(key, nowMs);
    const group = solicitedNode(target);
    const { output, identity } = this.#options;
    for (const port of this.#options.ports()) {
      if (port.mtu < MINIMUM_MTU) continue;
      const to = { mac: macOfGroup(group), port };
      if (!output.open(to, group, NEIGHBOR_OCTETS + wire.LINK_LAYER_OCTETS)) continue;
      const { arena, at } = output;
      const octets = wire.emitNeighborSolicitation(arena.view, at, target);
      wire.emitLinkLayer(arena.view, at + octets, wire.SOURCE_LINK_LAYER, identity.mac);
      output.closeIcmp(this.#ipv6.linkLocal, group, HOP_LIMIT);
    }
  }

  /** A message of neighbour discovery came in; its checksum is right. RFC 4861 6.1, 7.1. */
  input(packet: Packet): void {
    const { view, transportAt: at, transportOctets: octets } = packet;
    const { drops } = this.#options;
    const sound =
      packet.hopLimit === HOP_LIMIT &&
      packet.hasEthernet &&
      octets <= packet.transportContiguous &&
      wire.check(view, at, octets) === SOUND;
    if (!sound) {
      drops.count('ndp-malformed');
      return;
    }
    const type = icmpv6.type(view, at);
    if (type === wire.NEIGHBOR_SOLICITATION) this.#solicitation(packet);
    else if (type === wire.NEIGHBOR_ADVERTISEMENT) this.#advertisement(packet);
    else if (type === wire.ROUTER_SOLICITATION) this.#routerSolicitation(packet);
    // There is one router on the link. RFC 6105.
    else drops.count('ndp-source');
  }

  /** The MAC address that an option tells, which must be the frame's; the frame's where there is none; -1: another. */
  #macOf(packet: Packet, kind: number): number {
    const { view, transportAt: at, transportOctets: octets } = packet;
    const mac = ethernet.source(view, packet.ethernetAt);
    const option = wire.option(view, at, octets, kind);
    if (option < 0) return mac;
    return ethernet.mac(view, option + wire.LINK_LAYER_MAC) === mac ? mac : -1;
  }

  #solicitation(packet: Packet): void {
    const { view, transportAt: at, transportOctets: octets, port } = packet;
    const { drops } = this.#options;
    const target = this.#target;
    address(view, at + wire.TARGET, target);
    const probes = isUnspecified(packet);
    const hasOption = wire.option(view, at, octets, wire.SOURCE_LINK_LAYER) >= 0;
    // A probe asks the solicited-node group, and tells nobody's MAC address.
    if (isMulticast(word(target, 0)) || (probes && (hasOption || !isMulticast(packet.destination0)))) {
      drops.count('ndp-malformed');
      return;
    }
    const mac = this.#macOf(packet, wire.SOURCE_LINK_LAYER);
    if (mac < 0) {
      drops.count('ndp-source');
      return;
    }
    if (!this.#ipv6.isOwnAddress(target)) return;
    const flags = (this.#ipv6.isRouter ? wire.ROUTER : 0) | wire.OVERRIDE;
    if (probes) this.#advertise(port, macOfGroup(ALL_NODES), target, ALL_NODES, flags);
    else {
      packet.copySource(this.#source);
      this.#advertise(port, mac, target, this.#source, flags | wire.SOLICITED);
    }
  }

  #advertisement(packet: Packet): void {
    const { view, transportAt: at, port } = packet;
    const { drops } = this.#options;
    const target = this.#target;
    address(view, at + wire.TARGET, target);
    const flags = view.getUint32(at + 4);
    const isGroup = isMulticast(packet.destination0);
    if (isMulticast(word(target, 0)) || (isGroup && (flags & wire.SOLICITED) !== 0) || isUnspecified(packet)) {
      drops.count('ndp-malformed');
      return;
    }
    const mac = this.#macOf(packet, wire.TARGET_LINK_LAYER);
    if (mac < 0 || this.#ipv6.isOwnAddress(target)) {
      drops.count('ndp-source');
      return;
    }
    // RFC 4861 7.2.5: nobody asked. 7.2.5 (I): without the override flag what is known stays.
    const before = this.#find(target);
    if (!before && !this.#asked.has(target.join())) return;
    if (before && before.mac !== mac && (flags & wire.OVERRIDE) === 0) return;
    if (this.#ipv6.isOnLink(word(target, 0), word(target, 1))) this.#learn(port, target, mac);
  }

  #routerSolicitation(packet: Packet): void {
    const { view, transportAt: at, transportOctets: octets } = packet;
    const mac = this.#macOf(packet, wire.SOURCE_LINK_LAYER);
    if (isUnspecified(packet) && wire.option(view, at, octets, wire.SOURCE_LINK_LAYER) >= 0)
      this.#options.drops.count('ndp-malformed');
    else if (mac < 0) this.#options.drops.count('ndp-source');
    else this.#options.solicited(packet, mac);
  }

  #advertise(port: SwitchPort, mac: number, target: Address, destination: Address, flags: number): void {
    const { output, identity } = this.#options;
    if (!output.open({ mac, port }, destination, NEIGHBOR_OCTETS + wire.LINK_LAYER_OCTETS)) return;
    const { arena, at } = output;
    const octets = wire.emitNeighborAdvertisement(arena.view, at, flags >>> 0, target);
    wire.emitLinkLayer(arena.view, at + octets, wire.TARGET_LINK_LAYER, identity.mac);
    output.closeIcmp(target, destination, HOP_LIMIT);
  }

  #find(address: Address): Entry | undefined {
    const key = this.#key;
    for (let i = 0; i < 4; i++) key[i] = word(address, i);
    return this.#table.find(key);
  }

  #learn(port: SwitchPort, address: Address, mac: number): void {
    const before = this.#find(address);
    if (before?.pinned && before.port !== port) return;
    for (let i = 0; i < 4; i++) port.learntIpv6[i] = word(address, i);
    port.learntIpv6Mac = mac;
    port.ipv6Learnings++;
    if (before && before.mac === mac && before.port === port) {
      // What lies beyond the prefix is behind whoever has an address in it, if only a link-local one.
      this.#guest = before;
      return;
    }
    this.#set(address, port, mac, before?.pinned ?? false);
  }

  #set(address: Address, port: SwitchPort, mac: number, pinned: boolean): void {
    const before = this.#find(address);
    if (before) this.#remove(before);
    if (this.#entries.size >= MAX_NEIGHBOURS) {
      for (const old of this.#entries) {
        if (old.pinned) continue;
        this.#remove(old);
        break;
      }
    }
    const [w0, w1, w2, w3] = [word(address, 0), word(address, 1), word(address, 2), word(address, 3)];
    const entry: Entry = { w0, w1, w2, w3, mac, port, pinned };
    this.#find(address);
    this.#table.set(this.#key, entry);
    this.#entries.add(entry);
    this.#guest = entry;
    this.#asked.delete(address.join());
    this.#options.learnt();
  }

  #remove(entry: Entry): void {
    const key = this.#key;
    key[0] = entry.w0;
    key[1] = entry.w1;
    key[2] = entry.w2;
    key[3] = entry.w3;
    this.#table.delete(key);
    this.#entries.delete(entry);
  }
}

export const isUnspecified = (packet: Packet): boolean =>
  packet.source0 === 0 && packet.source1 === 0 && packet.source2 === 0 && packet.source3 === 0;
