/**
 * Makes connections: what a new one has from the limits, from its tuple (RFC 6528, RFC 7323 5.4), from the port that its
 * guest is behind and, where the guest opens it, from the SYN.
 */

import type { Packet } from '../packet.ts';
import type { Address } from '../port.ts';
import type { SwitchPort } from '../switch-port.ts';
import { ADDRESS_OCTETS, ipv4Word, isIpv4, word } from '../wire/address.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import * as tcp from '../wire/tcp.ts';
import { Connection, type ConnectionContext } from './connection.ts';
import type { TcpLimits } from './limits.ts';
import type { Segment } from './segment.ts';
import { readSynOptions } from './segment-arrives.ts';
import { prepare } from './segment-writer.ts';
import { type Seq, seqAdd, seqLeq } from './seq.ts';
import type { Tuples } from './tuples.ts';

/** IP and TCP without options. */
export const headersOctets = (isIpv6: boolean): number =>
  (isIpv6 ? ipv6.HEADER_OCTETS : ipv4.HEADER_OCTETS) + tcp.HEADER_OCTETS;

export class ConnectionMaker {
  readonly #context: ConnectionContext;
  readonly #limits: TcpLimits;
  readonly #tuples: Tuples;
  /** Our MAC address. */
  readonly #mac: number;

  constructor(context: ConnectionContext, limits: TcpLimits, tuples: Tuples, mac: number) {
    this.#context = context;
    this.#limits = limits;
    this.#tuples = tuples;
    this.#mac = mac;
  }

  /** One that we open; it is not placed yet. */
  toOpen(guest: Address, guestPort: number, peer: Address, peerPort: number): Connection {
    const c = this.#make(guest.slice(), guestPort, peer.slice(), peerPort, 0);
    c.active = true;
    c.state = 'SYN-SENT';
    return c;
  }

  /** One that the guest at `mac` opens by the SYN `s`. `after`: the last number of a connection that had the tuple before. */
  ofSyn(packet: Packet, s: Segment, mac: number, after?: Seq): Connection {
    const guest = new Uint8Array(ADDRESS_OCTETS);
    const peer = new Uint8Array(ADDRESS_OCTETS);
    packet.copySource(guest);
    packet.copyDestination(peer);
    const c = this.#make(guest, s.sourcePort, peer, s.destinationPort, packet.port.ingress);
    this.place(c, packet.port, mac);
    // Beyond everything that the old connection sent: RFC 1122 4.2.2.13.
    if (after !== undefined && seqLeq(c.iss, after)) this.#begin(c, seqAdd(after, 65537));
    c.irs = s.seq;
    c.rcvNxt = seqAdd(s.seq, 1);
    c.rcvAdv = c.rcvNxt;
    c.rcvAcked = s.seq;
    readSynOptions(c, s, this.#context.nowMs);
    // Unscaled: RFC 7323 2.2. For how much may be sent once the handshake is through.
    c.sndWnd = s.window;
    c.state = 'SYN-RECEIVED';
    c.held = true;
    return c;
  }

  /** The guest is known to be behind `port` at `mac`. */
  place(c: Connection, port: SwitchPort, mac: number): void {
    c.port = port;
    c.ingress = port.ingress;
    c.rcvMss = port.mtu - headersOctets(c.ipv6Words !== undefined);
    c.sndMss = Math.min(c.sndMss, c.rcvMss);
    prepare(c, mac, this.#mac);
    c.tsOffset = this.#tuples.timestampOffset(c);
    this.#begin(c, this.#tuples.initialSequence(c, this.#context.nowMs));
  }

  #make(guest: Address, guestPort: number, peer: Address, peerPort: number, ingress: number): Connection {
    const limits = this.#limits;
    const c = new Connection(this.#context, limits.sendQueueOctets, guest, guestPort, peer, peerPort, ingress);
    c.queueMost = limits.sendQueueMostOctets;
    c.rcvLimit = limits.receiveWindowOctets;
    while (limits.receiveWindowOctets >> c.rcvWndShift > 0xffff) c.rcvWndShift++;
    c.timestamps = limits.timestamps;
    c.sackPermitted = limits.sack;
    if (isIpv4(guest)) {
      c.guestWord = ipv4Word(guest);
      c.peerWord = ipv4Word(peer);
    } else c.ipv6Words = Int32Array.from({ length: 8 }, (_, i) => word(i < 4 ? peer : guest, i & 3));
    c.portsWord = (peerPort << 16) | guestPort;
    c.identification = this.#tuples.random() & 0xffff;
    return c;
  }

  #begin(c: Connection, iss: Seq): void {
    c.iss = iss;
    c.sndUna = iss;
    c.sndNxt = iss;
    c.flight.start(iss);
  }
}
