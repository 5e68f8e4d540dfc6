/** DHCP messages. RFC 2131 2, options RFC 2132. All fields of the fixed part are at fixed offsets; options are found by walking. */

import { BAD_FORMAT, type Fault, SOUND, TOO_SHORT } from './fault.ts';

export const OPERATION = 0;
export const HARDWARE_TYPE = 1;
export const HARDWARE_LENGTH = 2;
export const HOPS = 3;
export const TRANSACTION = 4;
export const SECONDS = 8;
export const FLAGS = 10;
export const CLIENT_ADDRESS = 12;
export const YOUR_ADDRESS = 16;
export const SERVER_ADDRESS = 20;
export const RELAY_ADDRESS = 24;
export const CLIENT_HARDWARE = 28;
export const SERVER_NAME = 44;
export const FILE = 108;
export const COOKIE = 236;
/** Options begin here. */
export const OPTIONS = 240;
/** Some clients drop replies below BOOTP's size. RFC 1542 2.1. */
export const MINIMUM_OCTETS = 300;

export const SERVER_PORT = 67;
export const CLIENT_PORT = 68;

export const BOOT_REQUEST = 1;
export const BOOT_REPLY = 2;

const MAGIC = 0x63825363;
const FLAG_BROADCAST = 0x8000;

/** Message types, option 53. */
export const DISCOVER = 1;
export const OFFER = 2;
export const REQUEST = 3;
export const DECLINE = 4;
export const ACK = 5;
export const NAK = 6;
export const RELEASE = 7;
export const INFORM = 8;

export const OPTION_PAD = 0;
export const OPTION_SUBNET_MASK = 1;
export const OPTION_ROUTER = 3;
export const OPTION_DNS = 6;
export const OPTION_HOST_NAME = 12;
export const OPTION_DOMAIN_NAME = 15;
export const OPTION_MTU = 26;
export const OPTION_NTP_SERVERS = 42;
export const OPTION_REQUESTED_ADDRESS = 50;
export const OPTION_LEASE_TIME = 51;
export const OPTION_OVERLOAD = 52;
export const OPTION_MESSAGE_TYPE = 53;
export const OPTION_SERVER_IDENTIFIER = 54;
export const OPTION_PARAMETER_LIST = 55;
export const OPTION_MESSAGE = 56;
export const OPTION_MAXIMUM_SIZE = 57;
export const OPTION_CLIENT_IDENTIFIER = 61;
export const OPTION_DOMAIN_SEARCH = 119;
export const OPTION_END = 255;

export const operation = (view: DataView, at: number): number => view.getUint8(at + OPERATION);
export const transaction = (view: DataView, at: number): number => view.getUint32(at + TRANSACTION);
export const wantsBroadcast = (view: DataView, at: number): boolean =>
  (view.getUint16(at + FLAGS) & FLAG_BROADCAST) !== 0;
export const flags = (view: DataView, at: number): number => view.getUint16(at + FLAGS);
/** Addresses are signed 32-bit words. */
export const clientAddress = (view: DataView, at: number): number => view.getInt32(at + CLIENT_ADDRESS);
export const yourAddress = (view: DataView, at: number): number => view.getInt32(at + YOUR_ADDRESS);
export const serverAddress = (view: DataView, at: number): number => view.getInt32(at + SERVER_ADDRESS);
export const relayAddress = (view: DataView, at: number): number => view.getInt32(at + RELAY_ADDRESS);

/** Whether `length` octets hold a DHCP message for Ethernet. */
export function check(view: DataView, at: number, length: number): Fault {
  if (length < OPTIONS) return TOO_SHORT;
  if (view.getUint8(at + HARDWARE_TYPE) !== 1 || view.getUint8(at + HARDWARE_LENGTH) !== 6) return BAD_FORMAT;
  return view.getUint32(at + COOKIE) === MAGIC ? SOUND : BAD_FORMAT;
}

/** Looks for an option between `at` and `end`: the offset of its length octet, or -1. */
function findBetween(view: DataView, at: number, end: number, code: number): number {
  let i = at;
  while (i < end) {
    const found = view.getUint8(i);
    if (found === OPTION_PAD) {
      i++;
      continue;
    }
    if (found === OPTION_END || i + 1 >= end) return -1;
    const next = i + 2 + view.getUint8(i + 1);
    if (next > end) return -1;
    if (found === code) return i + 1;
    i = next;
  }
  return -1;
}

/**
 * Looks for an option of a message of `length` octets, also in the file and server name fields where option 52 says so
 * (RFC 2131 4.1): the offset of its length octet, which the value follows; -1: absent, or cut off.
 */
export function findOption(view: DataView, at: number, length: number, code: number): number {
  const found = findBetween(view, at + OPTIONS, at + length, code);
  if (found >= 0 || code === OPTION_OVERLOAD) return found;
  const overload = findBetween(view, at + OPTIONS, at + length, OPTION_OVERLOAD);
  if (overload < 0 || view.getUint8(overload) !== 1) return -1;
  const fields = view.getUint8(overload + 1);
  const inFile = (fields & 1) !== 0 ? findBetween(view, at + FILE, at + COOKIE, code) : -1;
  if (inFile >= 0 || (fields & 2) === 0) return inFile;
  return findBetween(view, at + SERVER_NAME, at + FILE, code);
}

/** The message type, or 0: absent or malformed. */
export function messageType(view: DataView, at: number, length: number): number {
  const found = findOption(view, at, length, OPTION_MESSAGE_TYPE);
  return found < 0 || view.getUint8(found) !== 1 ? 0 : view.getUint8(found + 1);
}

/** An option that is one address, as a signed 32-bit word; undefined: absent or of another length. */
export function addressOption(view: DataView, at: number, length: number, code: number): number | undefined {
  const found = findOption(view, at, length, code);
  return found < 0 || view.getUint8(found) !== 4 ? undefined : view.getInt32(found + 1);
}

/**
 * Writes the fixed part: zero but for what is given, the cookie included. The client's hardware address is written by
 * the caller at CLIENT_HARDWARE. Returns where options begin.
 */
export function emit(
  view: DataView,
  at: number,
  operation: number,
  transaction: number,
  flags: number,
  clientAddress: number,
  yourAddress: number,
  serverAddress: number,
  relayAddress: number,
): number {
  for (let i = 0; i < COOKIE; i += 4) view.setUint32(at + i, 0);
  view.setUint8(at + OPERATION, operation);
  view.setUint8(at + HARDWARE_TYPE, 1);
  view.setUint8(at + HARDWARE_LENGTH, 6);
  view.setUint32(at + TRANSACTION, transaction);
  view.setUint16(at + FLAGS, flags);
  view.setInt32(at + CLIENT_ADDRESS, clientAddress);
  view.setInt32(at + YOUR_ADDRESS, yourAddress);
  view.setInt32(at + SERVER_ADDRESS, serverAddress);
  view.setInt32(at + RELAY_ADDRESS, relayAddress);
  view.setUint32(at + COOKIE, MAGIC);
  return at + OPTIONS;
}

/** Writes an option of at most 255 octets; returns the offset after it. */
export function emitOption(view: DataView, at: number, code: number, value: Uint8Array): number {
  view.setUint8(at, code);
  view.setUint8(at + 1, value.length);
  for (let i = 0; i < value.length; i++) view.setUint8(at + 2 + i, value[i]!);
  return at + 2 + value.length;
}
