/**
 * How IPv6 datagrams of every transport but TCP leave: `open` gives the place where a transport writes its octets,
 * `close` puts the header before them and sends them, in fragments (RFC 8200 4.5) where the path asks for it: the link's
 * MTU, or less where a router behind it has said so (RFC 8201).
 */

import type { Drops } from './drops.ts';
import { sum } from './frame-memory.ts';
import type { Identity } from './identity.ts';
import type { Neighbor } from './neighbor-cache.ts';
import type { PathMtus } from './path-mtus.ts';
import type { Address, Arena } from './port.ts';
import type { SwitchPort } from './switch-port.ts';
import { word } from './wire/address.ts';
import { finish } from './wire/checksum.ts';
import * as ethernet from './wire/ethernet.ts';
import * as icmpv6 from './wire/icmpv6.ts';
import * as ipv6 from './wire/ipv6.ts';
import * as extension from './wire/ipv6-extension.ts';

/** Largest payload of an IPv6 packet. */
const MAX_PAYLOAD_OCTETS = 65535;
const HOP_LIMIT = 64;
const PAYLOAD_AT = ethernet.HEADER_OCTETS + ipv6.HEADER_OCTETS;

const halves = (value: number): number => (value >>> 16) + (value & 0xffff);

/** The partial sum of the pseudo-header. RFC 8200 8.1. */
export function pseudoHeaderSum(source: Address, destination: Address, protocol: number, octets: number): number {
  let total = protocol + octets;
  for (let i = 0; i < 4; i++) total += halves(word(source, i)) + halves(word(destination, i));
  return total;
}

export class Ipv6Output {
  readonly #identity: Identity;
  readonly #drops: Drops;
  readonly #pathMtus: PathMtus;
  /** Datagrams larger than a frame are written here and cut from here. */
  readonly #whole: Arena;
  #identification: number;
  #port: SwitchPort | undefined = undefined;
  #mac = 0;
  #octets = 0;
  #mtu = 0;
  #cut = false;
  /** Where the transport writes. */
  arena: Arena;
  at = 0;

  constructor(identity: Identity, drops: Drops, pathMtus: PathMtus, identification: number) {
    this.#identity = identity;
    this.#drops = drops;
    this.#pathMtus = pathMtus;
    this.#identification = identification;
    const bytes = new Uint8Array(MAX_PAYLOAD_OCTETS);
    this.#whole = { bytes, view: new DataView(bytes.buffer) };
    this.arena = this.#whole;
  }

  /** Makes place for `octets` of a transport to `destination`, by `to`; false: no room, or too many (counted). */
  open(to: Neighbor, destination: Address, octets: number): boolean {
    const { port, mac } = to;
    if (octets > MAX_PAYLOAD_OCTETS) {
      this.#drops.count('link-mtu');
      return false;
    }
    this.#mtu = Math.min(port.mtu, this.#pathMtus.of(destination));
    this.#cut = octets + ipv6.HEADER_OCTETS > this.#mtu;
    if (this.#cut) {
      this.arena = this.#whole;
      this.at = 0;
    } else {
      if (!port.reserveOrDrop(PAYLOAD_AT + octets)) return false;
      this.arena = port.arena;
      this.at = port.at + PAYLOAD_AT;
    }
    this.#port = port;
    this.#mac = mac;
    this.#octets = octets;
    return true;
  }

  /** Sends what was written; false: a fragment found no room (counted). */
  close(source: Address, destination: Address, protocol: number, hopLimit = HOP_LIMIT): boolean {
    const port = this.#port!;
    if (!this.#cut) {
      this.#headers(port, this.#octets, protocol, hopLimit, source, destination);
      port.commit(PAYLOAD_AT + this.#octets);
      return true;
    }
    const identification = this.#identification;
    this.#identification = (identification + 1) >>> 0;
    const most = (this.#mtu - ipv6.HEADER_OCTETS - extension.FRAGMENT_OCTETS) & ~7;
    for (let done = 0; done < this.#octets; done += most) {
      const octets = Math.min(most, this.#octets - done);
      const payload = extension.FRAGMENT_OCTETS + octets;
      if (!port.reserveOrDrop(PAYLOAD_AT + payload)) return false;
      this.#headers(port, payload, extension.FRAGMENT, hopLimit, source, destination);
      const at = port.at + PAYLOAD_AT;
      const more = done + octets < this.#octets;
      extension.emitFragment(port.arena.view, at, protocol, done, more, identification);
      port.arena.bytes.set(this.#whole.bytes.subarray(done, done + octets), at + extension.FRAGMENT_OCTETS);
      port.commit(PAYLOAD_AT + payload);
    }
    return true;
  }

  /** The same for an ICMPv6 message, which is summed first. */
  closeIcmp(source: Address, destination: Address, hopLimit = HOP_LIMIT): boolean {
    const { arena, at } = this;
    const octets = this.#octets;
    const pseudo = pseudoHeaderSum(source, destination, ipv6.PROTOCOL_ICMPV6, octets);
    icmpv6.setChecksum(arena.view, at, 0);
    icmpv6.setChecksum(arena.view, at, finish(pseudo + sum(arena, at, octets)));
    return this.close(source, destination, ipv6.PROTOCOL_ICMPV6, hopLimit);
  }

  #headers(
    port: SwitchPort,
    payload: number,
    next: number,
    hopLimit: number,
    source: Address,
    destination: Address,
  ): void {
    const { view } = port.arena;
    ethernet.emit(view, port.at, this.#mac, this.#identity.mac, ethernet.TYPE_IPV6);
    ipv6.emit(view, port.at + ethernet.HEADER_OCTETS, payload, next, hopLimit, source, destination);
  }
}
