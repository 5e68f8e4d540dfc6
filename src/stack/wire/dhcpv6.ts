/**
 * DHCPv6 messages between clients and servers. RFC 8415 8, options 21. A message is its type, a transaction and options;
 * an option may hold further options, so they are found by walking a stretch. Offsets of options are of their headers.
 */

import { ADDRESS_OCTETS, type Address } from './address.ts';
import { BAD_LENGTH, type Fault, SOUND, TOO_SHORT } from './fault.ts';

export const CLIENT_PORT = 546;
export const SERVER_PORT = 547;

/** ff02::1:2, where servers (and relays) of a link listen. 7.1. */
export const ALL_SERVERS: Address = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2);

/** Message types. 7.3. */
export const SOLICIT = 1;
export const ADVERTISE = 2;
export const REQUEST = 3;
export const CONFIRM = 4;
export const RENEW = 5;
export const REBIND = 6;
export const REPLY = 7;
export const RELEASE = 8;
export const DECLINE = 9;
export const INFORMATION_REQUEST = 11;

export const OPTION_CLIENT_ID = 1;
export const OPTION_SERVER_ID = 2;
export const OPTION_IA_NA = 3;
export const OPTION_IA_TA = 4;
export const OPTION_IA_ADDRESS = 5;
export const OPTION_REQUESTED = 6;
export const OPTION_PREFERENCE = 7;
export const OPTION_STATUS = 13;
export const OPTION_RAPID_COMMIT = 14;
/** RFC 3646. */
export const OPTION_DNS_SERVERS = 23;
export const OPTION_DOMAIN_LIST = 24;
export const OPTION_IA_PD = 25;

/** Status codes. 21.13. */
export const SUCCESS = 0;
export const NO_ADDRESSES = 2;
export const NO_BINDING = 3;
export const NOT_ON_LINK = 4;
export const NO_PREFIXES = 6;

/** Of a message: what is before its options. */
export const HEADER_OCTETS = 4;
/** Of an option: what is before its value. */
export const OPTION_HEADER_OCTETS = 4;
/** Of an IA_NA's or IA_PD's value: identifier, T1 and T2, before its options; an IA_TA has the identifier alone. */
export const IA_OCTETS = 12;
export const IA_TA_OCTETS = 4;
/** Of an IA address's value: address, preferred and valid lifetime, before its options. */
export const IA_ADDRESS_OCTETS = 24;
/** 11.1: the type's two octets and at most 128. */
export const LARGEST_DUID = 130;

export const type = (view: DataView, at: number): number => view.getUint8(at);
export const transaction = (view: DataView, at: number): number => view.getUint32(at) & 0xff_ffff;

/** Whether `at` begins a message of `length` octets that options fill to the last. What is inside them is checked where it is read. */
export function check(view: DataView, at: number, length: number): Fault {
  if (length < HEADER_OCTETS) return TOO_SHORT;
  return fills(view, at + HEADER_OCTETS, at + length) ? SOUND : BAD_LENGTH;
}

/** Whether options fill the stretch. */
export function fills(view: DataView, at: number, end: number): boolean {
  let place = at;
  while (place < end) {
    if (place + OPTION_HEADER_OCTETS > end) return false;
    place += OPTION_HEADER_OCTETS + view.getUint16(place + 2);
  }
  return place === end;
}

export const optionCode = (view: DataView, at: number): number => view.getUint16(at);
/** Of the option's value. */
export const optionOctets = (view: DataView, at: number): number => view.getUint16(at + 2);
/** Where the option after the one at `at` begins. */
export const nextOption = (view: DataView, at: number): number => at + OPTION_HEADER_OCTETS + optionOctets(view, at);

/** The first option of a code in a stretch that options fill; -1: there is none. */
export function findOption(view: DataView, at: number, end: number, code: number): number {
  for (let place = at; place < end; place = nextOption(view, place)) if (optionCode(view, place) === code) return place;
  return -1;
}

/** Of an IA option. */
export const identifier = (view: DataView, at: number): number => view.getUint32(at + OPTION_HEADER_OCTETS);

export function emit(view: DataView, at: number, type: number, transaction: number): number {
  view.setUint32(at, ((type << 24) | transaction) >>> 0);
  return at + HEADER_OCTETS;
}

/** Each writes an option and returns the offset after it. */
export function emitOption(view: DataView, at: number, code: number, value: Uint8Array): number {
  view.setUint16(at, code);
  view.setUint16(at + 2, value.length);
  for (let i = 0; i < value.length; i++) view.setUint8(at + OPTION_HEADER_OCTETS + i, value[i]!);
  return at + OPTION_HEADER_OCTETS + value.length;
}

/** 21.13. */
export function emitStatus(view: DataView, at: number, status: number): number {
  view.setUint16(at, OPTION_STATUS);
  view.setUint16(at + 2, 2);
  view.setUint16(at + 4, status);
  return at + 6;
}

/** 21.6. */
export function emitAddress(
  view: DataView,
  at: number,
  address: Address,
  preferredSeconds: number,
  validSeconds: number,
): number {
  view.setUint16(at, OPTION_IA_ADDRESS);
  view.setUint16(at + 2, IA_ADDRESS_OCTETS);
  for (let i = 0; i < ADDRESS_OCTETS; i++) view.setUint8(at + 4 + i, address[i]!);
  view.setUint32(at + 20, preferredSeconds);
  view.setUint32(at + 24, validSeconds);
  return at + OPTION_HEADER_OCTETS + IA_ADDRESS_OCTETS;
}

/** The beginning of an option that others go into; returns where its value begins. `close` follows. */
export function open(view: DataView, at: number, code: number): number {
  view.setUint16(at, code);
  return at + OPTION_HEADER_OCTETS;
}

/** Gives the option that was opened at `at` the length it has come to. */
export function close(view: DataView, at: number, end: number): number {
  view.setUint16(at + 2, end - at - OPTION_HEADER_OCTETS);
  return end;
}
