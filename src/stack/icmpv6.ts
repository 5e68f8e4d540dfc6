/**
 * ICMP for IPv6. RFC 4443; neighbour discovery is ndp.ts's, path MTU RFC 8201, attacks RFC 5927.
 *
 * The same as for IPv4 in icmp.ts: echo requests to our own addresses are answered here, those to others go to the
 * forwarder. Errors: never about an ICMPv6 error, a multicast (but for packet too big and unknown options), or a source
 * that is not one host (2.4(e)); they quote as much as fits into the least MTU (2.4(c)) and are limited (2.4(f)). Errors
 * of guests reach TCP and, as what they say of a path's MTU, datagrams.
 */

import type { Drops } from './drops.ts';
import { EchoAtHand } from './echo-at-hand.ts';
import { ErrorRate } from './error-rate.ts';
import type { ErrorSink } from './icmp.ts';
import { type Ipv6Identity, isLinkLocal, isMulticast } from './ipv6-identity.ts';
import type { Ipv6Output } from './ipv6-output.ts';
import { isUnspecified, type Ndp } from './ndp.ts';
import type { Packet } from './packet.ts';
import type { PathMtus } from './path-mtus.ts';
import type { Address, Forwarder, UnreachableKind } from './port.ts';
import type { Quote } from './quote.ts';
import { ADDRESS_OCTETS, word } from './wire/address.ts';
import { fold } from './wire/checksum.ts';
import * as ethernet from './wire/ethernet.ts';
import { SOUND } from './wire/fault.ts';
import * as wire from './wire/icmpv6.ts';
import * as ipv4 from './wire/ipv4.ts';
import * as ipv6 from './wire/ipv6.ts';
import { UNRECOGNIZED_OPTION } from './wire/ipv6-extension.ts';
import * as ndp from './wire/ndp.ts';

/** Of the packet an error is about. 2.4(c). */
const QUOTE_OCTETS = ipv6.MINIMUM_MTU - ipv6.HEADER_OCTETS - wire.HEADER_OCTETS;
/** The same behind a header that is made anew. */
export const MADE_OCTETS = QUOTE_OCTETS - ipv6.HEADER_OCTETS;
/** Of what a guest quotes: the header and what UDP or TCP begin with. */
const QUOTED_OCTETS = ipv6.HEADER_OCTETS + 8;

export interface Icmpv6Options {
  readonly ipv6: Ipv6Identity;
  readonly drops: Drops;
  readonly ndp: Ndp;
  readonly output: Ipv6Output;
  readonly pathMtus: PathMtus;
  readonly forwarder: Forwarder;
}

export class Icmpv6 {
  readonly #options: Icmpv6Options;
  readonly #drops: Drops;
  readonly #echo = new EchoAtHand();
  readonly #rate = new ErrorRate();
  readonly #from = new Uint8Array(ADDRESS_OCTETS);
  readonly #to = new Uint8Array(ADDRESS_OCTETS);
  /** Set once: TCP is made after ICMP, which it needs. */
  tcp: ErrorSink | undefined = undefined;
  udp: ErrorSink | undefined = undefined;

  constructor(options: Icmpv6Options) {
    this.#options = options;
    this.#drops = options.drops;
  }

  input(packet: Packet, nowMs: number): void {
    const { view, transportAt: at, transportOctets: octets } = packet;
    if (wire.check(Math.min(octets, packet.transportContiguous)) !== SOUND) {
      this.#drops.count('icmp-malformed');
      return;
    }
    if (!packet.checksumVerified) {
      const pseudo = ipv6.pseudoHeaderSum(view, packet.ipAt, ipv6.PROTOCOL_ICMPV6, octets);
      if (fold(pseudo + packet.transportSum()) !== 0xffff) {
        this.#drops.count('icmp-checksum');
        return;
      }
    }
    const type = wire.type(view, at);
    if (type >= ndp.ROUTER_SOLICITATION && type <= ndp.REDIRECT) this.#options.ndp.input(packet);
    else if (isUnspecified(packet)) this.#drops.count('ipv6-source');
    else if (type === wire.ECHO_REQUEST) {
      // Of a group: RFC 4443 4.2 lets it be, and one frame must not have many answers.
      if (isMulticast(packet.destination0)) this.#drops.count('ipv6-destination');
      else if (this.#options.ipv6.isOwnOf(packet)) this.#answer(packet);
      else this.#forward(packet);
    } else if (type === wire.DESTINATION_UNREACHABLE || type === wire.PACKET_TOO_BIG) this.#error(packet, nowMs);
    else this.#drops.count('icmp-type');
  }

  /** Sends an echo reply to a guest, as if from `peer`. */
  echoReply(guest: Address, peer: Address, identifier: number, sequence: number, payload: Uint8Array): boolean {
    const neighbor = this.#options.ndp.resolve(guest);
    if (!neighbor) {
      this.#drops.count('no-neighbour');
      return false;
    }
    const { output } = this.#options;
    if (!output.open(neighbor, guest, wire.HEADER_OCTETS + payload.length)) return false;
    wire.emitEcho(output.arena.view, output.at, wire.ECHO_REPLY, identifier, sequence);
    output.arena.bytes.set(payload, output.at + wire.HEADER_OCTETS);
    return output.closeIcmp(peer, guest);
  }

  /** Sends an error about the packet at hand to where it came from. */
  errorAbout(packet: Packet, type: number, code: number, rest: number, nowMs: number): boolean {
    const { view } = packet;
    const w0 = packet.source0;
    if (isMulticast(w0) || isUnspecified(packet)) return false;
    if (packet.protocol === ipv6.PROTOCOL_ICMPV6) {
      if (packet.transportContiguous < 1) return false;
      const about = wire.type(view, packet.transportAt);
      if (wire.isError(about) || about === ndp.REDIRECT) return false;
    }
    const toGroup = packet.hasEthernet && ethernet.isGroup(view, packet.ethernetAt);
    if (toGroup || isMulticast(packet.destination0)) {
      if (type !== wire.PARAMETER_PROBLEM || code !== UNRECOGNIZED_OPTION) return false;
    }
    packet.copySource(this.#to);
    // 2.2(a): what is about an address of ours comes from it, and what the far end would say from there.
    const isPort = type === wire.DESTINATION_UNREACHABLE && code === wire.PORT_UNREACHABLE;
    const from = this.#from;
    if (this.#options.ipv6.isOwnOf(packet) || isPort) packet.copyDestination(from);
    else from.set(this.#gatewayFor(this.#to));
    const octets = Math.min(packet.ipOctets, packet.availableOctets, QUOTE_OCTETS);
    if (!this.#open(type, code, rest, octets, nowMs)) return false;
    const { output } = this.#options;
    packet.copyTo(octets, output.arena.bytes, output.at + wire.HEADER_OCTETS);
    return output.closeIcmp(from, this.#to);
  }

  /** Sends an error about a packet that is no longer at hand: `quote` is made of it. */
  unreachable(kind: UnreachableKind, guest: Address, peer: Address, quote: Quote, mtu: number, nowMs: number): boolean {
    const isTooBig = kind === 'too-big';
    // "Port unreachable" is what the host at the far end would say; the others are what a router says.
    this.#from.set(kind === 'port' ? peer : this.#gatewayFor(guest));
    this.#to.set(guest);
    const type = isTooBig ? wire.PACKET_TOO_BIG : wire.DESTINATION_UNREACHABLE;
    const rest = isTooBig ? Math.max(mtu, ipv6.MINIMUM_MTU) : 0;
    return this.#sendMade(type, isTooBig ? 0 : codes[kind], rest, peer, 64, quote, nowMs);
  }

  /** The same with time exceeded, as from a router further on. */
  timeExceeded(router: Address, guest: Address, peer: Address, quote: Quote, nowMs: number): boolean {
    this.#from.set(router);
    this.#to.set(guest);
    return this.#sendMade(wire.TIME_EXCEEDED, wire.HOP_LIMIT_EXCEEDED, 0, peer, 1, quote, nowMs);
  }

  /** Sends an error with a packet from the guest at `#to` to `peer`. */
  #sendMade(
    type: number,
    code: number,
    rest: number,
    peer: Address,
    hopLimit: number,
    quote: Quote,
    nowMs: number,
  ): boolean {
    if (!this.#open(type, code, rest, ipv6.HEADER_OCTETS + quote.octets, nowMs)) return false;
    const { output } = this.#options;
    const at = output.at + wire.HEADER_OCTETS;
    ipv6.emit(output.arena.view, at, quote.length, quote.protocol, hopLimit, this.#to, peer);
    quote.copyTo(output.arena.bytes, at + ipv6.HEADER_OCTETS);
    return output.closeIcmp(this.#from, this.#to);
  }

  /** Which of the gateway's addresses an error for `guest` comes from. */
  #gatewayFor(guest: Address): Address {
    const { ipv6: identity } = this.#options;
    return isLinkLocal(word(guest, 0)) ? identity.linkLocal : identity.gateway;
  }

  /** Begins an error to `#to` with place for `octets` of what it is about. */
  #open(type: number, code: number, rest: number, octets: number, nowMs: number): boolean {
    if (!this.#rate.allows(nowMs)) {
      this.#drops.count('icmp-rate');
      return false;
    }
    const neighbor = this.#options.ndp.resolve(this.#to);
    if (!neighbor) {
      this.#drops.count('no-neighbour');
      return false;
    }
    const { output } = this.#options;
    if (!output.open(neighbor, this.#to, wire.HEADER_OCTETS + octets)) return false;
    wire.emit(output.arena.view, output.at, type, code, rest);
    return true;
  }

  #answer(packet: Packet): void {
    packet.copySource(this.#to);
    packet.copyDestination(this.#from);
    const neighbor = this.#options.ndp.resolve(this.#to);
    if (!neighbor) {
      this.#drops.count('no-neighbour');
      return;
    }
    const { output } = this.#options;
    const { view, transportAt, transportOctets: octets } = packet;
    if (!output.open(neighbor, this.#to, octets)) return;
    const { arena, at } = output;
    const identifier = wire.identifier(view, transportAt);
    wire.emitEcho(arena.view, at, wire.ECHO_REPLY, identifier, wire.sequence(view, transportAt));
    const { payload } = this.#echo;
    payload.clear();
    packet.payload(wire.HEADER_OCTETS, octets - wire.HEADER_OCTETS, payload);
    let into = at + wire.HEADER_OCTETS;
    for (let i = 0; i < payload.count; i++) {
      const { arena: from, offset, length } = payload.items[i]!;
      arena.bytes.set(from.bytes.subarray(offset, offset + length), into);
      into += length;
    }
    output.closeIcmp(this.#from, this.#to);
  }

  #forward(packet: Packet): void {
    this.#options.forwarder.echo(this.#echo.fill(packet));
  }

  /** A guest, or a router behind it, could not deliver what we sent. */
  #error(packet: Packet, nowMs: number): void {
    const { view, transportAt } = packet;
    const quotedAt = transportAt + wire.HEADER_OCTETS;
    const octets = packet.transportContiguous - wire.HEADER_OCTETS;
    if (octets < QUOTED_OCTETS || view.getUint8(quotedAt) >> 4 !== 6) {
      this.#drops.count('icmp-malformed');
      return;
    }
    const isTooBig = wire.type(view, transportAt) === wire.PACKET_TOO_BIG;
    const code = wire.code(view, transportAt);
    const mtu = wire.mtu(view, transportAt);
    ipv6.address(view, quotedAt + ipv6.SOURCE, this.#from);
    ipv6.address(view, quotedAt + ipv6.DESTINATION, this.#to);
    const next = ipv6.nextHeader(view, quotedAt);
    const sink = next === ipv4.PROTOCOL_TCP ? this.tcp : next === ipv4.PROTOCOL_UDP && !isTooBig ? this.udp : undefined;
    if (sink) {
      const kind = isTooBig ? 'too-big' : code === wire.PORT_UNREACHABLE ? 'refused' : 'unreachable';
      const at = quotedAt + ipv6.HEADER_OCTETS;
      sink.icmpError({ kind, view, at, guest: this.#to, peer: this.#from, ingress: packet.port.ingress, mtu });
      return;
    }
    const { ndp: neighbors, pathMtus } = this.#options;
    // Believed of whoever is behind the port that it came in by.
    if (isTooBig && neighbors.resolve(this.#to)?.port === packet.port) pathMtus.tooBig(this.#to, mtu, nowMs);
    else this.#drops.count('icmp-type');
  }
}

const codes: Readonly<Record<Exclude<UnreachableKind, 'too-big'>, number>> = {
  network: wire.NO_ROUTE,
  host: wire.ADDRESS_UNREACHABLE,
  port: wire.PORT_UNREACHABLE,
  prohibited: wire.ADMINISTRATIVELY_PROHIBITED,
};
