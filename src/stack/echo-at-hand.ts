/** The echo request at hand, of either family: one record per stack, filled for each. Nobody keeps it. */

import { Fragments } from './fragment-list.ts';
import type { Packet } from './packet.ts';
import type { EchoRequest } from './port.ts';
import { ADDRESS_OCTETS } from './wire/address.ts';
import * as icmp from './wire/icmp.ts';

export class EchoAtHand implements EchoRequest {
  readonly guestAddress = new Uint8Array(ADDRESS_OCTETS);
  readonly peerAddress = new Uint8Array(ADDRESS_OCTETS);
  readonly guestPort = 0;
  readonly peerPort = 0;
  ingress = 0;
  identifier = 0;
  sequence = 0;
  hopLimit = 0;
  readonly payload = new Fragments();

  /** What `packet` asks. The header is the same in both: RFC 792, RFC 4443 4.1. */
  fill(packet: Packet): this {
    packet.copySource(this.guestAddress);
    packet.copyDestination(this.peerAddress);
    this.ingress = packet.port.ingress;
    this.identifier = icmp.identifier(packet.view, packet.transportAt);
    this.sequence = icmp.sequence(packet.view, packet.transportAt);
    this.hopLimit = packet.hopLimit;
    this.payload.clear();
    packet.payload(icmp.HEADER_OCTETS, packet.transportOctets - icmp.HEADER_OCTETS, this.payload);
    return this;
  }
}
