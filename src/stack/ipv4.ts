/**
 * IPv4: what may come in, where it goes, and how datagrams leave. RFC 791, RFC 1122 3.2, RFC 1812 5.
 *
 * In: the header is checked, sources that no guest can have are dropped, fragments wait for the rest of theirs, and the
 * packet goes to its transport. The gateway stands for every destination; its own two addresses are local, for the
 * others it is a router and a packet out of hops is answered with time exceeded (5.3.1).
 * Out: `open` gives the place where a transport writes its octets, `close` puts the header before them and sends them,
 * in fragments where the MTU asks for it. TCP, which writes whole frames itself, does not pass here.
 */

import type { Drops } from './drops.ts';
import type { Reassembly } from './fragments.ts';
import type { Identity } from './identity.ts';
import type { Neighbor } from './neighbor-cache.ts';
import type { Packet } from './packet.ts';
import type { Arena } from './port.ts';
import type { SwitchPort } from './switch-port.ts';
import * as ethernet from './wire/ethernet.ts';
import { BAD_CHECKSUM, SOUND } from './wire/fault.ts';
import * as ipv4 from './wire/ipv4.ts';

/** Largest payload of an IPv4 packet without options. */
export const MAX_PAYLOAD_OCTETS = 65535 - ipv4.HEADER_OCTETS;
/** RFC 1700's recommended default. */
export const HOP_LIMIT = 64;

/** Takes what IP carries. */
export interface Transport {
  input(packet: Packet, nowMs: number): void;
}

export interface Ipv4Options {
  readonly identity: Identity;
  readonly drops: Drops;
  readonly reassembly: Reassembly;
  readonly icmp: Transport;
  readonly udp: Transport;
  readonly tcp: Transport;
  /** The packet ran out of hops here. */
  readonly hopsExceeded: (packet: Packet, nowMs: number) => void;
  /** It is the first fragment of one whose others have not come. */
  readonly fragmentsMissing: (packet: Packet, nowMs: number) => void;
  readonly protocolUnreachable: (packet: Packet, nowMs: number) => void;
}

export class Ipv4Input {
  readonly #options: Ipv4Options;
  readonly #identity: Identity;
  readonly #drops: Drops;

  constructor(options: Ipv4Options) {
    this.#options = options;
    this.#identity = options.identity;
    this.#drops = options.drops;
  }

  /** `packet.ipAt` begins a packet of which `octets` are at hand, `packet.contiguous` of them in one piece. */
  input(packet: Packet, octets: number, nowMs: number): void {
    const { view, ipAt: at } = packet;
    const fault = ipv4.check(view, at, octets, packet.contiguous);
    if (fault !== SOUND) {
      this.#drops.count(fault === BAD_CHECKSUM ? 'ipv4-checksum' : 'ipv4-malformed');
      return;
    }
    const source = ipv4.source(view, at);
    const destination = ipv4.destination(view, at);
    const protocol = ipv4.protocol(view, at);
    const broadcast = this.#identity.isBroadcast(destination);
    if (this.#identity.isForeignSource(source)) {
      // A client without an address yet may only ask for one. RFC 2131 4.1.
      if (source !== 0 || !broadcast || protocol !== ipv4.PROTOCOL_UDP) {
        this.#drops.count('ipv4-source');
        return;
      }
    }
    const first = destination >>> 24;
    if (first === 0 || first === 127 || (first >= 224 && !broadcast)) {
      this.#drops.count('ipv4-destination');
      return;
    }
    const total = ipv4.totalLength(view, at);
    const header = ipv4.headerOctets(view, at);
    packet.isIpv6 = false;
    packet.ipOctets = total;
    packet.transportAt = at + header;
    packet.transportOctets = total - header;
    packet.protocol = protocol;
    packet.hopLimit = ipv4.timeToLive(view, at);
    packet.dontFragment = ipv4.dontFragment(view, at);
    packet.source0 = 0;
    packet.source1 = 0;
    packet.source2 = 0xffff;
    packet.source3 = source;
    packet.destination0 = 0;
    packet.destination1 = 0;
    packet.destination2 = 0xffff;
    packet.destination3 = destination;
    if (ipv4.isFragment(view, at)) {
      const identification = ipv4.identification(view, at);
      const begin = ipv4.fragmentOffset(view, at);
      this.#options.reassembly.input(packet, begin, ipv4.moreFragments(view, at), identification, header, nowMs);
      return;
    }
    if (packet.hopLimit <= 1 && !broadcast && !this.#identity.isOwn(destination)) {
      this.#drops.count('ipv4-time-to-live');
      this.#options.hopsExceeded(packet, nowMs);
      return;
    }
    if (protocol === ipv4.PROTOCOL_TCP) {
      if (broadcast) {
        this.#drops.count('ipv4-destination');
        return;
      }
      this.#options.tcp.input(packet, nowMs);
    } else if (protocol === ipv4.PROTOCOL_UDP) this.#options.udp.input(packet, nowMs);
    else if (protocol === ipv4.PROTOCOL_ICMP) {
      if (broadcast) {
        this.#drops.count('ipv4-destination');
        return;
      }
      this.#options.icmp.input(packet, nowMs);
    } else {
      this.#drops.count('ipv4-protocol');
      if (!broadcast) this.#options.protocolUnreachable(packet, nowMs);
    }
  }

  /** `octets` of a packet whose fragments have not all come; `packet` begins with the header of the first. RFC 1122 3.3.2. */
  timedOut(packet: Packet, octets: number, nowMs: number): void {
    const { view, ipAt: at } = packet;
    const header = ipv4.headerOctets(view, at);
    packet.isIpv6 = false;
    packet.ipOctets = octets;
    packet.protocol = ipv4.protocol(view, at);
    packet.transportAt = at + header;
    packet.transportOctets = octets - header;
    packet.source3 = ipv4.source(view, at);
    packet.destination3 = ipv4.destination(view, at);
    this.#options.fragmentsMissing(packet, nowMs);
  }
}

/** Sends IPv4 datagrams of any transport but TCP. */
export class Ipv4Output {
  readonly #identity: Identity;
  readonly #drops: Drops;
  /** Datagrams larger than a frame are written here and cut from here. */
  readonly #whole: Arena;
  #identification: number;
  #port: SwitchPort | undefined = undefined;
  #mac = 0;
  #octets = 0;
  #cut = false;
  /** Where the transport writes. */
  arena: Arena;
  at = 0;

  constructor(identity: Identity, drops: Drops, identification: number) {
    this.#identity = identity;
    this.#drops = drops;
    this.#identification = identification & 0xffff;
    const bytes = new Uint8Array(MAX_PAYLOAD_OCTETS);
    this.#whole = { bytes, view: new DataView(bytes.buffer) };
    this.arena = this.#whole;
  }

  /** Makes place for `octets` of a transport to `to`; false: no room, or it does not fit and may not be cut (counted). */
  open(to: Neighbor, octets: number, dontFragment: boolean): boolean {
    const { port, mac } = to;
    this.#cut = octets + ipv4.HEADER_OCTETS > port.mtu;
    if (octets > MAX_PAYLOAD_OCTETS || (this.#cut && dontFragment)) {
      this.#drops.count('link-mtu');
      return false;
    }
    const frame = ethernet.HEADER_OCTETS + ipv4.HEADER_OCTETS + octets;
    if (this.#cut) {
      this.arena = this.#whole;
      this.at = 0;
    } else {
      if (!port.reserveOrDrop(frame)) return false;
      this.arena = port.arena;
      this.at = port.at + ethernet.HEADER_OCTETS + ipv4.HEADER_OCTETS;
    }
    this.#port = port;
    this.#mac = mac;
    this.#octets = octets;
    return true;
  }

  /** Sends what was written; false: a fragment found no room (counted). */
  close(source: number, destination: number, protocol: number, dontFragment = false, hopLimit = HOP_LIMIT): boolean {
    const port = this.#port!;
    const identification = this.#identification;
    this.#identification = (identification + 1) & 0xffff;
    if (!this.#cut) {
      const flags = dontFragment ? ipv4.DONT_FRAGMENT : 0;
      this.#headers(port, port.at, this.#octets, identification, flags, hopLimit, protocol, source, destination);
      port.commit(ethernet.HEADER_OCTETS + ipv4.HEADER_OCTETS + this.#octets);
      return true;
    }
    const most = (port.mtu - ipv4.HEADER_OCTETS) & ~7;
    for (let done = 0; done < this.#octets; done += most) {
      const octets = Math.min(most, this.#octets - done);
      const frame = ethernet.HEADER_OCTETS + ipv4.HEADER_OCTETS + octets;
      if (!port.reserveOrDrop(frame)) return false;
      const { at } = port;
      const more = done + octets < this.#octets ? ipv4.MORE_FRAGMENTS : 0;
      this.#headers(port, at, octets, identification, more | (done >> 3), hopLimit, protocol, source, destination);
      const payloadAt = at + ethernet.HEADER_OCTETS + ipv4.HEADER_OCTETS;
      port.arena.bytes.set(this.#whole.bytes.subarray(done, done + octets), payloadAt);
      port.commit(frame);
    }
    return true;
  }

  #headers(
    port: SwitchPort,
    at: number,
    octets: number,
    identification: number,
    flags: number,
    hopLimit: number,
    protocol: number,
    source: number,
    destination: number,
  ): void {
    const { view } = port.arena;
    ethernet.emit(view, at, this.#mac, this.#identity.mac, ethernet.TYPE_IPV4);
    const total = ipv4.HEADER_OCTETS + octets;
    ipv4.emit(view, at + ethernet.HEADER_OCTETS, total, identification, flags, hopLimit, protocol, source, destination);
  }
}
