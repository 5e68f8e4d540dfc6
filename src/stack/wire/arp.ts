/** ARP for IPv4 over Ethernet. RFC 826. */

import { setMac } from './ethernet.ts';
import { BAD_FORMAT, type Fault, SOUND, TOO_SHORT } from './fault.ts';

export const HARDWARE = 0;
export const PROTOCOL = 2;
export const HARDWARE_LENGTH = 4;
export const PROTOCOL_LENGTH = 5;
export const OPERATION = 6;
export const SENDER_MAC = 8;
export const SENDER_ADDRESS = 14;
export const TARGET_MAC = 18;
export const TARGET_ADDRESS = 24;
export const PACKET_OCTETS = 28;

export const REQUEST = 1;
export const REPLY = 2;

const HARDWARE_ETHERNET = 1;
const PROTOCOL_IPV4 = 0x0800;

export const operation = (view: DataView, at: number): number => view.getUint16(at + OPERATION);
/** IPv4 addresses are signed 32-bit words, as `address.ipv4Word` gives them. MAC addresses: `ethernet.mac(view, at + SENDER_MAC)`. */
export const senderAddress = (view: DataView, at: number): number => view.getInt32(at + SENDER_ADDRESS);
export const targetAddress = (view: DataView, at: number): number => view.getInt32(at + TARGET_ADDRESS);

/** Whether `length` octets hold an ARP packet for IPv4 over Ethernet. */
export function check(view: DataView, at: number, length: number): Fault {
  if (length < PACKET_OCTETS) return TOO_SHORT;
  if (view.getUint16(at + HARDWARE) !== HARDWARE_ETHERNET || view.getUint16(at + PROTOCOL) !== PROTOCOL_IPV4)
    return BAD_FORMAT;
  // Lengths 6 and 4, in one read.
  if (view.getUint16(at + HARDWARE_LENGTH) !== 0x0604) return BAD_FORMAT;
  return SOUND;
}

export function emit(
  view: DataView,
  at: number,
  operation: number,
  senderMac: number,
  senderAddress: number,
  targetMac: number,
  targetAddress: number,
): void {
  view.setUint16(at + HARDWARE, HARDWARE_ETHERNET);
  view.setUint16(at + PROTOCOL, PROTOCOL_IPV4);
  view.setUint16(at + HARDWARE_LENGTH, 0x0604);
  view.setUint16(at + OPERATION, operation);
  setMac(view, at + SENDER_MAC, senderMac);
  view.setInt32(at + SENDER_ADDRESS, senderAddress);
  setMac(view, at + TARGET_MAC, targetMac);
  view.setInt32(at + TARGET_ADDRESS, targetAddress);
}
