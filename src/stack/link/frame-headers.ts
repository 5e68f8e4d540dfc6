/**
 * What a capture's filter and a link's conditions look at in a frame: its type, addresses, protocol and ports. One
 * record, filled for each frame; it reads no further than the octets that are there, whatever the headers claim.
 */

import * as arp from '../wire/arp.ts';
import * as ethernet from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as ipv6 from '../wire/ipv6.ts';
import * as extension from '../wire/ipv6-extension.ts';

const AUTHENTICATION = 51;
const MOBILITY = 135;
/** Length in 8 octets without the first. RFC 8200 4. */
const EXTENSIONS = new Set([extension.HOP_BY_HOP, extension.ROUTING, extension.DESTINATION_OPTIONS, MOBILITY]);
const MAX_EXTENSIONS = 8;

const isExtension = (next: number): boolean =>
  EXTENSIONS.has(next) || next === extension.FRAGMENT || next === AUTHENTICATION;

export class FrameHeaders {
  /** The Ethernet type; 0: not even that is there. */
  type = 0;
  sourceMac = 0;
  destinationMac = 0;
  /** Addresses are four signed words (IPv4 mapped); ARP's sender and target count as such. */
  hasAddresses = false;
  readonly source = new Int32Array(4);
  readonly destination = new Int32Array(4);
  /** What IP carries; -1: not IP. */
  protocol = -1;
  /** -1: none, as in a fragment that is not the first. */
  sourcePort = -1;
  destinationPort = -1;
  /** Where the transport's header begins, from the frame's start; 0: not there. */
  transportAt = 0;
  isFragment = false;
  /** An IPv6 packet's first fragment, or all of it, that does not come as far as its transport. RFC 7112. */
  hidesTransport = false;

  /** Reads the frame whose first `length` octets lie at `at`. */
  read(view: DataView, at: number, length: number): void {
    this.type = 0;
    this.hasAddresses = false;
    this.protocol = -1;
    this.sourcePort = -1;
    this.destinationPort = -1;
    this.transportAt = 0;
    this.isFragment = false;
    this.hidesTransport = false;
    if (length < ethernet.HEADER_OCTETS) return;
    this.type = ethernet.type(view, at);
    this.sourceMac = ethernet.source(view, at);
    this.destinationMac = ethernet.destination(view, at);
    const left = length - ethernet.HEADER_OCTETS;
    if (this.type === ethernet.TYPE_IPV4) this.#ipv4(view, at, left);
    else if (this.type === ethernet.TYPE_IPV6) this.#ipv6(view, at, left);
    else if (this.type === ethernet.TYPE_ARP) this.#arp(view, at + ethernet.HEADER_OCTETS, left);
  }

  #ipv4(view: DataView, frame: number, length: number): void {
    const at = frame + ethernet.HEADER_OCTETS;
    if (length < ipv4.HEADER_OCTETS || view.getUint8(at) >> 4 !== 4) return;
    this.#words(ipv4.source(view, at), ipv4.destination(view, at));
    this.protocol = ipv4.protocol(view, at);
    this.isFragment = ipv4.isFragment(view, at);
    const header = ipv4.headerOctets(view, at);
    if (header < ipv4.HEADER_OCTETS || ipv4.fragmentOffset(view, at) !== 0) return;
    this.#transport(view, frame, ethernet.HEADER_OCTETS + header, length - header);
  }

  #ipv6(view: DataView, frame: number, length: number): void {
    const at = frame + ethernet.HEADER_OCTETS;
    if (length < ipv6.HEADER_OCTETS || view.getUint8(at) >> 4 !== 6) return;
    for (let i = 0; i < 4; i++) {
      this.source[i] = ipv6.sourceWord(view, at, i);
      this.destination[i] = ipv6.destinationWord(view, at, i);
    }
    this.hasAddresses = true;
    let next = ipv6.nextHeader(view, at);
    let header = ipv6.HEADER_OCTETS;
    for (let i = 0; i < MAX_EXTENSIONS && header + 8 <= length; i++) {
      const place = at + header;
      if (EXTENSIONS.has(next)) header += (view.getUint8(place + 1) + 1) * 8;
      else if (next === AUTHENTICATION) header += (view.getUint8(place + 1) + 2) * 4;
      else if (next === extension.FRAGMENT) {
        header += 8;
        this.isFragment = true;
        if (extension.fragmentOffset(view, place) !== 0) {
          this.protocol = view.getUint8(place);
          return;
        }
      } else break;
      next = view.getUint8(place);
    }
    this.protocol = next;
    this.hidesTransport = next !== ipv6.NO_NEXT_HEADER && (isExtension(next) || length - header < 4);
    this.#transport(view, frame, ethernet.HEADER_OCTETS + header, length - header);
  }

  #transport(view: DataView, frame: number, offset: number, length: number): void {
    if (length < 4) return;
    this.transportAt = offset;
    if (this.protocol !== ipv4.PROTOCOL_TCP && this.protocol !== ipv4.PROTOCOL_UDP) return;
    this.sourcePort = view.getUint16(frame + offset);
    this.destinationPort = view.getUint16(frame + offset + 2);
  }

  #arp(view: DataView, at: number, length: number): void {
    if (length >= arp.PACKET_OCTETS) this.#words(arp.senderAddress(view, at), arp.targetAddress(view, at));
  }

  #words(source: number, destination: number): void {
    this.hasAddresses = true;
    for (let i = 0; i < 3; i++) this.source[i] = this.destination[i] = i === 2 ? 0xffff : 0;
    this.source[3] = source;
    this.destination[3] = destination;
  }
}

/** A network as four words and their masks: compared with a frame's addresses without an allocation. */
export class Net {
  readonly words = new Int32Array(4);
  readonly masks = new Int32Array(4);

  /** `prefix` of 128 bits. */
  constructor(address: Uint8Array, prefix: number) {
    const view = new DataView(address.buffer, address.byteOffset);
    for (let i = 0; i < 4; i++) {
      const bits = Math.max(0, Math.min(32, prefix - 32 * i));
      this.masks[i] = bits === 0 ? 0 : -1 << (32 - bits);
      this.words[i] = view.getInt32(4 * i) & this.masks[i]!;
    }
  }

  has(address: Int32Array): boolean {
    const { words, masks } = this;
    for (let i = 3; i >= 0; i--) if ((address[i]! & masks[i]!) !== words[i]) return false;
    return true;
  }
}
