/** RST: a segment of headers only, apart from any connection's state. RFC 9293 3.5.2, 3.10.7.1. */

import type { SwitchPort } from '../switch-port.ts';
import { type Address, ipv4Word, isIpv4 } from '../wire/address.ts';
import { finish, pseudoHeaderSum, sum } from '../wire/checksum.ts';
import * as ethernet from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import * as tcp from '../wire/tcp.ts';
import type { Seq } from './seq.ts';

/** Who the RST is from and to. Both addresses are of one family. */
export interface ResetPath {
  readonly port: SwitchPort;
  readonly toMac: number;
  readonly fromMac: number;
  readonly source: Address;
  readonly destination: Address;
  /** Source and destination port, as the header begins. */
  readonly ports: number;
}

/** Sends RST, or RST and ACK where there is something to acknowledge; lost, and counted, when the link is full. */
export function sendReset(path: ResetPath, sequence: Seq, ack: Seq | undefined): void {
  const { port, ports } = path;
  const is4 = isIpv4(path.source);
  const ipOctets = is4 ? ipv4.HEADER_OCTETS : ipv6.HEADER_OCTETS;
  const octets = ethernet.HEADER_OCTETS + ipOctets + tcp.HEADER_OCTETS;
  if (!port.reserveOrDrop(octets)) return;
  const { view } = port.arena;
  const tcpAt = port.at + ethernet.HEADER_OCTETS + ipOctets;
  const flags = ack === undefined ? tcp.RST : tcp.RST | tcp.ACK;
  ethernet.emit(view, port.at, path.toMac, path.fromMac, is4 ? ethernet.TYPE_IPV4 : ethernet.TYPE_IPV6);
  tcp.emit(view, tcpAt, ports >>> 16, ports & 0xffff, sequence, ack ?? 0, tcp.HEADER_OCTETS, flags, 0);
  const pseudo = (is4 ? emitIpv4 : emitIpv6)(view, port.at + ethernet.HEADER_OCTETS, path);
  tcp.setChecksum(view, tcpAt, finish(sum(view, tcpAt, tcp.HEADER_OCTETS, pseudo)));
  port.commit(octets);
}

/** Each writes its header and returns the pseudo-header's sum. */
function emitIpv4(view: DataView, at: number, path: ResetPath): number {
  const [source, destination] = [ipv4Word(path.source), ipv4Word(path.destination)];
  const total = ipv4.HEADER_OCTETS + tcp.HEADER_OCTETS;
  ipv4.emit(view, at, total, 0, ipv4.DONT_FRAGMENT, 64, ipv4.PROTOCOL_TCP, source, destination);
  return pseudoHeaderSum(source, destination, ipv4.PROTOCOL_TCP, tcp.HEADER_OCTETS);
}

function emitIpv6(view: DataView, at: number, path: ResetPath): number {
  ipv6.emit(view, at, tcp.HEADER_OCTETS, ipv4.PROTOCOL_TCP, 64, path.source, path.destination);
  return ipv6.pseudoHeaderSum(view, at, ipv4.PROTOCOL_TCP, tcp.HEADER_OCTETS);
}
