/**
 * SOCKS 5 on the wire, the server's side: RFC 1928, and RFC 1929 for names and passwords. Parsers take what has come so
 * far and say `undefined` while it is not whole; every message is shorter than `LARGEST_MESSAGE`. Nothing here throws.
 */

import { type Address, formatAddress, isIpv4 } from '../../stack/wire/address.ts';

export const SOCKS_VERSION = 5;
/** RFC 1929 2: VER, ULEN, UNAME, PLEN, PASSWD. */
export const LARGEST_MESSAGE = 1 + 1 + 255 + 1 + 255;

/** RFC 1928 3. */
export const NO_AUTHENTICATION = 0;
export const USERNAME_PASSWORD = 2;
export const NO_METHOD = 0xff;

/** RFC 1928 6. */
export const reply = {
  succeeded: 0,
  failure: 1,
  notAllowed: 2,
  networkUnreachable: 3,
  hostUnreachable: 4,
  refused: 5,
  ttlExpired: 6,
  unknownCommand: 7,
  unknownAddressType: 8,
} as const;

const ADDRESS_IPV4 = 1;
const ADDRESS_NAME = 3;
const ADDRESS_IPV6 = 4;

export const CONNECT = 1;
export const UDP_ASSOCIATE = 3;

export interface Greeting {
  readonly methods: readonly number[];
  /** How many octets it took. */
  readonly octets: number;
}

export interface Credentials {
  readonly credential: string;
  readonly octets: number;
}

export interface SocksRequest {
  readonly command: number;
  /** A name, or an address as text; undefined: of a type that the RFC does not know. */
  readonly host: string | undefined;
  readonly port: number;
  readonly octets: number;
}

export interface SocksDatagram {
  readonly host: string;
  readonly port: number;
  readonly payload: Uint8Array;
}

/** What has come so far makes no such message, whatever follows. */
export type Malformed = 'malformed';

/** RFC 1928 3: VER, NMETHODS, METHODS. */
export function parseGreeting(bytes: Uint8Array): Greeting | Malformed | undefined {
  if (bytes.length > 0 && bytes[0] !== SOCKS_VERSION) return 'malformed';
  if (bytes.length < 2) return undefined;
  const octets = 2 + bytes[1]!;
  if (octets === 2) return 'malformed';
  if (bytes.length < octets) return undefined;
  return { methods: [...bytes.subarray(2, octets)], octets };
}

/** RFC 1929 2, as `NAME:PASSWORD`. */
export function parseCredentials(bytes: Uint8Array): Credentials | Malformed | undefined {
  if (bytes.length > 0 && bytes[0] !== 1) return 'malformed';
  if (bytes.length < 2) return undefined;
  const passwordAt = 2 + bytes[1]!;
  if (bytes.length <= passwordAt) return undefined;
  const octets = passwordAt + 1 + bytes[passwordAt]!;
  if (bytes.length < octets) return undefined;
  const text = (from: number, to: number): string => new TextDecoder().decode(bytes.subarray(from, to));
  return { credential: `${text(2, passwordAt)}:${text(passwordAt + 1, octets)}`, octets };
}

/** RFC 1928 4: VER, CMD, RSV, ATYP, DST.ADDR, DST.PORT. */
export function parseRequest(bytes: Uint8Array): SocksRequest | Malformed | undefined {
  if (bytes.length > 0 && bytes[0] !== SOCKS_VERSION) return 'malformed';
  if (bytes.length < 5) return undefined;
  const found = destination(bytes);
  if (found === undefined) return undefined;
  const command = bytes[1]!;
  // Its length is not known: what follows cannot be read.
  if (found === 'unknown-type') return { command, host: undefined, port: 0, octets: bytes.length };
  return { command, ...found };
}

/** RFC 1928 7: RSV, FRAG, ATYP, DST.ADDR, DST.PORT, DATA; undefined: none, or part of one (FRAG), which is dropped. */
export function parseDatagram(bytes: Uint8Array): SocksDatagram | undefined {
  if (bytes.length < 5 || bytes[2] !== 0) return undefined;
  const found = destination(bytes);
  if (found === undefined || found === 'unknown-type') return undefined;
  return { host: found.host, port: found.port, payload: bytes.subarray(found.octets) };
}

export function writeDatagram(address: Address, port: number, payload: Uint8Array): Uint8Array {
  const header = writeReply(0, { address, port });
  header[0] = 0;
  const bytes = new Uint8Array(header.length + payload.length);
  bytes.set(header);
  bytes.set(payload, header.length);
  return bytes;
}

/** ATYP at octet 3, the address and the port, of at least 5 octets; undefined: not whole. */
function destination(
  bytes: Uint8Array,
): { readonly host: string; readonly port: number; readonly octets: number } | 'unknown-type' | undefined {
  const type = bytes[3]!;
  const nameOctets = bytes[4]!;
  if (type !== ADDRESS_IPV4 && type !== ADDRESS_IPV6 && type !== ADDRESS_NAME) return 'unknown-type';
  const from = type === ADDRESS_NAME ? 5 : 4;
  const to = from + (type === ADDRESS_IPV4 ? 4 : type === ADDRESS_IPV6 ? 16 : nameOctets);
  const octets = to + 2;
  if (bytes.length < octets) return undefined;
  const field = bytes.subarray(from, to);
  const port = (bytes[to]! << 8) | bytes[to + 1]!;
  const host =
    type === ADDRESS_NAME ? String.fromCharCode(...field) : type === ADDRESS_IPV4 ? field.join('.') : ipv6Text(field);
  return { host, port, octets };
}

/** RFC 1928 6. `bound` is where the connection comes from, towards the destination. */
export function writeReply(code: number, bound?: { readonly address: Address; readonly port: number }): Uint8Array {
  const { address, port } = bound ?? { address: undefined, port: 0 };
  const ipv4 = !address || isIpv4(address);
  const bytes = new Uint8Array(4 + (ipv4 ? 4 : 16) + 2);
  bytes.set([SOCKS_VERSION, code, 0, ipv4 ? ADDRESS_IPV4 : ADDRESS_IPV6]);
  if (address) bytes.set(ipv4 ? address.subarray(12) : address, 4);
  bytes.set([port >>> 8, port & 0xff], bytes.length - 2);
  return bytes;
}

/** Mapped addresses are IPv4 ones. */
const ipv6Text = (field: Uint8Array): string => formatAddress(field);
