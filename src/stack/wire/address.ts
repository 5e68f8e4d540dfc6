/**
 * Network addresses: 16 octets, IPv4 as ::ffff:a.b.c.d (RFC 4291 2.5.5.2). Text forms are strict: four decimal numbers
 * without leading zeros (no octal, hexadecimal or short forms, which resolvers read in different ways), RFC 4291 2.2
 * for IPv6, written as RFC 5952 says.
 */

export type Address = Uint8Array;

export const ADDRESS_OCTETS = 16;

/** The 32 bits of the mapped prefix's third word, as `word` gives it. */
const MAPPED_WORD = 0xffff;

/** Word 0 to 3 of an address as a signed 32-bit integer: cheap to compare and to hash. */
export function word(address: Address, index: number): number {
  const i = index << 2;
  return (address[i]! << 24) | (address[i + 1]! << 16) | (address[i + 2]! << 8) | address[i + 3]!;
}

export function setWord(address: Address, index: number, value: number): void {
  const i = index << 2;
  address[i] = value >>> 24;
  address[i + 1] = value >>> 16;
  address[i + 2] = value >>> 8;
  address[i + 3] = value;
}

export const isIpv4 = (address: Address): boolean =>
  word(address, 2) === MAPPED_WORD && word(address, 1) === 0 && word(address, 0) === 0;

/** The IPv4 address in a mapped one, as a signed 32-bit word. */
export const ipv4Word = (address: Address): number => word(address, 3);

/** Writes an IPv4 address, given as a 32-bit word, in mapped form. */
export function setIpv4(into: Address, value: number): void {
  setWord(into, 0, 0);
  setWord(into, 1, 0);
  setWord(into, 2, MAPPED_WORD);
  setWord(into, 3, value);
}

export function ofIpv4(value: number): Address {
  const address = new Uint8Array(ADDRESS_OCTETS);
  setIpv4(address, value);
  return address;
}

export const equal = (a: Address, b: Address): boolean =>
  word(a, 3) === word(b, 3) && word(a, 2) === word(b, 2) && word(a, 1) === word(b, 1) && word(a, 0) === word(b, 0);

/** Whether `address` is in the network of `prefix` bits (of 128; add 96 to an IPv4 prefix). */
export function contains(network: Address, prefix: number, address: Address): boolean {
  const whole = prefix >> 3;
  for (let i = 0; i < whole; i++) if (network[i] !== address[i]) return false;
  const bits = prefix & 7;
  return bits === 0 || (network[whole]! ^ address[whole]!) >> (8 - bits) === 0;
}

const decimal = /^(0|[1-9][0-9]{0,2})$/;

function parseIpv4Word(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const part of parts) {
    if (!decimal.test(part) || Number(part) > 255) return undefined;
    value = (value << 8) | Number(part);
  }
  return value;
}

/** `192.168.65.1` in mapped form; undefined when it is anything else. */
export function parseIpv4(text: string): Address | undefined {
  const value = parseIpv4Word(text);
  return value === undefined ? undefined : ofIpv4(value);
}

/** Groups of one side of `::`, as 16-bit numbers; undefined when one is malformed. */
function parseGroups(text: string, last: boolean): number[] | undefined {
  const groups: number[] = [];
  if (text === '') return groups;
  const parts = text.split(':');
  for (const [i, part] of parts.entries()) {
    if (last && i === parts.length - 1 && part.includes('.')) {
      const value = parseIpv4Word(part);
      if (value === undefined) return undefined;
      groups.push(value >>> 16, value & 0xffff);
    } else if (/^[0-9a-f]{1,4}$/i.test(part)) groups.push(Number.parseInt(part, 16));
    else return undefined;
  }
  return groups;
}

/** An IPv6 address, without a zone; undefined when it is anything else. RFC 4291 2.2. */
export function parseIpv6(text: string): Address | undefined {
  if (text.length > 45) return undefined;
  const sides = text.split('::');
  if (sides.length > 2) return undefined;
  const head = parseGroups(sides[0]!, sides.length === 1);
  const tail = sides.length === 2 ? parseGroups(sides[1]!, true) : [];
  if (!head || !tail) return undefined;
  const missing = 8 - head.length - tail.length;
  if (sides.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const address = new Uint8Array(ADDRESS_OCTETS);
  for (const [i, group] of [...head, ...new Array<number>(missing).fill(0), ...tail].entries()) {
    address[2 * i] = group >> 8;
    address[2 * i + 1] = group;
  }
  return address;
}

/** Either family. */
export const parseAddress = (text: string): Address | undefined =>
  text.includes(':') ? parseIpv6(text) : parseIpv4(text);

export interface Subnet {
  /** Host bits as they were written. */
  readonly address: Address;
  /** Of 128 bits: an IPv4 prefix length plus 96. */
  readonly prefix: number;
}

/** `192.168.65.0/24` or `fd00::/64`; undefined when it is anything else. */
export function parseSubnet(text: string): Subnet | undefined {
  const [first, length, more] = text.split('/');
  if (first === undefined || length === undefined || more !== undefined || !decimal.test(length)) return undefined;
  const address = parseAddress(first);
  if (!address) return undefined;
  const bits = first.includes(':') ? 128 : 32;
  return Number(length) > bits ? undefined : { address, prefix: 128 - bits + Number(length) };
}

function formatIpv6(address: Address): string {
  const groups: number[] = [];
  for (let i = 0; i < ADDRESS_OCTETS; i += 2) groups.push((address[i]! << 8) | address[i + 1]!);
  // RFC 5952 4.2: the longest run of two or more zero groups is shortened, the first of equals.
  let start = -1;
  let length = 1;
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && groups[i + run] === 0) run++;
    if (run > length) [start, length] = [i, run];
    i += run;
  }
  const text = (part: number[]): string => part.map((group) => group.toString(16)).join(':');
  return start < 0 ? text(groups) : `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`;
}

/** Dotted quad for IPv4, RFC 5952 for IPv6. */
export const formatAddress = (address: Address): string =>
  isIpv4(address) ? `${address[12]}.${address[13]}.${address[14]}.${address[15]}` : formatIpv6(address);

/**
 * What kind of address it is, as far as a gate needs to know. 'unspecified': ::, 0.0.0.0 and all of 0/8 ("this
 * network"); 'compatible': ::a.b.c.d (RFC 4291 2.5.5.1, deprecated); 'broadcast': 255.255.255.255; 'reserved': 240/4
 * otherwise; 'private': RFC 1918 and unique local (RFC 4193).
 */
export type AddressKind =
  | 'unspecified'
  | 'loopback'
  | 'link-local'
  | 'multicast'
  | 'broadcast'
  | 'reserved'
  | 'compatible'
  | 'private'
  | 'global';

function ipv4Kind(value: number): AddressKind {
  const first = value >>> 24;
  if (first === 0) return 'unspecified';
  if (first === 127) return 'loopback';
  if (value >>> 16 === 0xa9fe) return 'link-local';
  if (first >= 240) return value === -1 ? 'broadcast' : 'reserved';
  if (first >= 224) return 'multicast';
  if (first === 10 || value >>> 20 === 0xac1 || value >>> 16 === 0xc0a8) return 'private';
  return 'global';
}

export function kind(address: Address): AddressKind {
  if (isIpv4(address)) return ipv4Kind(word(address, 3));
  if (word(address, 0) === 0 && word(address, 1) === 0 && word(address, 2) === 0) {
    const last = word(address, 3);
    return last === 0 ? 'unspecified' : last === 1 ? 'loopback' : 'compatible';
  }
  const first = (address[0]! << 8) | address[1]!;
  if (first >> 8 === 0xff) return 'multicast';
  if (first >> 6 === 0xfe80 >> 6) return 'link-local';
  if (first >> 9 === 0xfc00 >> 9) return 'private';
  return 'global';
}

/** Address and port as text; an IPv6 address in brackets. RFC 3986 3.2.2. */
export function formatEndpoint(address: Address, port: number): string {
  const text = formatAddress(address);
  return text.includes(':') ? `[${text}]:${port}` : `${text}:${port}`;
}
