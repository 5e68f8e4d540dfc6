/** A frame in one line, as tcpdump would have it. Any octets. */

import { FrameHeaders } from '../../stack/link/frame-headers.ts';
import { type Address, formatAddress, formatEndpoint } from '../../stack/wire/address.ts';
import * as arp from '../../stack/wire/arp.ts';
import * as ethernet from '../../stack/wire/ethernet.ts';
import * as icmp from '../../stack/wire/icmp.ts';
import * as ipv4 from '../../stack/wire/ipv4.ts';
import * as tcp from '../../stack/wire/tcp.ts';

const ICMPV6 = 58;
const flagLetters: readonly [number, string][] = [
  [tcp.SYN, 'S'],
  [tcp.FIN, 'F'],
  [tcp.RST, 'R'],
  [tcp.PSH, 'P'],
  [tcp.URG, 'U'],
  [tcp.ACK, '.'],
];

/** `head` is as much of the frame as is known, `octets` its length. */
export function frameLine(head: Uint8Array, octets: number): string {
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const headers = new FrameHeaders();
  headers.read(view, 0, head.length);
  return `${words(view, headers)}, ${octets} octets`;
}

function words(view: DataView, headers: FrameHeaders): string {
  const { type, hasAddresses, protocol, transportAt: at } = headers;
  if (type === 0) return 'a frame without a header';
  if (!hasAddresses) return `Ethernet type 0x${type.toString(16).padStart(4, '0')}`;
  const from = formatAddress(address(headers.source));
  const to = formatAddress(address(headers.destination));
  if (type === ethernet.TYPE_ARP)
    return `ARP ${arp.operation(view, ethernet.HEADER_OCTETS) === 1 ? `who has ${to}, tell ${from}` : `${from} is told to ${to}`}`;
  const name = type === ethernet.TYPE_IPV4 ? 'IPv4' : 'IPv6';
  if (at === 0) return `${name} ${from} > ${to} protocol ${protocol}${headers.isFragment ? ', a fragment' : ''}`;
  const left = view.byteLength - at;
  const sender = formatEndpoint(address(headers.source), headers.sourcePort);
  const receiver = formatEndpoint(address(headers.destination), headers.destinationPort);
  if (protocol === ipv4.PROTOCOL_TCP && left >= tcp.HEADER_OCTETS) {
    const bits = tcp.flags(view, at);
    const flags = flagLetters.map(([bit, letter]) => ((bits & bit) === 0 ? '' : letter)).join('');
    const numbers = `seq ${tcp.sequence(view, at)} ack ${tcp.acknowledgement(view, at)} win ${tcp.window(view, at)}`;
    return `TCP ${sender} > ${receiver} [${flags}] ${numbers}`;
  }
  if (protocol === ipv4.PROTOCOL_UDP) return `UDP ${sender} > ${receiver}`;
  if (protocol === ipv4.PROTOCOL_ICMP || protocol === ICMPV6)
    return `ICMP ${from} > ${to} type ${icmp.type(view, at)} code ${icmp.code(view, at)}`;
  return `${name} ${from} > ${to} protocol ${protocol}`;
}

function address(from: Int32Array): Address {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  from.forEach((word, i) => {
    view.setInt32(4 * i, word);
  });
  return bytes;
}
