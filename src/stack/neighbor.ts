/**
 * Who is where: IPv4 addresses to MAC addresses and switch ports. RFC 826, RFC 5227 (probes, announcements).
 *
 * Learnt from ARP and from the packets of guests with an address in the subnet; pinned by a lease (`pin`), which
 * nothing learnt from another port overrides. Addresses outside the subnet are reached through the guest that was
 * heard last on any port, or through a route (`route`): a guest is the router to its containers.
 * As a gateway to everywhere, it answers requests for its own addresses, and for those outside the subnet when a
 * guest of the subnet asks (RFC 1027): such a guest believes the whole world on its link. It answers nobody about
 * other addresses of the subnet, which may be other guests.
 *
 * Limits: `MAX_NEIGHBOURS` learnt entries, the oldest goes; requests at most one a second per address.
 */

import type { Drops } from './drops.ts';
import type { Identity } from './identity.ts';
import type { Packet } from './packet.ts';
import type { SwitchPort } from './switch-port.ts';
import * as arp from './wire/arp.ts';
import * as ethernet from './wire/ethernet.ts';
import { SOUND } from './wire/fault.ts';

const MAX_NEIGHBOURS = 1024;
const REQUEST_INTERVAL_MS = 1000;

export interface Neighbor {
  readonly mac: number;
  readonly port: SwitchPort;
  readonly pinned: boolean;
}

interface Route {
  readonly network: number;
  readonly mask: number;
  readonly via: Neighbor;
}

export interface NeighborOptions {
  readonly identity: Identity;
  readonly ports: () => Iterable<SwitchPort>;
  readonly drops: Drops;
  /** An address has become known, or has moved. */
  readonly learnt: () => void;
}

export class Neighbors {
  readonly #options: NeighborOptions;
  readonly #entries = new Map<number, Neighbor>();
  readonly #routes: Route[] = [];
  readonly #asked = new Map<number, number>();
  /** The guest heard last. */
  #guest: Neighbor | undefined = undefined;

  constructor(options: NeighborOptions) {
    this.#options = options;
  }

  /** Next hop for an address; undefined: nobody known (see `ask`). */
  resolve(address: number): Neighbor | undefined {
    const known = this.#entries.get(address);
    if (known) return known;
    if (this.#options.identity.inSubnet(address)) return undefined;
    for (const route of this.#routes) if ((address & route.mask) === route.network) return route.via;
    return this.#guest;
  }

  /** A lease: this address is behind this port and MAC address, whatever others say. */
  pin(address: number, port: SwitchPort, mac: number): void {
    const entry = { mac, port, pinned: true };
    this.#set(address, entry);
    this.#guest ??= entry;
  }

  unpin(address: number): void {
    this.#entries.delete(address);
  }

  /** Reaches a network through the guest at `mac`, ahead of the guest heard last. */
  route(network: number, mask: number, port: SwitchPort, mac: number): void {
    this.#routes.push({ network: network & mask, mask, via: { mac, port, pinned: true } });
    // Longest prefix first.
    this.#routes.sort((a, b) => (b.mask >>> 0) - (a.mask >>> 0));
  }

  /** Forgets all that is behind a port. */
  forget(port: SwitchPort): void {
    for (const [address, entry] of this.#entries) if (entry.port === port) this.#entries.delete(address);
    for (let i = this.#routes.length - 1; i >= 0; i--)
      if (this.#routes[i]!.via.port === port) this.#routes.splice(i, 1);
    if (this.#guest?.port === port) this.#guest = undefined;
  }

  /** Takes note of who sent a packet. One comparison for all but the first of a run. */
  observe(port: SwitchPort, address: number, mac: number): void {
    if (port.learntAddress === address && port.learntMac === mac) return;
    if (!this.#options.identity.inSubnet(address)) return;
    this.#learn(port, address, mac);
  }

  /** Asks who has an address, on every port, at most once a second. */
  ask(address: number, nowMs: number): void {
    const before = this.#asked.get(address);
    if (before !== undefined && nowMs - before < REQUEST_INTERVAL_MS) return;
    if (this.#asked.size >= MAX_NEIGHBOURS) this.#asked.clear();
    this.#asked.set(address, nowMs);
    for (const port of this.#options.ports()) {
      this.#send(port, arp.REQUEST, ethernet.BROADCAST, this.#options.identity.gateway, 0, address);
    }
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
    // RFC 826: merge when the sender is known, or when the packet is for us. A probe (RFC 5227 2.1.1) has no sender.
    if (sender !== 0 && identity.inSubnet(sender)) this.#learn(port, sender, mac);
    if (operation !== arp.REQUEST || sender === target) return;
    const foreign = sender !== 0 && identity.inSubnet(sender) && !identity.inSubnet(target);
    if (identity.isOwn(target) || foreign) this.#send(port, arp.REPLY, mac, target, mac, sender);
  }

  #learn(port: SwitchPort, address: number, mac: number): void {
    const before = this.#entries.get(address);
    if (before?.pinned && before.port !== port) return;
    port.learntAddress = address;
    port.learntMac = mac;
    if (before && before.mac === mac && before.port === port) {
      this.#guest = before;
      return;
    }
    this.#set(address, { mac, port, pinned: before?.pinned ?? false });
  }

  #set(address: number, neighbor: Neighbor): void {
    this.#entries.delete(address);
    if (this.#entries.size >= MAX_NEIGHBOURS) {
      for (const [old, entry] of this.#entries) {
        if (entry.pinned) continue;
        this.#entries.delete(old);
        break;
      }
    }
    this.#entries.set(address, neighbor);
    this.#guest = neighbor;
    this.#asked.delete(address);
    this.#options.learnt();
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
