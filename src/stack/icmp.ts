/**
 * ICMP for IPv4. RFC 792, RFC 1122 3.2.2, RFC 1812 4.3, RFC 1191 (MTU), RFC 5927 (attacks by it).
 *
 * Echo requests to our own addresses are answered here, those to others go to the forwarder, which answers for them
 * with `sendEchoReply`. Errors: never about an ICMP error, a fragment but the first, a broadcast, or a source that is
 * not one host (RFC 1122 3.2.2); they quote up to 548 octets of what they are about (RFC 1812 4.3.2.3) and are limited
 * (4.3.2.8). An error that a guest sends reaches TCP, which
 * believes it only about its own segments in flight (RFC 5927 4).
 */

import type { Drops } from './drops.ts';
import { EchoAtHand } from './echo-at-hand.ts';
import { ErrorRate } from './error-rate.ts';
import { sum } from './frame-memory.ts';
import type { Identity } from './identity.ts';
import type { Ipv4Output, Transport } from './ipv4.ts';
import type { Neighbors } from './neighbor.ts';
import type { Packet } from './packet.ts';
import type { Address, Forwarder, UnreachableKind } from './port.ts';
import type { Quote } from './quote.ts';
import { ofIpv4 } from './wire/address.ts';
import * as checksum from './wire/checksum.ts';
import * as ethernet from './wire/ethernet.ts';
import { SOUND } from './wire/fault.ts';
import * as icmp from './wire/icmp.ts';
import * as ipv4 from './wire/ipv4.ts';

/** Of the packet an error is about: 576 octets less the headers. RFC 1812 4.3.2.3. */
const QUOTE_OCTETS = 548;
/** The same behind a header that is made anew. */
export const MADE_OCTETS = QUOTE_OCTETS - ipv4.HEADER_OCTETS;

/** An error about a segment or a datagram of ours, from either ICMP. */
export interface TransportError {
  readonly kind: 'too-big' | 'refused' | 'unreachable';
  /** The quoted header of the transport, of which 8 octets are there at least. */
  readonly view: DataView;
  readonly at: number;
  /** Of the quoted IP header. */
  readonly guest: Address;
  readonly peer: Address;
  readonly ingress: number;
  /** Of the next hop, for 'too-big'. */
  readonly mtu: number;
}

export interface ErrorSink {
  icmpError(error: TransportError): void;
}

export interface IcmpOptions {
  readonly identity: Identity;
  readonly drops: Drops;
  readonly neighbors: Neighbors;
  readonly output: Ipv4Output;
  readonly forwarder: Forwarder;
}

export class Icmp implements Transport {
  readonly #options: IcmpOptions;
  readonly #drops: Drops;
  readonly #echo = new EchoAtHand();
  readonly #rate = new ErrorRate();
  /** Set once: TCP is made after ICMP, which it needs. */
  tcp: ErrorSink | undefined = undefined;
  udp: ErrorSink | undefined = undefined;

  constructor(options: IcmpOptions) {
    this.#options = options;
    this.#drops = options.drops;
  }

  input(packet: Packet, _nowMs: number): void {
    const { view, transportAt: at, transportOctets: octets } = packet;
    if (icmp.check(Math.min(octets, packet.transportContiguous)) !== SOUND) {
      this.#drops.count('icmp-malformed');
      return;
    }
    if (!packet.checksumVerified && checksum.fold(packet.transportSum()) !== 0xffff) {
      this.#drops.count('icmp-checksum');
      return;
    }
    const type = icmp.type(view, at);
    if (type === icmp.ECHO_REQUEST) {
      if (this.#options.identity.isOwn(packet.destination3)) this.#answer(packet);
      else this.#forward(packet);
    } else if (type === icmp.DESTINATION_UNREACHABLE) this.#error(packet);
    else this.#drops.count('icmp-type');
  }

  /** Sends an echo reply to a guest, as if from `peer`. */
  echoReply(guest: number, peer: number, identifier: number, sequence: number, payload: Uint8Array): boolean {
    const neighbor = this.#options.neighbors.resolve(guest);
    if (!neighbor) {
      this.#drops.count('no-neighbour');
      return false;
    }
    const { output } = this.#options;
    if (!output.open(neighbor, icmp.HEADER_OCTETS + payload.length, false)) return false;
    const { arena, at } = output;
    icmp.emitEcho(arena.view, at, icmp.ECHO_REPLY, identifier, sequence);
    arena.bytes.set(payload, at + icmp.HEADER_OCTETS);
    icmp.setChecksum(arena.view, at, checksum.finish(sum(arena, at, icmp.HEADER_OCTETS + payload.length)));
    return output.close(peer, guest, ipv4.PROTOCOL_ICMP);
  }

  /** Sends an error about the packet at hand to where it came from. */
  errorAbout(packet: Packet, type: number, code: number, rest: number, nowMs: number): boolean {
    const { view, ipAt } = packet;
    if (packet.protocol === ipv4.PROTOCOL_ICMP) {
      if (packet.transportContiguous < icmp.HEADER_OCTETS || icmp.isError(icmp.type(view, packet.transportAt)))
        return false;
    }
    if (ipv4.fragmentOffset(view, ipAt) !== 0 || this.#options.identity.isBroadcast(packet.destination3)) return false;
    // RFC 1122 3.2.2: nor about what was sent to all stations of the link.
    if (packet.hasEthernet && ethernet.isGroup(view, packet.ethernetAt)) return false;
    const octets = Math.min(packet.ipOctets, packet.contiguous, QUOTE_OCTETS);
    const { gateway } = this.#options.identity;
    const source =
      code === icmp.PORT_UNREACHABLE && type === icmp.DESTINATION_UNREACHABLE ? packet.destination3 : gateway;
    if (!this.#open(packet.source3, type, code, rest, octets, nowMs)) return false;
    const { output } = this.#options;
    output.arena.bytes.set(packet.arena.bytes.subarray(ipAt, ipAt + octets), output.at + icmp.HEADER_OCTETS);
    return this.#close(source, packet.source3, octets);
  }

  /** Sends destination unreachable about a packet that is no longer at hand: `quote` is made of it. */
  unreachable(kind: UnreachableKind, guest: number, peer: number, quote: Quote, mtu: number, nowMs: number): boolean {
    const isTooBig = kind === 'too-big';
    // "Port unreachable" is what the host at the far end would say; the others are what a router says.
    const source = kind === 'port' ? peer : this.#options.identity.gateway;
    const octets = ipv4.HEADER_OCTETS + quote.octets;
    const rest = isTooBig ? mtu & 0xffff : 0;
    if (!this.#open(guest, icmp.DESTINATION_UNREACHABLE, codes[kind], rest, octets, nowMs)) return false;
    this.#putMade(guest, peer, isTooBig ? ipv4.DONT_FRAGMENT : 0, 64, quote);
    return this.#close(source, guest, octets);
  }

  /** The same with time exceeded, as from a router further on. */
  timeExceeded(router: number, guest: number, peer: number, quote: Quote, nowMs: number): boolean {
    const octets = ipv4.HEADER_OCTETS + quote.octets;
    if (!this.#open(guest, icmp.TIME_EXCEEDED, icmp.TIME_TO_LIVE_EXCEEDED, 0, octets, nowMs)) return false;
    this.#putMade(guest, peer, 0, 1, quote);
    return this.#close(router, guest, octets);
  }

  /** Writes a packet of the guest's behind an error's header. */
  #putMade(guest: number, peer: number, flags: number, timeToLive: number, quote: Quote): void {
    const { arena, at } = this.#options.output;
    const ipAt = at + icmp.HEADER_OCTETS;
    const total = ipv4.HEADER_OCTETS + quote.length;
    ipv4.emit(arena.view, ipAt, total, 0, flags, timeToLive, quote.protocol, guest, peer);
    quote.copyTo(arena.bytes, ipAt + ipv4.HEADER_OCTETS);
  }

  /** Begins an error with place for `octets` of what it is about. */
  #open(destination: number, type: number, code: number, rest: number, octets: number, nowMs: number): boolean {
    if (!this.#rate.allows(nowMs)) {
      this.#drops.count('icmp-rate');
      return false;
    }
    const neighbor = this.#options.neighbors.resolve(destination);
    if (!neighbor) {
      this.#drops.count('no-neighbour');
      return false;
    }
    const { output } = this.#options;
    if (!output.open(neighbor, icmp.HEADER_OCTETS + octets, false)) return false;
    icmp.emit(output.arena.view, output.at, type, code, rest);
    return true;
  }

  /** Sums and sends it. */
  #close(source: number, destination: number, octets: number): boolean {
    const { output } = this.#options;
    const { arena, at } = output;
    icmp.setChecksum(arena.view, at, checksum.finish(sum(arena, at, icmp.HEADER_OCTETS + octets)));
    return output.close(source, destination, ipv4.PROTOCOL_ICMP);
  }

  #answer(packet: Packet): void {
    const neighbor = this.#options.neighbors.resolve(packet.source3);
    if (!neighbor) {
      this.#drops.count('no-neighbour');
      return;
    }
    const { output } = this.#options;
    const octets = packet.transportOctets;
    if (!output.open(neighbor, octets, false)) return;
    const { payload } = this.#echo;
    payload.clear();
    packet.payload(icmp.HEADER_OCTETS, octets - icmp.HEADER_OCTETS, payload);
    const { arena, at } = output;
    icmp.emitEcho(
      arena.view,
      at,
      icmp.ECHO_REPLY,
      icmp.identifier(packet.view, packet.transportAt),
      icmp.sequence(packet.view, packet.transportAt),
    );
    let into = at + icmp.HEADER_OCTETS;
    for (let i = 0; i < payload.count; i++) {
      const { arena: from, offset, length } = payload.items[i]!;
      arena.bytes.set(from.bytes.subarray(offset, offset + length), into);
      into += length;
    }
    icmp.setChecksum(arena.view, at, checksum.finish(sum(arena, at, octets)));
    output.close(packet.destination3, packet.source3, ipv4.PROTOCOL_ICMP);
  }

  #forward(packet: Packet): void {
    this.#options.forwarder.echo(this.#echo.fill(packet));
  }

  /** A guest, or a router behind it, could not deliver what we sent. */
  #error(packet: Packet): void {
    const { view, transportAt } = packet;
    const quotedAt = transportAt + icmp.HEADER_OCTETS;
    const octets = packet.transportContiguous - icmp.HEADER_OCTETS;
    if (octets < ipv4.HEADER_OCTETS + 8) {
      this.#drops.count('icmp-malformed');
      return;
    }
    const header = ipv4.headerOctets(view, quotedAt);
    if (view.getUint8(quotedAt) >> 4 !== 4 || header < ipv4.HEADER_OCTETS || octets < header + 8) {
      this.#drops.count('icmp-malformed');
      return;
    }
    const protocol = ipv4.protocol(view, quotedAt);
    const sink = protocol === ipv4.PROTOCOL_TCP ? this.tcp : protocol === ipv4.PROTOCOL_UDP ? this.udp : undefined;
    if (!sink) {
      this.#drops.count('icmp-type');
      return;
    }
    const code = icmp.code(view, transportAt);
    const refused = code === icmp.PORT_UNREACHABLE ? 'refused' : 'unreachable';
    sink.icmpError({
      kind: code === icmp.FRAGMENTATION_NEEDED ? 'too-big' : refused,
      view,
      at: quotedAt + header,
      guest: ofIpv4(ipv4.destination(view, quotedAt)),
      peer: ofIpv4(ipv4.source(view, quotedAt)),
      ingress: packet.port.ingress,
      mtu: icmp.nextHopMtu(view, transportAt),
    });
  }
}

const codes: Readonly<Record<UnreachableKind, number>> = {
  network: icmp.NETWORK_UNREACHABLE,
  host: icmp.HOST_UNREACHABLE,
  port: icmp.PORT_UNREACHABLE,
  prohibited: icmp.ADMINISTRATIVELY_PROHIBITED,
  'too-big': icmp.FRAGMENTATION_NEEDED,
};
