/**
 * A guest's TCP that costs next to nothing: one connection, no loss, frames whose payload was laid down (and summed)
 * before. It fills what window the other end gives, and acknowledges once for whatever arrived together.
 */

import { ipv4Word, parseIpv4 } from '../../src/stack/wire/address.ts';
import * as arp from '../../src/stack/wire/arp.ts';
import { finish, pseudoHeaderSum } from '../../src/stack/wire/checksum.ts';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import * as ipv4 from '../../src/stack/wire/ipv4.ts';
import * as tcp from '../../src/stack/wire/tcp.ts';
import * as options from '../../src/stack/wire/tcp-options.ts';

const guestMac = 0x02_0000_0000_02;
const guest = ipv4Word(parseIpv4('192.168.65.3')!);
const host = ipv4Word(parseIpv4('192.168.65.2')!);
const BROADCAST = 0xffff_ffff_ffff;
const SHIFT = 10;
const WINDOW_OCTETS = 4 << 20;
const OPTIONS = 8;
export const HEADERS = ethernet.HEADER_OCTETS + ipv4.HEADER_OCTETS + tcp.HEADER_OCTETS;
export const CHECKSUM_START = ethernet.HEADER_OCTETS + ipv4.HEADER_OCTETS;

/** How the driver's frames travel. */
export interface DriverPort {
  /** Octets of payload that one frame carries. */
  readonly payloadOctets: number;
  /** With offload a checksum is the pseudo-header's alone, and frames are up to 64 KiB. */
  readonly offload: boolean;
  /** Room for one more full frame: its place, whose payload is laid down; undefined: none now (`writable` follows). */
  room(): { readonly view: DataView; readonly at: number; readonly payloadSum: number } | undefined;
  /** Sends the frame at the place that `room` gave. */
  send(octets: number): void;
  /** Sends a frame without payload of its own. */
  sendSmall(frame: Uint8Array): void;
  flush(): void;
}

export class DriverTcp {
  /** Octets of payload acknowledged, and received. */
  acknowledged = 0;
  received = 0;
  onEstablished: () => void = () => {};
  readonly #port: DriverPort;
  readonly #small = new Uint8Array(128);
  readonly #view = new DataView(this.#small.buffer);
  readonly #mss: number;
  readonly #localPort: number;
  readonly #hostPort: number;
  #gatewayMac = BROADCAST;
  #established = false;
  #next = 1000;
  #una = 1001;
  #expected = 0;
  #window = 0;
  #shift = 0;
  #due = false;
  #sending = false;

  constructor(port: DriverPort, mtu: number, localPort: number, hostPort: number) {
    this.#port = port;
    this.#mss = mtu - 40;
    this.#localPort = localPort;
    this.#hostPort = hostPort;
  }

  /** Asks for the host's MAC address, with which everything begins. */
  connect(): void {
    const { HEADER_OCTETS } = ethernet;
    ethernet.emit(this.#view, 0, BROADCAST, guestMac, ethernet.TYPE_ARP);
    arp.emit(this.#view, HEADER_OCTETS, arp.REQUEST, guestMac, guest, 0, host);
    this.#port.sendSmall(this.#small.subarray(0, HEADER_OCTETS + arp.PACKET_OCTETS));
    this.#port.flush();
  }

  /** Sends from now on whatever the window takes. */
  pour(): void {
    this.#sending = true;
    this.#fill();
    this.#port.flush();
  }

  writable(): void {
    if (this.#sending) this.#fill();
    this.#port.flush();
  }

  /** A frame for the guest; `octets` counts payload that may lie elsewhere. */
  input(view: DataView, at: number, octets: number): void {
    if (ethernet.type(view, at) === ethernet.TYPE_ARP) {
      this.#arp(view, at);
      return;
    }
    const ipAt = at + ethernet.HEADER_OCTETS;
    if (ethernet.type(view, at) !== ethernet.TYPE_IPV4 || ipv4.protocol(view, ipAt) !== ipv4.PROTOCOL_TCP) return;
    const tcpAt = ipAt + ipv4.HEADER_OCTETS;
    if (tcp.destinationPort(view, tcpAt) !== this.#localPort) return;
    const flags = tcp.flags(view, tcpAt);
    if ((flags & (tcp.RST | tcp.FIN)) !== 0) throw new Error('the connection was reset or ended');
    const payload = octets - ethernet.HEADER_OCTETS - ipv4.HEADER_OCTETS - tcp.headerOctets(view, tcpAt);
    const sequence = tcp.sequence(view, tcpAt);
    const acknowledgement = tcp.acknowledgement(view, tcpAt);
    if ((flags & tcp.SYN) !== 0) {
      const parsed = new options.TcpOptions();
      options.parse(view, tcpAt + tcp.HEADER_OCTETS, tcp.headerOctets(view, tcpAt) - tcp.HEADER_OCTETS, parsed);
      this.#expected = (sequence + 1) >>> 0;
      this.#shift = Math.max(parsed.windowScale, 0);
      this.#window = tcp.window(view, tcpAt);
      this.#next = 1001;
      this.#due = true;
      this.#established = true;
      this.settle();
      this.onEstablished();
      return;
    }
    this.acknowledged += (acknowledgement - this.#una) >>> 0;
    this.#una = acknowledgement;
    this.#window = tcp.window(view, tcpAt) << this.#shift;
    if (payload === 0) return;
    // What was sent again after a timeout, on a busy machine, is only acknowledged again.
    const repeated = (this.#expected - sequence) | 0;
    if (repeated < 0) throw new Error('a segment was lost');
    this.#due = true;
    if (repeated >= payload) return;
    this.#expected = (sequence + payload) >>> 0;
    this.received += payload - repeated;
  }

  /** Ends a batch of input: one acknowledgement, and what the window now takes. */
  settle(): void {
    if (this.#sending) this.#fill();
    if (this.#due && this.#established) {
      this.#headers(this.#view, 0, tcp.ACK, 0, 0);
      this.#port.sendSmall(this.#small.subarray(0, HEADERS));
      this.#due = false;
    }
    this.#port.flush();
  }

  #fill(): void {
    const { payloadOctets } = this.#port;
    while (((this.#next - this.#una) >>> 0) + payloadOctets <= this.#window) {
      const place = this.#port.room();
      if (!place) return;
      this.#headers(place.view, place.at, tcp.ACK, payloadOctets, place.payloadSum);
      this.#next = (this.#next + payloadOctets) >>> 0;
      this.#port.send(HEADERS + payloadOctets);
      this.#due = false;
    }
  }

  #arp(view: DataView, at: number): void {
    const arpAt = at + ethernet.HEADER_OCTETS;
    if (arp.operation(view, arpAt) === arp.REPLY && this.#gatewayMac === BROADCAST) {
      this.#gatewayMac = ethernet.source(view, at);
      this.#headers(this.#view, 0, tcp.SYN, OPTIONS, 0);
      this.#port.sendSmall(this.#small.subarray(0, HEADERS + OPTIONS));
    } else if (arp.operation(view, arpAt) === arp.REQUEST && arp.targetAddress(view, arpAt) === guest) {
      const { HEADER_OCTETS } = ethernet;
      ethernet.emit(this.#view, 0, ethernet.source(view, at), guestMac, ethernet.TYPE_ARP);
      const to = arp.senderAddress(view, arpAt);
      arp.emit(this.#view, HEADER_OCTETS, arp.REPLY, guestMac, guest, ethernet.source(view, at), to);
      this.#port.sendSmall(this.#small.subarray(0, HEADER_OCTETS + arp.PACKET_OCTETS));
    }
    this.#port.flush();
  }

  #headers(view: DataView, at: number, flags: number, octets: number, payloadSum: number): void {
    const syn = (flags & tcp.SYN) !== 0;
    const ipAt = at + ethernet.HEADER_OCTETS;
    const tcpAt = ipAt + ipv4.HEADER_OCTETS;
    ethernet.emit(view, at, this.#gatewayMac, guestMac, ethernet.TYPE_IPV4);
    ipv4.emit(view, ipAt, 40 + octets, 0, ipv4.DONT_FRAGMENT, 64, ipv4.PROTOCOL_TCP, guest, host);
    const header = tcp.HEADER_OCTETS + (syn ? OPTIONS : 0);
    const acknowledged = syn ? 0 : this.#expected;
    const window = syn ? 65535 : WINDOW_OCTETS >> SHIFT;
    tcp.emit(view, tcpAt, this.#localPort, this.#hostPort, this.#next, acknowledged, header, flags, window);
    const pseudo = pseudoHeaderSum(guest, host, ipv4.PROTOCOL_TCP, tcp.HEADER_OCTETS + octets);
    if (syn) {
      options.emitMaximumSegmentSize(view, tcpAt + tcp.HEADER_OCTETS, this.#mss);
      options.emitWindowScale(view, tcpAt + tcp.HEADER_OCTETS + 4, SHIFT);
    }
    if (this.#port.offload && octets > 0 && !syn) {
      tcp.setChecksum(view, tcpAt, ~finish(pseudo) & 0xffff);
      return;
    }
    let partial = pseudo + payloadSum;
    for (let i = 0; i < header; i += 2) partial += view.getUint16(tcpAt + i);
    tcp.setChecksum(view, tcpAt, finish(partial));
  }
}
