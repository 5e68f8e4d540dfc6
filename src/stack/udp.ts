/**
 * UDP. RFC 768, RFC 1122 4.1. Datagrams to an address and port that something inside the stack listens to go there
 * (address 0.0.0.0, the unspecified one, stands for all: DHCP's broadcasts), those to the gateway that nobody listens
 * to are answered with port unreachable, the others go to the forwarder.
 */

import type { Drops } from './drops.ts';
import { Fragments } from './fragment-list.ts';
import { sum } from './frame-memory.ts';
import type { ErrorSink, Icmp, TransportError } from './icmp.ts';
import type { Icmpv6 } from './icmpv6.ts';
import type { Identity } from './identity.ts';
import { type Ipv4Output, MAX_PAYLOAD_OCTETS, type Transport } from './ipv4.ts';
import { isMulticast } from './ipv6-identity.ts';
import { type Ipv6Output, pseudoHeaderSum } from './ipv6-output.ts';
import { Listeners } from './listeners.ts';
import type { Neighbor } from './neighbor-cache.ts';
import type { NextHops } from './next-hops.ts';
import type { Packet } from './packet.ts';
import type { Address, Forwarder, UdpDatagram } from './port.ts';
import { ADDRESS_OCTETS, ipv4Word, isIpv4 } from './wire/address.ts';
import * as checksum from './wire/checksum.ts';
import * as ethernet from './wire/ethernet.ts';
import { SOUND } from './wire/fault.ts';
import * as icmp from './wire/icmp.ts';
import * as icmpv6 from './wire/icmpv6.ts';
import * as ipv4 from './wire/ipv4.ts';
import * as ipv6 from './wire/ipv6.ts';
import * as udp from './wire/udp.ts';

class Datagram implements UdpDatagram {
  readonly guestAddress = new Uint8Array(ADDRESS_OCTETS);
  readonly peerAddress = new Uint8Array(ADDRESS_OCTETS);
  guestPort = 0;
  peerPort = 0;
  ingress = 0;
  dontFragment = false;
  hopLimit = 0;
  readonly payload = new Fragments();
  /** What it is made of, during the call that hands it over. */
  packet: Packet | undefined = undefined;

  get sourceMac(): number | undefined {
    const { packet } = this;
    return packet?.hasEthernet ? ethernet.source(packet.view, packet.ethernetAt) : undefined;
  }
}

export interface UdpOptions {
  readonly identity: Identity;
  readonly drops: Drops;
  readonly nextHops: NextHops;
  readonly output: Ipv4Output;
  readonly icmp: Icmp;
  /** Undefined: there is no IPv6. */
  readonly ipv6: { readonly output: Ipv6Output; readonly icmpv6: Icmpv6 } | undefined;
  readonly forwarder: Forwarder;
}

interface Listener {
  readonly receive: (datagram: UdpDatagram) => void;
  readonly refused: ((guest: Address, guestPort: number) => void) | undefined;
}

export class Udp implements Transport, ErrorSink {
  readonly #options: UdpOptions;
  readonly #drops: Drops;
  readonly #listeners = new Listeners<Listener>('UDP');
  readonly #datagram = new Datagram();

  constructor(options: UdpOptions) {
    this.#options = options;
    this.#drops = options.drops;
  }

  listen(address: Address, port: number, receive: Listener['receive'], refused?: Listener['refused']): void {
    this.#listeners.add(address, port, { receive, refused });
  }

  unlisten(address: Address, port: number): void {
    this.#listeners.delete(address, port);
  }

  input(packet: Packet, nowMs: number): void {
    const { view, transportAt: at } = packet;
    if (packet.transportContiguous < udp.HEADER_OCTETS || udp.check(view, at, packet.transportOctets) !== SOUND) {
      this.#drops.count('udp-malformed');
      return;
    }
    const length = udp.length(view, at);
    packet.transportOctets = length;
    // A checksum of 0: the sender did not sum (RFC 768), which IPv6 does not allow (RFC 8200 8.1).
    if ((udp.checksum(view, at) !== 0 || packet.isIpv6) && !packet.checksumVerified) {
      const pseudo = packet.isIpv6
        ? ipv6.pseudoHeaderSum(view, packet.ipAt, ipv4.PROTOCOL_UDP, length)
        : checksum.pseudoHeaderSum(packet.source3, packet.destination3, ipv4.PROTOCOL_UDP, length);
      if (checksum.fold(pseudo + packet.transportSum()) !== 0xffff) {
        this.#drops.count('udp-checksum');
        return;
      }
    }
    const port = udp.destinationPort(view, at);
    const listener = this.#listeners.of(packet, port);
    const { forwarder } = this.#options;
    if (!listener && !this.#goesOn(packet, nowMs)) {
      this.#drops.count('udp-no-listener');
      return;
    }
    const datagram = this.#datagram;
    packet.copySource(datagram.guestAddress);
    packet.copyDestination(datagram.peerAddress);
    datagram.guestPort = udp.sourcePort(view, at);
    datagram.peerPort = port;
    datagram.ingress = packet.port.ingress;
    datagram.dontFragment = packet.dontFragment;
    datagram.hopLimit = packet.hopLimit;
    datagram.payload.clear();
    packet.payload(udp.HEADER_OCTETS, length - udp.HEADER_OCTETS, datagram.payload);
    datagram.packet = packet;
    if (listener) listener.receive(datagram);
    else forwarder.udp(datagram);
    datagram.packet = undefined;
  }

  /** The guest cannot deliver what we sent: whoever sent it is told. RFC 1122 4.1.3.3. */
  icmpError({ kind, view, at, guest, peer }: TransportError): void {
    const listener = this.#listeners.at(peer, udp.sourcePort(view, at));
    if (kind === 'too-big' || !listener?.refused) this.#drops.count('icmp-type');
    else listener.refused(guest, udp.destinationPort(view, at));
  }

  /** The packet that `about` is made of, if it is the datagram being handed over now. */
  packetOf(about: unknown): Packet | undefined {
    return about === this.#datagram ? this.#datagram.packet : undefined;
  }

  /** Sends a datagram to `to`, or to whom the neighbours say: where nobody is known it waits for whom they ask for. */
  send(
    guest: Address,
    guestPort: number,
    peer: Address,
    peerPort: number,
    payload: Uint8Array,
    to?: Neighbor,
  ): boolean {
    const neighbor = to ?? this.#options.nextHops.resolve(guest);
    if (!neighbor) {
      const [to, from, octets] = [guest.slice(), peer.slice(), payload.slice()];
      this.#options.nextHops.ask(to, () => this.send(to, guestPort, from, peerPort, octets));
      return false;
    }
    const is4 = isIpv4(guest);
    if (isIpv4(peer) !== is4) {
      this.#drops.count('address-family');
      return false;
    }
    if (!is4) return this.#sendIpv6(guest, guestPort, peer, peerPort, payload, neighbor);
    const { output } = this.#options;
    const octets = udp.HEADER_OCTETS + payload.length;
    const guestWord = ipv4Word(guest);
    const peerWord = ipv4Word(peer);
    if (octets > MAX_PAYLOAD_OCTETS) {
      this.#drops.count('link-mtu');
      return false;
    }
    if (!output.open(neighbor, octets, false)) return false;
    const { arena, at } = output;
    udp.emit(arena.view, at, peerPort, guestPort, octets);
    arena.bytes.set(payload, at + udp.HEADER_OCTETS);
    const partial = sum(arena, at, octets) + checksum.pseudoHeaderSum(peerWord, guestWord, ipv4.PROTOCOL_UDP, octets);
    udp.setChecksum(arena.view, at, checksum.finish(partial));
    return output.close(peerWord, guestWord, ipv4.PROTOCOL_UDP);
  }

  #sendIpv6(
    guest: Address,
    guestPort: number,
    peer: Address,
    peerPort: number,
    payload: Uint8Array,
    neighbor: Neighbor,
  ): boolean {
    const output = this.#options.ipv6?.output;
    const octets = udp.HEADER_OCTETS + payload.length;
    if (!output?.open(neighbor, guest, octets)) return false;
    const { arena, at } = output;
    udp.emit(arena.view, at, peerPort, guestPort, octets);
    arena.bytes.set(payload, at + udp.HEADER_OCTETS);
    const partial = sum(arena, at, octets) + pseudoHeaderSum(peer, guest, ipv4.PROTOCOL_UDP, octets);
    udp.setChecksum(arena.view, at, checksum.finish(partial));
    return output.close(peer, guest, ipv4.PROTOCOL_UDP);
  }

  /** Whether a datagram that nobody listens to is the forwarder's; one to the gateway is answered with an error. */
  #goesOn(packet: Packet, nowMs: number): boolean {
    const { identity } = this.#options;
    if (packet.isIpv6) {
      if (isMulticast(packet.destination0)) return false;
      if (!identity.ipv6!.isGatewayOf(packet)) return true;
      const { icmpv6: errors } = this.#options.ipv6!;
      errors.errorAbout(packet, icmpv6.DESTINATION_UNREACHABLE, icmpv6.PORT_UNREACHABLE, 0, nowMs);
      return false;
    }
    const { destination3, source3 } = packet;
    if (identity.isBroadcast(destination3) || source3 === 0) return false;
    if (destination3 !== identity.gateway) return true;
    this.#options.icmp.errorAbout(packet, icmp.DESTINATION_UNREACHABLE, icmp.PORT_UNREACHABLE, 0, nowMs);
    return false;
  }
}
