/** Ethernet II frames: destination, source, type. No FCS travels on our links. */

import { type Fault, SOUND, TOO_SHORT } from './fault.ts';

export const DESTINATION = 0;
export const SOURCE = 6;
export const TYPE = 12;
export const HEADER_OCTETS = 14;
export const MAC_OCTETS = 6;

export const TYPE_IPV4 = 0x0800;
export const TYPE_ARP = 0x0806;
export const TYPE_IPV6 = 0x86dd;

/** The broadcast address as `destination` and `source` give it. */
export const BROADCAST = 0xffff_ffff_ffff;

export const type = (view: DataView, at: number): number => view.getUint16(at + TYPE);

/** The 48 bits of the MAC address at `at`: exact in a number, so that it compares and keys a table without allocation. */
export const mac = (view: DataView, at: number): number => view.getUint16(at) * 0x1_0000_0000 + view.getUint32(at + 2);

export const destination = (view: DataView, at: number): number => mac(view, at + DESTINATION);
export const source = (view: DataView, at: number): number => mac(view, at + SOURCE);

/** True when the destination's group bit is set: multicast or broadcast. IEEE 802.3 3.2.3. */
export const isGroup = (view: DataView, at: number): boolean => (view.getUint8(at + DESTINATION) & 1) !== 0;

export function setMac(view: DataView, at: number, value: number): void {
  const high = Math.floor(value / 0x1_0000_0000);
  view.setUint16(at, high);
  view.setUint32(at + 2, value - high * 0x1_0000_0000);
}

/** Whether `length` octets hold an Ethernet header. */
export const check = (length: number): Fault => (length < HEADER_OCTETS ? TOO_SHORT : SOUND);

export function emit(view: DataView, at: number, destination: number, source: number, type: number): void {
  setMac(view, at + DESTINATION, destination);
  setMac(view, at + SOURCE, source);
  view.setUint16(at + TYPE, type);
}

/** A MAC address's number from its six octets. */
export function macOfBytes(bytes: Uint8Array, offset = 0): number {
  let value = 0;
  for (let i = 0; i < MAC_OCTETS; i++) value = value * 256 + bytes[offset + i]!;
  return value;
}

export function macToBytes(value: number): Uint8Array {
  const bytes = new Uint8Array(MAC_OCTETS);
  setMac(new DataView(bytes.buffer), 0, value);
  return bytes;
}

/** `02:00:00:00:00:01` (or with hyphens) to its number; undefined when it is not a MAC address. */
export function parseMac(text: string): number | undefined {
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text)) return undefined;
  return Number.parseInt(text.replace(/[:-]/g, ''), 16);
}

export const formatMac = (value: number): string => value.toString(16).padStart(12, '0').replace(/..\B/g, '$&:');
