/** Segments that belong to no connection: RFC 9293 3.10.7.1. */

import type { NextHops } from '../next-hops.ts';
import type { Packet } from '../packet.ts';
import { ADDRESS_OCTETS } from '../wire/address.ts';
import * as ethernet from '../wire/ethernet.ts';
import * as tcp from '../wire/tcp.ts';
import { sendReset } from './reset.ts';
import type { Segment } from './segment.ts';
import { seq, seqAdd } from './seq.ts';

export class Refusal {
  readonly #nextHops: NextHops;
  readonly #mac: number;
  readonly #source = new Uint8Array(ADDRESS_OCTETS);
  readonly #destination = new Uint8Array(ADDRESS_OCTETS);

  /** `mac`: ours. */
  constructor(nextHops: NextHops, mac: number) {
    this.#nextHops = nextHops;
    this.#mac = mac;
  }

  /** Sends the RST that whoever sent `s` will believe. */
  refuse(packet: Packet, s: Segment): void {
    const { port } = packet;
    const toMac = this.senderOf(packet);
    if (toMac === undefined) return;
    const path = { port, toMac, fromMac: this.#mac, ports: (s.destinationPort << 16) | s.sourcePort };
    const hasAck = (s.flags & tcp.ACK) !== 0;
    const sequence = hasAck ? s.ack : seq(0);
    const ack = hasAck ? undefined : seqAdd(s.seq, s.length);
    packet.copyDestination(this.#source);
    packet.copySource(this.#destination);
    sendReset({ ...path, source: this.#source, destination: this.#destination }, sequence, ack);
  }

  /** The MAC address to answer a packet to. What was put together from fragments has no Ethernet header. */
  senderOf(packet: Packet): number | undefined {
    if (packet.hasEthernet) return ethernet.source(packet.view, packet.ethernetAt);
    packet.copySource(this.#source);
    return this.#nextHops.resolve(this.#source)?.mac;
  }
}
