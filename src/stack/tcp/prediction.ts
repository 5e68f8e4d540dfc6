/**
 * Frames come in runs: what follows a segment is mostly the next one of the same connection, and its headers differ in
 * a few words only. Van Jacobson's header prediction, begun at the Ethernet header: a frame whose other words are those
 * of a frame that has passed every check has passed them too, and its connection is known. What is left is its length,
 * both checksums and TCP itself.
 *
 * One prediction per endpoint, made anew whenever a frame went the whole way. It holds while the connection is
 * ESTABLISHED and its guest is where it was. IPv6 alike: it has no checksum, but longer addresses.
 */

import type { FrameBatch } from '../frame-batch.ts';
import { Packet } from '../packet.ts';
import type { SwitchPort } from '../switch-port.ts';
import { fold, pseudoHeaderSum } from '../wire/checksum.ts';
import { DOUBLE_ZERO } from '../wire/double.ts';
import * as ethernet from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import * as tcp from '../wire/tcp.ts';
import type { Connection } from './connection.ts';

const IP_AT = ethernet.HEADER_OCTETS;
const TCP_AT = IP_AT + ipv4.HEADER_OCTETS;
const LEAST_OCTETS = TCP_AT + tcp.HEADER_OCTETS;
const IPV6_TCP_AT = IP_AT + ipv6.HEADER_OCTETS;
const LEAST_IPV6_OCTETS = IPV6_TCP_AT + tcp.HEADER_OCTETS;
/** Ethernet's type for IPv4, version 4 and a header of five words, before the type of service. */
const PLAIN_IPV4 = 0x0800_45;

const halves = (word: number): number => (word >>> 16) + (word & 0xffff);

export class Prediction {
  /** What `matches` fills. */
  readonly packet = new Packet();
  connection: Connection | undefined = undefined;
  #port: SwitchPort | undefined = undefined;
  #address = 0;
  #mac = DOUBLE_ZERO;
  /** Ethernet's addresses; its type with the first two octets of the IP header. */
  #word0 = 0;
  #word4 = 0;
  #word8 = 0;
  #word12 = 0;
  #flagsFragment = 0;
  #hopsProtocol = 0;
  #source = 0;
  #destination = 0;
  #ports = 0;
  /** Of the IP header's words that stay; and of the pseudo-header without the length. */
  #ipSum = 0;
  #pseudoSum = 0;
  /** Of IPv6: the rest of the flow label, and the words from the next header to the last of both addresses. */
  #isIpv6 = false;
  #flow = 0;
  readonly #ipv6Words = new Int32Array(9);
  #learnings = 0;

  /** `packet` has passed every check and belongs to `connection`. */
  learn(packet: Packet, connection: Connection): void {
    const { view, ethernetAt: at, port } = packet;
    this.connection = undefined;
    if (packet.isIpv6) {
      this.#learnIpv6(packet, connection);
      return;
    }
    if (!packet.hasEthernet || packet.contiguous < LEAST_OCTETS - IP_AT) return;
    const word12 = view.getInt32(at + ethernet.TYPE);
    if (word12 >>> 8 !== PLAIN_IPV4) return;
    this.connection = connection;
    this.#isIpv6 = false;
    this.packet.isIpv6 = false;
    this.#port = port;
    this.#address = port.learntAddress;
    this.#mac = port.learntMac;
    this.#word0 = view.getInt32(at);
    this.#word4 = view.getInt32(at + 4);
    this.#word8 = view.getInt32(at + 8);
    this.#word12 = word12;
    this.#flagsFragment = view.getUint16(at + IP_AT + ipv4.FLAGS_FRAGMENT);
    this.#hopsProtocol = view.getUint16(at + IP_AT + ipv4.TIME_TO_LIVE);
    this.#source = view.getInt32(at + IP_AT + ipv4.SOURCE);
    this.#destination = view.getInt32(at + IP_AT + ipv4.DESTINATION);
    this.#ports = view.getInt32(at + TCP_AT);
    this.#pseudoSum = pseudoHeaderSum(this.#source, this.#destination, ipv4.PROTOCOL_TCP, 0);
    this.#ipSum =
      (word12 & 0xffff) + this.#flagsFragment + this.#hopsProtocol + halves(this.#source) + halves(this.#destination);
  }

  /** Whether frame `index` goes the same way; then `packet` describes it, but for its addresses. Its TCP header is still to be checked. */
  matches(port: SwitchPort, batch: FrameBatch, index: number): boolean {
    const { connection } = this;
    if (connection === undefined || connection.state !== 'ESTABLISHED' || port !== this.#port) return false;
    if (this.#isIpv6) return this.#matchesIpv6(port, batch, index);
    const fragment = batch.first[index]!;
    const contiguous = batch.length[fragment]!;
    if (contiguous < LEAST_OCTETS) return false;
    const arena = batch.arena[fragment]!;
    const { view } = arena;
    const at = batch.offset[fragment]!;
    if (
      view.getInt32(at + TCP_AT) !== this.#ports ||
      view.getInt32(at + 8) !== this.#word8 ||
      view.getInt32(at + 12) !== this.#word12 ||
      view.getInt32(at + 4) !== this.#word4 ||
      view.getInt32(at) !== this.#word0 ||
      view.getInt32(at + IP_AT + ipv4.SOURCE) !== this.#source ||
      view.getInt32(at + IP_AT + ipv4.DESTINATION) !== this.#destination
    )
      return false;
    const identification = view.getInt32(at + IP_AT + ipv4.IDENTIFICATION);
    const hopsChecksum = view.getInt32(at + IP_AT + ipv4.TIME_TO_LIVE);
    if ((identification & 0xffff) !== this.#flagsFragment || hopsChecksum >>> 16 !== this.#hopsProtocol) return false;
    if (port.learntAddress !== this.#address || port.learntMac !== this.#mac) return false;
    const total = view.getUint16(at + IP_AT + ipv4.TOTAL_LENGTH);
    if (total < LEAST_OCTETS - IP_AT || total > batch.octets[index]! - IP_AT) return false;
    if (fold(this.#ipSum + total + (identification >>> 16) + (hopsChecksum & 0xffff)) !== 0xffff) return false;
    const packet = this.packet;
    packet.port = port;
    packet.batch = batch;
    packet.frame = index;
    packet.arena = arena;
    packet.view = view;
    packet.ethernetAt = at;
    packet.ipAt = at + IP_AT;
    packet.contiguous = contiguous - IP_AT;
    packet.transportAt = at + TCP_AT;
    packet.ipOctets = total;
    packet.transportOctets = total - ipv4.HEADER_OCTETS;
    return true;
  }

  #learnIpv6(packet: Packet, connection: Connection): void {
    const { view, ethernetAt: at, port } = packet;
    // No extension headers.
    if (!packet.hasEthernet || packet.transportAt !== at + IPV6_TCP_AT) return;
    this.connection = connection;
    this.#isIpv6 = true;
    this.packet.isIpv6 = true;
    this.#port = port;
    this.#learnings = port.ipv6Learnings;
    this.#word0 = view.getInt32(at);
    this.#word4 = view.getInt32(at + 4);
    this.#word8 = view.getInt32(at + 8);
    this.#word12 = view.getInt32(at + 12);
    this.#flow = view.getUint16(at + IP_AT + 2);
    for (let i = 0; i < 9; i++) this.#ipv6Words[i] = view.getInt32(at + IP_AT + ipv6.NEXT_HEADER + 4 * i);
    this.#ports = view.getInt32(at + IPV6_TCP_AT);
    this.#pseudoSum = ipv6.pseudoHeaderSum(view, at + IP_AT, ipv4.PROTOCOL_TCP, 0);
  }

  /** The words at hand end within the ports: the last of them covers two octets of the address and two of these. */
  #matchesIpv6(port: SwitchPort, batch: FrameBatch, index: number): boolean {
    const fragment = batch.first[index]!;
    const contiguous = batch.length[fragment]!;
    if (contiguous < LEAST_IPV6_OCTETS || port.ipv6Learnings !== this.#learnings) return false;
    const arena = batch.arena[fragment]!;
    const { view } = arena;
    const at = batch.offset[fragment]!;
    if (
      view.getInt32(at + IPV6_TCP_AT) !== this.#ports ||
      view.getInt32(at + 8) !== this.#word8 ||
      view.getInt32(at + 12) !== this.#word12 ||
      view.getInt32(at + 4) !== this.#word4 ||
      view.getInt32(at) !== this.#word0 ||
      view.getUint16(at + IP_AT + 2) !== this.#flow
    )
      return false;
    const words = this.#ipv6Words;
    const from = at + IP_AT + ipv6.NEXT_HEADER;
    for (let i = 0; i < 9; i++) if (view.getInt32(from + 4 * i) !== words[i]) return false;
    const octets = view.getUint16(at + IP_AT + ipv6.PAYLOAD_LENGTH);
    if (octets < tcp.HEADER_OCTETS || octets > batch.octets[index]! - IPV6_TCP_AT) return false;
    const packet = this.packet;
    packet.port = port;
    packet.batch = batch;
    packet.frame = index;
    packet.arena = arena;
    packet.view = view;
    packet.ethernetAt = at;
    packet.ipAt = at + IP_AT;
    packet.contiguous = contiguous - IP_AT;
    packet.transportAt = at + IPV6_TCP_AT;
    packet.ipOctets = ipv6.HEADER_OCTETS + octets;
    packet.transportOctets = octets;
    return true;
  }

  /** The partial sum of the pseudo-header that `packet` would have. */
  get pseudoSum(): number {
    return this.#pseudoSum + this.packet.transportOctets;
  }
}
