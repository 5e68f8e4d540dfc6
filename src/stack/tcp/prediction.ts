/**
 * Frames come in runs: what follows a segment is mostly the next one of the same connection, and its headers differ in
 * a few words only. Van Jacobson's header prediction, begun at the Ethernet header: a frame whose other words are those
 * of a frame that has passed every check has passed them too, and its connection is known. What is left is its length,
 * both checksums and TCP itself.
 *
 * One prediction per endpoint, made anew whenever a frame went the whole way. It holds while the connection is
 * ESTABLISHED and its guest is where it was.
 */

import type { FrameBatch } from '../frame-batch.ts';
import { Packet } from '../packet.ts';
import type { SwitchPort } from '../switch-port.ts';
import { fold, pseudoHeaderSum } from '../wire/checksum.ts';
import * as ethernet from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as tcp from '../wire/tcp.ts';
import type { Connection } from './connection.ts';

const IP_AT = ethernet.HEADER_OCTETS;
const TCP_AT = IP_AT + ipv4.HEADER_OCTETS;
const LEAST_OCTETS = TCP_AT + tcp.HEADER_OCTETS;
/** Ethernet's type for IPv4, version 4 and a header of five words, before the type of service. */
const PLAIN_IPV4 = 0x0800_45;

const halves = (word: number): number => (word >>> 16) + (word & 0xffff);

export class Prediction {
  /** What `matches` fills. */
  readonly packet = new Packet();
  connection: Connection | undefined = undefined;
  #port: SwitchPort | undefined = undefined;
  #address = 0;
  #mac = 0;
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

  /** `packet` has passed every check and belongs to `connection`. */
  learn(packet: Packet, connection: Connection): void {
    const { view, ethernetAt: at, port } = packet;
    this.connection = undefined;
    if (!packet.hasEthernet || packet.contiguous < LEAST_OCTETS - IP_AT) return;
    const word12 = view.getInt32(at + ethernet.TYPE);
    if (word12 >>> 8 !== PLAIN_IPV4) return;
    this.connection = connection;
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

  /** The partial sum of the pseudo-header that `packet` would have. */
  get pseudoSum(): number {
    return this.#pseudoSum + this.packet.transportOctets;
  }
}
