/** IPv6 frames as a guest sends them, and as text: made and read by the plain rules of the RFCs, apart from the stack's own writers. */

import { formatAddress, parseIpv6 } from '../../src/stack/wire/address.ts';
import { finish, sum } from '../../src/stack/wire/checksum.ts';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import { ethernetFrame, type FrameOptions } from './frames.ts';
import { GATEWAY_MAC, GUEST_MAC, type World } from './world.ts';

/** The gateway's addresses, as RFC 4291's appendix A makes the first of 02:00:00:00:00:01. */
export const LINK_LOCAL = 'fe80::ff:fe00:1';
export const GATEWAY = 'fd00:1:2:3::1';
export const ALIAS = 'fd00:1:2:3::2';
export const GUEST = 'fd00:1:2:3::3';
export const GUEST_LINK_LOCAL = 'fe80::3';
export const PEER = '2001:db8::1';

export const ip = (text: string): Uint8Array => parseIpv6(text)!;
const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

export interface Ipv6Options extends FrameOptions {
  /** Extension headers, `first` being the kind of the first of them. */
  readonly chain?: { readonly first: number; readonly bytes: Uint8Array };
}

export function concat(...parts: readonly (Uint8Array | readonly number[])[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** 33:33 and the group's last four octets. RFC 2464 7. */
export const groupMac = (group: string): number => ethernet.macOfBytes(concat([0x33, 0x33], ip(group).subarray(12)));

export function ipv6Frame(protocol: number, payload: Uint8Array, options: Ipv6Options = {}): Uint8Array {
  const { chain, hopLimit = 64 } = options;
  const to = options.to ?? GATEWAY;
  const octets = payload.length + (chain?.bytes.length ?? 0);
  const header = [0x60, 0, 0, 0, octets >> 8, octets & 0xff, chain?.first ?? protocol, hopLimit];
  const packet = concat(header, ip(options.from ?? GUEST), ip(to), chain?.bytes ?? [], payload);
  const destinationMac = ip(to)[0] === 0xff ? groupMac(to) : GATEWAY_MAC;
  return ethernetFrame(ethernet.TYPE_IPV6, packet, { destinationMac, ...options });
}

/** The checksum of a transport's octets with its pseudo-header. RFC 8200 8.1. */
export function checksum6(from: string, to: string, protocol: number, bytes: Uint8Array): number {
  const { length } = bytes;
  const pseudo = concat(ip(from), ip(to), [0, 0, length >> 8, length & 0xff, 0, 0, 0, protocol], bytes);
  return finish(sum(viewOf(pseudo), 0, pseudo.length));
}

function summed(bytes: Uint8Array, field: number, protocol: number, options: Ipv6Options): Uint8Array {
  const value = checksum6(options.from ?? GUEST, options.to ?? GATEWAY, protocol, bytes);
  viewOf(bytes).setUint16(field, value === 0 && protocol === 17 ? 0xffff : value);
  return bytes;
}

export function udp6Bytes(from: number, to: number, payload: Uint8Array, options: Ipv6Options = {}): Uint8Array {
  const octets = 8 + payload.length;
  const header = [from >> 8, from & 0xff, to >> 8, to & 0xff, octets >> 8, octets & 0xff, 0, 0];
  return summed(concat(header, payload), 6, 17, options);
}

export const udp6Frame = (from: number, to: number, payload: Uint8Array, options: Ipv6Options = {}): Uint8Array =>
  ipv6Frame(17, udp6Bytes(from, to, payload, options), options);

export function icmp6Bytes(
  type: number,
  code: number,
  rest: number,
  payload: Uint8Array | readonly number[],
  options: Ipv6Options = {},
): Uint8Array {
  const bytes = concat([type, code, 0, 0, rest >>> 24, rest >>> 16, rest >>> 8, rest], payload);
  return summed(bytes, 2, 58, options);
}

export const icmp6Frame = (
  type: number,
  code: number,
  rest: number,
  payload: Uint8Array | readonly number[],
  options: Ipv6Options = {},
): Uint8Array => ipv6Frame(58, icmp6Bytes(type, code, rest, payload, options), options);

/** `kind`: the source's link-layer address or the target's. */
export const linkLayer = (kind: 1 | 2, mac = GUEST_MAC): readonly number[] => [kind, 1, ...ethernet.macToBytes(mac)];

export const solicited = (address: string): string => {
  const [a, b, c] = ip(address).subarray(13);
  return `ff02::1:ff${a!.toString(16).padStart(2, '0')}:${((b! << 8) | c!).toString(16)}`;
};

/** A neighbour solicitation of a guest. */
export function solicitation(target: string, options: Ipv6Options & { readonly option?: readonly number[] } = {}) {
  const whole = { to: solicited(target), hopLimit: 255, ...options };
  return icmp6Frame(135, 0, 0, concat(ip(target), options.option ?? linkLayer(1)), whole);
}

/** A neighbour advertisement of a guest, solicited and overriding. */
export function advertisement(target: string, options: Ipv6Options & { readonly flags?: number } = {}): Uint8Array {
  const whole = { from: target, to: LINK_LOCAL, hopLimit: 255, ...options };
  return icmp6Frame(136, 0, options.flags ?? 0x6000_0000, concat(ip(target), linkLayer(2, options.sourceMac)), whole);
}

export function tcp6Frame(
  from: number,
  to: number,
  sequence: number,
  ack: number,
  flags: number,
  payload: Uint8Array = new Uint8Array(0),
  options: Ipv6Options & { readonly tcpOptions?: readonly number[] } = {},
): Uint8Array {
  const extra = options.tcpOptions ?? [];
  const bytes = new Uint8Array(20 + extra.length + payload.length);
  const view = viewOf(bytes);
  view.setUint16(0, from);
  view.setUint16(2, to);
  view.setUint32(4, sequence);
  view.setUint32(8, ack);
  view.setUint16(12, ((5 + extra.length / 4) << 12) | flags);
  view.setUint16(14, 65535);
  bytes.set(extra, 20);
  bytes.set(payload, 20 + extra.length);
  return ipv6Frame(6, summed(bytes, 16, 6, options), options);
}

export interface Ipv6Packet {
  readonly destinationMac: number;
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  readonly hopLimit: number;
  readonly payload: Uint8Array;
}

/** Reads a frame that the stack sent; throws on anything that is not sound. `isPartial`: TCP's checksum is left to the link. */
export function readIpv6(frame: Uint8Array, isPartial = false): Ipv6Packet {
  const view = viewOf(frame);
  if (ethernet.type(view, 0) !== ethernet.TYPE_IPV6) throw new Error(`type ${ethernet.type(view, 0).toString(16)}`);
  if (ethernet.source(view, 0) !== GATEWAY_MAC) throw new Error('not from the gateway');
  if (view.getUint8(14) >> 4 !== 6) throw new Error('not version 6');
  if (view.getUint16(18) !== frame.length - 54) throw new Error('octets after the packet, or before its end');
  const [source, destination] = [frame.slice(22, 38), frame.slice(38, 54)].map(formatAddress) as [string, string];
  const protocol = view.getUint8(20);
  const payload = frame.slice(54);
  if (
    (isPartial ? [17, 58] : [6, 17, 58]).includes(protocol) &&
    checksum6(source, destination, protocol, payload) !== 0
  )
    throw new Error('checksum');
  const destinationMac = ethernet.destination(view, 0);
  return { destinationMac, source, destination, protocol, hopLimit: view.getUint8(21), payload };
}

/** What the stack has sent by now, without router advertisements. */
export function replies6(world: World): Ipv6Packet[] {
  world.poll();
  return sent6(world).filter(({ protocol, payload }) => protocol !== 58 || payload[0] !== 134);
}

/** Router advertisements among what it has sent. */
export function advertisements(world: World): Ipv6Packet[] {
  world.poll();
  return sent6(world).filter(({ protocol, payload }) => protocol === 58 && payload[0] === 134);
}

const sent6 = (world: World): Ipv6Packet[] => world.link.take().map(({ bytes }) => readIpv6(bytes));
