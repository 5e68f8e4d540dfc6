/**
 * IPv6 in: what may come, and where it goes. RFC 8200, RFC 4291 (addresses), RFC 7112, 6946 and 5722 (fragments).
 *
 * The header is checked, sources that no guest can have are dropped, extension headers are passed over or answered with
 * parameter problem, fragments wait for the rest of theirs, and the packet goes to its transport. The gateway stands
 * for every destination; its own addresses are local, for the others it is a router, and a packet out of hops is
 * answered with time exceeded (3). How packets leave: ipv6-output.ts. A link that carries less than 1280 octets has no
 * IPv6 (5).
 */

import type { Drops } from './drops.ts';
import type { Reassembly } from './fragments.ts';
import type { Icmpv6 } from './icmpv6.ts';
import type { Transport } from './ipv4.ts';
import { type Ipv6Identity, isLinkLocal, isMulticast } from './ipv6-identity.ts';
import { isUnspecified, type Ndp } from './ndp.ts';
import type { Packet } from './packet.ts';
import { SOUND } from './wire/fault.ts';
import * as icmpv6 from './wire/icmpv6.ts';
import * as ipv4 from './wire/ipv4.ts';
import * as ipv6 from './wire/ipv6.ts';
import * as extension from './wire/ipv6-extension.ts';
import * as tcp from './wire/tcp.ts';

/** RFC 4443 3.1: the source's scope does not reach the destination. */
const BEYOND_SCOPE = 2;
const MOST_PAYLOAD_OCTETS = 65535;

export interface Ipv6InputOptions {
  readonly ipv6: Ipv6Identity;
  readonly drops: Drops;
  readonly ndp: Ndp;
  readonly reassembly: Reassembly;
  readonly icmpv6: Icmpv6;
  readonly udp: Transport;
  readonly tcp: Transport;
}

export class Ipv6Input {
  readonly #options: Ipv6InputOptions;
  readonly #ipv6: Ipv6Identity;
  readonly #drops: Drops;
  readonly #chain = new extension.Chain();

  constructor(options: Ipv6InputOptions) {
    this.#options = options;
    this.#ipv6 = options.ipv6;
    this.#drops = options.drops;
  }

  /** `packet.ipAt` begins a packet of which `octets` are at hand, `packet.contiguous` of them in one piece. */
  input(packet: Packet, octets: number, nowMs: number): void {
    const { view, ipAt: at } = packet;
    if (packet.port.mtu < ipv6.MINIMUM_MTU || ipv6.check(view, at, octets, packet.contiguous) !== SOUND) {
      this.#drops.count('ipv6-malformed');
      return;
    }
    this.#read(packet);
    const { source0, destination0, destination1, destination2, destination3 } = packet;
    if (this.#ipv6.isForeignSource(source0, packet.source1, packet.source2, packet.source3)) {
      this.#drops.count('ipv6-source');
      return;
    }
    const multicast = isMulticast(destination0);
    const own = !multicast && this.#ipv6.isOwnOf(packet);
    const heard = multicast && this.#ipv6.hears(destination0, destination1, destination2, destination3);
    if (multicast ? !heard : !own && isNowhere(packet)) {
      this.#drops.count('ipv6-destination');
      return;
    }
    // From here on answers are due, and have to find the way back.
    if (packet.hasEthernet && !isUnspecified(packet)) this.#options.ndp.observe(packet);
    if (extension.isExtension(packet.protocol) && !this.#extensions(packet, nowMs)) return;
    if (!own && !multicast) {
      if (isLinkLocal(source0)) {
        this.#drops.count('ipv6-destination');
        this.#error(packet, icmpv6.DESTINATION_UNREACHABLE, BEYOND_SCOPE, 0, nowMs);
        return;
      }
      if (packet.hopLimit <= 1) {
        this.#drops.count('ipv6-hop-limit');
        this.#error(packet, icmpv6.TIME_EXCEEDED, icmpv6.HOP_LIMIT_EXCEEDED, 0, nowMs);
        return;
      }
    }
    this.#transport(packet, multicast, nowMs);
  }

  /** The first fragment of a packet whose others have not come; `packet` begins with its header. RFC 8200 4.5. */
  timedOut(packet: Packet, nowMs: number): void {
    this.#read(packet);
    this.#error(packet, icmpv6.TIME_EXCEEDED, icmpv6.REASSEMBLY_TIME_EXCEEDED, 0, nowMs);
  }

  #read(packet: Packet): void {
    const { view, ipAt: at } = packet;
    packet.isIpv6 = true;
    packet.transportOctets = ipv6.payloadLength(view, at);
    packet.ipOctets = ipv6.HEADER_OCTETS + packet.transportOctets;
    packet.transportAt = at + ipv6.HEADER_OCTETS;
    packet.protocol = ipv6.nextHeader(view, at);
    packet.hopLimit = ipv6.hopLimit(view, at);
    // Nobody but the source may cut. What it has cut itself may be cut again.
    packet.dontFragment = packet.hasEthernet;
    packet.source0 = ipv6.sourceWord(view, at, 0);
    packet.source1 = ipv6.sourceWord(view, at, 1);
    packet.source2 = ipv6.sourceWord(view, at, 2);
    packet.source3 = ipv6.sourceWord(view, at, 3);
    packet.destination0 = ipv6.destinationWord(view, at, 0);
    packet.destination1 = ipv6.destinationWord(view, at, 1);
    packet.destination2 = ipv6.destinationWord(view, at, 2);
    packet.destination3 = ipv6.destinationWord(view, at, 3);
    this.#chain.protocolAt = -1;
  }

  /** Passes over the extension headers; false: the packet goes no further. */
  #extensions(packet: Packet, nowMs: number): boolean {
    const { view, transportAt: begin, transportOctets: octets } = packet;
    const chain = this.#chain;
    const first = packet.protocol;
    const finding = chain.walk(view, begin, first, Math.min(octets, packet.transportContiguous));
    packet.protocol = chain.protocol;
    packet.transportAt = begin + chain.octets;
    packet.transportOctets = octets - chain.octets;
    if (finding !== extension.SOUND) {
      this.#drops.count('ipv6-header');
      if (finding === extension.DISCARD) return false;
      if (finding === extension.PROBLEM_UNLESS_MULTICAST && isMulticast(packet.destination0)) return false;
      const pointer = chain.code === extension.INCOMPLETE_CHAIN ? 0 : ipv6.HEADER_OCTETS + chain.pointer;
      this.#error(packet, icmpv6.PARAMETER_PROBLEM, chain.code, pointer, nowMs);
      return false;
    }
    if (chain.fragmentAt < 0) return true;
    const at = begin + chain.fragmentAt;
    const offset = extension.fragmentOffset(view, at);
    const more = extension.moreFragments(view, at);
    // RFC 6946: one that is all of its packet is no fragment.
    if (offset === 0 && !more) return true;
    this.#fragment(packet, at, offset, more, nowMs);
    return false;
  }

  #fragment(packet: Packet, at: number, offset: number, more: boolean, nowMs: number): void {
    const { view, ipAt } = packet;
    // RFC 7112: the first fragment has all headers.
    if (offset === 0 && packet.transportOctets < leastOctets(packet.protocol)) {
      this.#drops.count('fragment-malformed');
      this.#error(packet, icmpv6.PARAMETER_PROBLEM, extension.INCOMPLETE_CHAIN, 0, nowMs);
      return;
    }
    const payloadAt = at + extension.FRAGMENT_OCTETS;
    packet.transportOctets += packet.transportAt - payloadAt;
    packet.transportAt = payloadAt;
    packet.protocol = view.getUint8(at + extension.NEXT_HEADER);
    const octets = packet.transportOctets;
    const isOdd = more && (octets & 7) !== 0;
    const header = at - ipAt;
    if (isOdd || header - ipv6.HEADER_OCTETS + offset + octets > MOST_PAYLOAD_OCTETS) {
      this.#drops.count('fragment-malformed');
      const pointer = isOdd ? ipv6.PAYLOAD_LENGTH : header + 2;
      this.#error(packet, icmpv6.PARAMETER_PROBLEM, extension.ERRONEOUS_FIELD, pointer, nowMs);
      return;
    }
    this.#options.reassembly.input(packet, offset, more, extension.identification(view, at), header, nowMs);
  }

  #transport(packet: Packet, multicast: boolean, nowMs: number): void {
    const { protocol } = packet;
    if (protocol === ipv6.PROTOCOL_ICMPV6) this.#options.icmpv6.input(packet, nowMs);
    else if (isUnspecified(packet)) this.#drops.count('ipv6-source');
    else if (protocol === ipv4.PROTOCOL_TCP) {
      if (multicast) this.#drops.count('ipv6-destination');
      else this.#options.tcp.input(packet, nowMs);
    } else if (protocol === ipv4.PROTOCOL_UDP) this.#options.udp.input(packet, nowMs);
    else {
      this.#drops.count('ipv6-protocol');
      if (protocol === ipv6.NO_NEXT_HEADER) return;
      const { protocolAt } = this.#chain;
      const pointer = protocolAt < 0 ? ipv6.NEXT_HEADER : ipv6.HEADER_OCTETS + protocolAt;
      this.#error(packet, icmpv6.PARAMETER_PROBLEM, extension.UNRECOGNIZED_NEXT_HEADER, pointer, nowMs);
    }
  }

  #error(packet: Packet, type: number, code: number, rest: number, nowMs: number): void {
    this.#options.icmpv6.errorAbout(packet, type, code, rest, nowMs);
  }
}

/** Of a transport's header. */
function leastOctets(protocol: number): number {
  if (protocol === ipv4.PROTOCOL_TCP) return tcp.HEADER_OCTETS;
  return protocol === ipv4.PROTOCOL_UDP || protocol === ipv6.PROTOCOL_ICMPV6 ? 8 : 0;
}

/** Link-local and not ours, unspecified, the loopback, and IPv4 in its mapped and compatible forms. RFC 4291 2.5. */
function isNowhere(packet: Packet): boolean {
  const { destination0, destination1, destination2 } = packet;
  if (isLinkLocal(destination0)) return true;
  return destination0 === 0 && destination1 === 0 && (destination2 === 0 || destination2 === 0xffff);
}
