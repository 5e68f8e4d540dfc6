/** RST: a segment of headers only, apart from any connection's state. RFC 9293 3.5.2, 3.10.7.1. */

import type { SwitchPort } from '../switch-port.ts';
import { finish, pseudoHeaderSum } from '../wire/checksum.ts';
import * as ethernet from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as tcp from '../wire/tcp.ts';
import type { Seq } from './seq.ts';

const HEADERS_OCTETS = ipv4.HEADER_OCTETS + tcp.HEADER_OCTETS;

/** Who the RST is from and to. */
export interface ResetPath {
  readonly port: SwitchPort;
  readonly toMac: number;
  readonly fromMac: number;
  readonly source: number;
  readonly destination: number;
  /** Source and destination port, as the header begins. */
  readonly ports: number;
}

/** Sends RST, or RST and ACK where there is something to acknowledge; lost, and counted, when the link is full. */
export function sendReset(path: ResetPath, sequence: Seq, ack: Seq | undefined): void {
  const { port, source, destination, ports } = path;
  if (!port.reserveOrDrop(ethernet.HEADER_OCTETS + HEADERS_OCTETS)) return;
  const { view } = port.arena;
  const ipAt = port.at + ethernet.HEADER_OCTETS;
  const tcpAt = ipAt + ipv4.HEADER_OCTETS;
  const flags = ack === undefined ? tcp.RST : tcp.RST | tcp.ACK;
  ethernet.emit(view, port.at, path.toMac, path.fromMac, ethernet.TYPE_IPV4);
  ipv4.emit(view, ipAt, HEADERS_OCTETS, 0, ipv4.DONT_FRAGMENT, 64, ipv4.PROTOCOL_TCP, source, destination);
  tcp.emit(view, tcpAt, ports >>> 16, ports & 0xffff, sequence, ack ?? 0, tcp.HEADER_OCTETS, flags, 0);
  let sum = pseudoHeaderSum(source, destination, ipv4.PROTOCOL_TCP, tcp.HEADER_OCTETS);
  for (let i = 0; i < tcp.HEADER_OCTETS; i += 2) sum += view.getUint16(tcpAt + i);
  tcp.setChecksum(view, tcpAt, finish(sum));
  port.commit(ethernet.HEADER_OCTETS + HEADERS_OCTETS);
}
