/** Frames as a guest sends them, and as text: made and read by the plain rules of the RFCs, apart from the stack's own writers. */

import { ipv4Word, parseIpv4 } from '../../src/stack/wire/address.ts';
import { finish, sum } from '../../src/stack/wire/checksum.ts';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import * as ipv4 from '../../src/stack/wire/ipv4.ts';
import { GATEWAY_MAC, GUEST_MAC } from './world.ts';

export const GUEST = '192.168.65.3';

export const word = (text: string): number => ipv4Word(parseIpv4(text)!);

export interface FrameOptions {
  readonly from?: string;
  readonly to?: string;
  readonly sourceMac?: number;
  readonly destinationMac?: number;
  readonly hopLimit?: number;
  readonly identification?: number;
  /** Flags and offset as in the header. */
  readonly fragment?: number;
  readonly options?: Uint8Array;
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

export function ethernetFrame(type: number, payload: Uint8Array, options: FrameOptions = {}): Uint8Array {
  const frame = new Uint8Array(14 + payload.length);
  ethernet.emit(viewOf(frame), 0, options.destinationMac ?? GATEWAY_MAC, options.sourceMac ?? GUEST_MAC, type);
  frame.set(payload, 14);
  return frame;
}

export function ipFrame(protocol: number, payload: Uint8Array, options: FrameOptions = {}): Uint8Array {
  const extra = options.options ?? new Uint8Array(0);
  const header = 20 + extra.length;
  const packet = new Uint8Array(header + payload.length);
  const view = viewOf(packet);
  const source = word(options.from ?? GUEST);
  const destination = word(options.to ?? '192.168.65.1');
  const fragment = options.fragment ?? 0;
  ipv4.emit(
    view,
    0,
    packet.length,
    options.identification ?? 1,
    fragment,
    options.hopLimit ?? 64,
    protocol,
    source,
    destination,
  );
  packet[0] = 0x40 | (header / 4);
  packet.set(extra, 20);
  ipv4.fillChecksum(view, 0);
  packet.set(payload, header);
  return ethernetFrame(ethernet.TYPE_IPV4, packet, options);
}

/** The checksum of a transport's octets with its pseudo-header. */
export function transportChecksum(from: string, to: string, protocol: number, bytes: Uint8Array): number {
  const pseudo = new Uint8Array(12 + bytes.length);
  const view = viewOf(pseudo);
  view.setInt32(0, word(from));
  view.setInt32(4, word(to));
  view.setUint16(8, protocol);
  view.setUint16(10, bytes.length);
  pseudo.set(bytes, 12);
  return finish(sum(view, 0, pseudo.length));
}

export function udpFrame(
  sourcePort: number,
  port: number,
  payload: Uint8Array,
  options: FrameOptions = {},
): Uint8Array {
  return ipFrame(ipv4.PROTOCOL_UDP, udpBytes(sourcePort, port, payload, options), options);
}

export function udpBytes(
  sourcePort: number,
  port: number,
  payload: Uint8Array,
  options: FrameOptions = {},
): Uint8Array {
  const bytes = new Uint8Array(8 + payload.length);
  const view = viewOf(bytes);
  view.setUint16(0, sourcePort);
  view.setUint16(2, port);
  view.setUint16(4, bytes.length);
  bytes.set(payload, 8);
  const checksum = transportChecksum(options.from ?? GUEST, options.to ?? '192.168.65.1', 17, bytes);
  view.setUint16(6, checksum === 0 ? 0xffff : checksum);
  return bytes;
}

export function icmpBytes(type: number, code: number, rest: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(8 + payload.length);
  const view = viewOf(bytes);
  view.setUint8(0, type);
  view.setUint8(1, code);
  view.setUint32(4, rest);
  bytes.set(payload, 8);
  view.setUint16(2, finish(sum(view, 0, bytes.length)));
  return bytes;
}

export function icmpFrame(
  type: number,
  code: number,
  rest: number,
  payload: Uint8Array,
  options: FrameOptions = {},
): Uint8Array {
  return ipFrame(ipv4.PROTOCOL_ICMP, icmpBytes(type, code, rest, payload), options);
}

export function arpFrame(
  operation: number,
  senderMac: number,
  sender: string,
  target: string,
  options: FrameOptions = {},
): Uint8Array {
  const bytes = new Uint8Array(28);
  const view = viewOf(bytes);
  view.setUint16(0, 1);
  view.setUint16(2, 0x0800);
  view.setUint16(4, 0x0604);
  view.setUint16(6, operation);
  ethernet.setMac(view, 8, senderMac);
  view.setInt32(14, word(sender));
  view.setInt32(24, word(target));
  const broadcast = { sourceMac: senderMac, destinationMac: ethernet.BROADCAST };
  return ethernetFrame(ethernet.TYPE_ARP, bytes, { ...broadcast, ...options });
}

export interface IpPacket {
  readonly destinationMac: number;
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly hopLimit: number;
  readonly identification: number;
  readonly fragment: number;
  readonly payload: Uint8Array;
}

const dotted = (view: DataView, at: number): string => [0, 1, 2, 3].map((i) => view.getUint8(at + i)).join('.');

/** Reads a frame that the stack sent; throws on anything that is not sound. */
export function readIp(frame: Uint8Array, gatewayMac = GATEWAY_MAC): IpPacket {
  const view = viewOf(frame);
  if (ethernet.type(view, 0) !== ethernet.TYPE_IPV4) throw new Error(`type ${ethernet.type(view, 0).toString(16)}`);
  if (ethernet.source(view, 0) !== gatewayMac) throw new Error('not from the gateway');
  const fault = ipv4.check(view, 14, frame.length - 14);
  if (fault !== 0) throw new Error(`IPv4 fault ${fault}`);
  if (ipv4.totalLength(view, 14) !== frame.length - 14) throw new Error('octets after the packet');
  return {
    destinationMac: ethernet.destination(view, 0),
    source: dotted(view, 26),
    destination: dotted(view, 30),
    protocol: ipv4.protocol(view, 14),
    hopLimit: ipv4.timeToLive(view, 14),
    identification: ipv4.identification(view, 14),
    fragment: view.getUint16(20),
    payload: frame.slice(14 + ipv4.headerOctets(view, 14)),
  };
}

/** Octets that tell where in a stream they are. */
export function pattern(octets: number, from = 0): Uint8Array {
  const bytes = new Uint8Array(octets);
  for (let i = 0; i < octets; i++) bytes[i] = ((from + i) * 31 + ((from + i) >> 8)) & 0xff;
  return bytes;
}
