/**
 * UDP. RFC 768, RFC 1122 4.1. Datagrams to an address and port that something inside the stack listens to go there
 * (address 0.0.0.0, the unspecified one, stands for all: DHCP's broadcasts), those to the gateway that nobody listens
 * to are answered with port unreachable, the others go to the forwarder.
 */

import type { Drops } from './drops.ts';
import { Fragments } from './fragment-list.ts';
import { sum } from './frame-memory.ts';
import type { Icmp } from './icmp.ts';
import type { Identity } from './identity.ts';
import type { Ipv4Output, Transport } from './ipv4.ts';
import { MAX_PAYLOAD_OCTETS } from './ipv4.ts';
import type { Neighbor, Neighbors } from './neighbor.ts';
import type { Packet } from './packet.ts';
import type { Address, Forwarder, UdpDatagram } from './port.ts';
import { ADDRESS_OCTETS, ipv4Word, setIpv4 } from './wire/address.ts';
import * as checksum from './wire/checksum.ts';
import { SOUND } from './wire/fault.ts';
import * as icmp from './wire/icmp.ts';
import * as ipv4 from './wire/ipv4.ts';
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
}

export interface UdpOptions {
  readonly identity: Identity;
  readonly drops: Drops;
  readonly neighbors: Neighbors;
  readonly output: Ipv4Output;
  readonly icmp: Icmp;
  readonly forwarder: Forwarder;
}

type Receive = (datagram: UdpDatagram) => void;

/** Listeners are few: an address word and a port in one number. */
const listenerKey = (address: number, port: number): number => (address >>> 0) * 65536 + port;

export class Udp implements Transport {
  readonly #options: UdpOptions;
  readonly #drops: Drops;
  readonly #listeners = new Map<number, Receive>();
  readonly #datagram = new Datagram();
  /** The packet that `#datagram` is made of, during the call that hands it over. */
  #current: Packet | undefined = undefined;

  constructor(options: UdpOptions) {
    this.#options = options;
    this.#drops = options.drops;
  }

  listen(address: Address, port: number, receive: Receive): void {
    const key = listenerKey(ipv4Word(address), port);
    if (this.#listeners.has(key)) throw Object.assign(new Error(`UDP port ${port} is taken`), { code: 'EADDRINUSE' });
    this.#listeners.set(key, receive);
  }

  unlisten(address: Address, port: number): void {
    this.#listeners.delete(listenerKey(ipv4Word(address), port));
  }

  input(packet: Packet, nowMs: number): void {
    const { view, transportAt: at } = packet;
    if (packet.transportContiguous < udp.HEADER_OCTETS || udp.check(view, at, packet.transportOctets) !== SOUND) {
      this.#drops.count('udp-malformed');
      return;
    }
    const length = udp.length(view, at);
    packet.transportOctets = length;
    // A checksum of 0: the sender did not sum. RFC 768.
    if (udp.checksum(view, at) !== 0 && !packet.checksumVerified) {
      const pseudo = checksum.pseudoHeaderSum(packet.source3, packet.destination3, ipv4.PROTOCOL_UDP, length);
      if (checksum.fold(pseudo + packet.transportSum()) !== 0xffff) {
        this.#drops.count('udp-checksum');
        return;
      }
    }
    const port = udp.destinationPort(view, at);
    const destination = packet.destination3;
    const listener = this.#listeners.get(listenerKey(destination, port)) ?? this.#listeners.get(listenerKey(0, port));
    const { identity, forwarder } = this.#options;
    if (!listener) {
      if (identity.isBroadcast(destination) || packet.source3 === 0) {
        this.#drops.count('udp-no-listener');
        return;
      }
      if (destination === identity.gateway) {
        this.#drops.count('udp-no-listener');
        this.#options.icmp.errorAbout(packet, icmp.DESTINATION_UNREACHABLE, icmp.PORT_UNREACHABLE, 0, nowMs);
        return;
      }
    }
    const datagram = this.#datagram;
    setIpv4(datagram.guestAddress, packet.source3);
    setIpv4(datagram.peerAddress, destination);
    datagram.guestPort = udp.sourcePort(view, at);
    datagram.peerPort = port;
    datagram.ingress = packet.port.ingress;
    datagram.dontFragment = packet.dontFragment;
    datagram.hopLimit = packet.hopLimit;
    datagram.payload.clear();
    packet.payload(udp.HEADER_OCTETS, length - udp.HEADER_OCTETS, datagram.payload);
    this.#current = packet;
    if (listener) listener(datagram);
    else forwarder.udp(datagram);
    this.#current = undefined;
  }

  /** The packet that `about` is made of, if it is the datagram being handed over now. */
  packetOf(about: unknown): Packet | undefined {
    return about === this.#datagram ? this.#current : undefined;
  }

  /** Sends a datagram to `to`, or to whom the neighbours say. */
  send(guest: number, guestPort: number, peer: number, peerPort: number, payload: Uint8Array, to?: Neighbor): boolean {
    const neighbor = to ?? this.#options.neighbors.resolve(guest);
    if (!neighbor) {
      this.#drops.count('no-neighbour');
      return false;
    }
    const { output } = this.#options;
    const octets = udp.HEADER_OCTETS + payload.length;
    if (octets > MAX_PAYLOAD_OCTETS) {
      this.#drops.count('link-mtu');
      return false;
    }
    if (!output.open(neighbor, octets, false)) return false;
    const { arena, at } = output;
    udp.emit(arena.view, at, peerPort, guestPort, octets);
    arena.bytes.set(payload, at + udp.HEADER_OCTETS);
    const partial = sum(arena, at, octets) + checksum.pseudoHeaderSum(peer, guest, ipv4.PROTOCOL_UDP, octets);
    udp.setChecksum(arena.view, at, checksum.finish(partial));
    return output.close(peer, guest, ipv4.PROTOCOL_UDP);
  }
}
