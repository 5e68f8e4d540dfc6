/**
 * Who is where in IPv4: the address resolution protocol. RFC 826, RFC 5227 (probes, announcements). What is known, and for
 * how long, is in neighbor-cache.ts.
 *
 * As a gateway to everywhere, it answers requests for its own addresses, and for those outside the subnet when a
 * guest of the subnet asks (RFC 1027): such a guest believes the whole world on its link. It answers nobody about
 * other addresses of the subnet, which may be other guests.
 */

import type { Identity } from './identity.ts';
import { type Entry, NeighborCache, type NeighborCacheOptions } from './neighbor-cache.ts';
import type { Packet } from './packet.ts';
import type { SwitchPort } from './switch-port.ts';
import * as arp from './wire/arp.ts';
import * as ethernet from './wire/ethernet.ts';
import { SOUND } from './wire/fault.ts';

export interface NeighborOptions extends NeighborCacheOptions {
  readonly identity: Identity;
}

export class Neighbors extends NeighborCache<number> {
  readonly #options: NeighborOptions;
  readonly #index = new Map<number, Entry<number>>();

  constructor(options: NeighborOptions) {
    super(options);
    this.#options = options;
  }

  /** Takes note of who sent a packet. One comparison for all but the first of a run. */
  observe(port: SwitchPort, address: number, mac: number): void {
    if (port.learntAddress === address && port.learntMac === mac) return;
    if (!this.#options.identity.inSubnet(address)) return;
    this.learn(port, address, mac);
  }

  /** An ARP packet came in. */
  input(packet: Packet, octets: number): void {
    const { view, ipAt: at, port } = packet;
    const { drops, identity } = this.#options;
    if (arp.check(view, at, octets) !== SOUND) {
      drops.count('arp-malformed');
      return;
    }
    const mac = ethernet.mac(view, at + arp.SENDER_MAC);
    const sender = arp.senderAddress(view, at);
    const target = arp.targetAddress(view, at);
    // The sender's hardware address must be the frame's, or one guest could speak for another.
    if (mac !== ethernet.source(view, packet.ethernetAt) || identity.isOwn(sender)) {
      drops.count('arp-source');
      return;
    }
    const operation = arp.operation(view, at);
    // An announcement goes to all, or is about itself.
    const isAnswer =
      operation === arp.REPLY && target === identity.gateway && !ethernet.isGroup(view, packet.ethernetAt);
    // RFC 826: merge when the sender is known, or when the packet is for us. A probe (RFC 5227 2.1.1) has no sender.
    if (sender !== 0 && identity.inSubnet(sender)) this.learn(port, sender, mac, isAnswer);
    if (operation !== arp.REQUEST || sender === target) return;
    const foreign = sender !== 0 && identity.inSubnet(sender) && !identity.inSubnet(target);
    if (identity.isOwn(target) || foreign) this.#send(port, arp.REPLY, mac, target, mac, sender);
  }

  protected find(address: number): Entry<number> | undefined {
    return this.#index.get(address);
  }

  protected index(entry: Entry<number>): void {
    this.#index.set(entry.address, entry);
  }

  protected unindex(entry: Entry<number>): void {
    this.#index.delete(entry.address);
  }

  protected copy(address: number): number {
    return address;
  }

  protected isOnLink(address: number): boolean {
    return this.#options.identity.inSubnet(address);
  }

  protected contains(network: number, prefix: number, address: number): boolean {
    return prefix === 0 || (network ^ address) >>> (32 - prefix) === 0;
  }

  protected remember(port: SwitchPort, address: number, mac: number): void {
    port.learntAddress = address;
    port.learntMac = mac;
  }

  protected unremember(port: SwitchPort): void {
    port.learntMac = 0;
  }

  /** RFC 1122 2.3.2.1 (2): one who is asked again is asked by unicast. */
  protected solicit(address: number, port: SwitchPort, mac: number | undefined): void {
    this.#send(port, arp.REQUEST, mac ?? ethernet.BROADCAST, this.#options.identity.gateway, mac ?? 0, address);
  }

  #send(port: SwitchPort, operation: number, to: number, sender: number, targetMac: number, target: number): void {
    const octets = ethernet.HEADER_OCTETS + arp.PACKET_OCTETS;
    if (!port.reserveOrDrop(octets)) return;
    const { view } = port.arena;
    const { at } = port;
    const { mac } = this.#options.identity;
    ethernet.emit(view, at, to, mac, ethernet.TYPE_ARP);
    arp.emit(view, at + ethernet.HEADER_OCTETS, operation, mac, sender, targetMac, target);
    port.commit(octets);
  }
}
