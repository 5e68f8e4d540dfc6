/**
 * Who is where in IPv6: neighbour discovery. RFC 4861 7, RFC 4862 5.4 (duplicate address detection), RFC 6980 (no
 * fragments). What is known, and for how long, is in neighbor-cache.ts. Solicitations for our own addresses are
 * answered, a guest's probe for one of them as well, so that it lets go of it; for others never.
 */

import { FlowTable, KEY_WORDS } from './flow-table.ts';
import type { Identity } from './identity.ts';
import { ALL_NODES, type Ipv6Identity, isMulticast, solicitedNode } from './ipv6-identity.ts';
import type { Ipv6Output } from './ipv6-output.ts';
import type { KeyedHash } from './keyed-hash.ts';
import { type Entry, NeighborCache, type NeighborCacheOptions } from './neighbor-cache.ts';
import type { Packet } from './packet.ts';
import type { Address } from './port.ts';
import type { SwitchPort } from './switch-port.ts';
import { ADDRESS_OCTETS, contains, word } from './wire/address.ts';
import * as ethernet from './wire/ethernet.ts';
import { SOUND } from './wire/fault.ts';
import * as icmpv6 from './wire/icmpv6.ts';
import { address, MINIMUM_MTU } from './wire/ipv6.ts';
import * as wire from './wire/ndp.ts';

/** Of every message, so that it comes from the link itself. RFC 4861 3.1. */
export const HOP_LIMIT = 255;
const NEIGHBOR_OCTETS = 24;
/** 33:33 and the last four octets of a group. RFC 2464 7. */
const MULTICAST_MAC = 0x3333_0000_0000;

export const macOfGroup = (group: Address): number => MULTICAST_MAC + (word(group, 3) >>> 0);

export interface NdpOptions extends NeighborCacheOptions {
  readonly identity: Identity;
  readonly ipv6: Ipv6Identity;
  readonly output: Ipv6Output;
  readonly hash: KeyedHash;
  /** A router solicitation that is sound, from `mac`; its source may be unspecified. */
  readonly solicited: (packet: Packet, mac: number) => void;
}

export class Ndp extends NeighborCache<Address> {
  readonly #options: NdpOptions;
  readonly #ipv6: Ipv6Identity;
  readonly #table: FlowTable<Entry<Address>>;
  readonly #key = new Int32Array(KEY_WORDS);
  readonly #target = new Uint8Array(ADDRESS_OCTETS);
  readonly #source = new Uint8Array(ADDRESS_OCTETS);

  constructor(options: NdpOptions) {
    super(options);
    this.#options = options;
    this.#ipv6 = options.ipv6;
    this.#table = new FlowTable(options.hash);
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
    this.learn(port, this.#source, mac);
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
    // RFC 4861 7.2.5: nobody asked. Without the override flag what is known stays, but is not relied on any more.
    const before = this.find(target);
    if (!before) return;
    if (before.state !== 'INCOMPLETE' && before.mac !== mac && (flags & wire.OVERRIDE) === 0) this.suspect(before);
    else if (this.isOnLink(target)) this.learn(port, target, mac, (flags & wire.SOLICITED) !== 0);
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

  protected find(address: Address): Entry<Address> | undefined {
    return this.#table.find(this.#keyOf(address));
  }

  protected index(entry: Entry<Address>): void {
    this.#table.set(this.#keyOf(entry.address), entry);
  }

  protected unindex(entry: Entry<Address>): void {
    this.#table.delete(this.#keyOf(entry.address));
  }

  protected copy(address: Address): Address {
    return address.slice();
  }

  protected isOnLink(address: Address): boolean {
    const w0 = word(address, 0);
    return this.#ipv6.isOnLink(w0, word(address, 1)) || isMulticast(w0);
  }

  protected contains(network: Address, prefix: number, address: Address): boolean {
    return contains(network, prefix, address);
  }

  protected remember(port: SwitchPort, address: Address, mac: number): void {
    for (let i = 0; i < 4; i++) port.learntIpv6[i] = word(address, i);
    port.learntIpv6Mac = mac;
    port.ipv6Learnings++;
  }

  protected unremember(port: SwitchPort): void {
    port.learntIpv6Mac = 0;
    port.ipv6Learnings++;
  }

  /** Of the solicited-node group, or of one neighbour. RFC 4861 7.2.2, 7.3.3. */
  protected solicit(target: Address, port: SwitchPort, mac: number | undefined): void {
    if (port.mtu < MINIMUM_MTU) return;
    const destination = mac === undefined ? solicitedNode(target) : target;
    const { output, identity } = this.#options;
    const to = { mac: mac ?? macOfGroup(destination), port };
    if (!output.open(to, destination, NEIGHBOR_OCTETS + wire.LINK_LAYER_OCTETS)) return;
    const { arena, at } = output;
    const octets = wire.emitNeighborSolicitation(arena.view, at, target);
    wire.emitLinkLayer(arena.view, at + octets, wire.SOURCE_LINK_LAYER, identity.mac);
    output.closeIcmp(this.#ipv6.linkLocal, destination, HOP_LIMIT);
  }

  #keyOf(address: Address): Int32Array {
    const key = this.#key;
    for (let i = 0; i < 4; i++) key[i] = word(address, i);
    return key;
  }
}

export const isUnspecified = (packet: Packet): boolean =>
  packet.source0 === 0 && packet.source1 === 0 && packet.source2 === 0 && packet.source3 === 0;
