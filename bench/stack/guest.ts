/** A guest that costs next to nothing, so that what a bench measures is the stack: it knows one connection, and its frames are made before. */

import { FrameBatch } from '../../src/stack/frame-batch.ts';
import type { Arena, ArenaSource, LinkHandler, LinkOffload, LinkPort } from '../../src/stack/port.ts';
import { ipv4Word, parseIpv4 } from '../../src/stack/wire/address.ts';
import { finish, pseudoHeaderSum, sum } from '../../src/stack/wire/checksum.ts';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import * as ipv4 from '../../src/stack/wire/ipv4.ts';
import * as tcp from '../../src/stack/wire/tcp.ts';
import * as options from '../../src/stack/wire/tcp-options.ts';

export const gatewayMac = Uint8Array.of(2, 0, 0, 0, 0, 1);
const guestMac = Uint8Array.of(2, 0, 0, 0, 0, 2);
const guest = ipv4Word(parseIpv4('192.168.65.3')!);
const peer = ipv4Word(parseIpv4('10.0.0.1')!);
const HEADERS = ethernet.HEADER_OCTETS + ipv4.HEADER_OCTETS + tcp.HEADER_OCTETS;
const SHIFT = 7;

export class Guest implements LinkPort {
  readonly name = 'bench';
  readonly mtu: number;
  readonly offload: LinkOffload;
  readonly txArena: Arena;
  txOffset = 0;
  frames = 0;
  /** What the stack has sent: the number after its last octet, and the last number it acknowledged. */
  seen = 0;
  acknowledged = 0;
  readonly #mss: number;
  readonly #batch = new FrameBatch(2048, 1);
  readonly #rx: Arena;
  readonly #small: Arena;
  readonly #payloadSum: number;
  #handler: LinkHandler | undefined;
  #next = 1000;

  constructor(memory: ArenaSource, mtu: number, burstOctets: number, offload: LinkOffload) {
    this.txArena = memory.arena(2 << 20);
    this.#small = memory.arena(128);
    this.mtu = mtu;
    this.offload = offload;
    this.#mss = mtu - 40;
    const count = Math.max(1, Math.floor(burstOctets / this.#mss));
    this.#rx = memory.arena(count * (HEADERS + this.#mss));
    this.#rx.bytes.fill(0x5a);
    this.#payloadSum = sum(this.#rx.view, HEADERS, this.#mss);
  }

  start(handler: LinkHandler): void {
    this.#handler = handler;
  }

  reserve(octets: number): boolean {
    return this.txOffset + octets <= this.txArena.bytes.length;
  }

  commit(octets: number): void {
    const { view } = this.txArena;
    const at = this.txOffset + ethernet.HEADER_OCTETS + ipv4.HEADER_OCTETS;
    this.frames++;
    this.seen = (tcp.sequence(view, at) + octets - HEADERS) >>> 0;
    if ((tcp.flags(view, at) & tcp.SYN) !== 0) this.seen = (tcp.sequence(view, at) + 1) >>> 0;
    this.acknowledged = tcp.acknowledgement(view, at);
    this.txOffset += octets;
  }

  flush(): void {
    this.txOffset = 0;
  }

  close(): void {}

  /** SYN; the caller polls; then the handshake's last segment. */
  syn(): void {
    this.#one(tcp.SYN);
    this.#next++;
  }

  ack(): void {
    this.#one(tcp.ACK);
  }

  /** A burst of full segments, at most `most` octets. Returns its octets. */
  burst(most = Number.POSITIVE_INFINITY): number {
    const { view, bytes } = this.#rx;
    const batch = this.#batch;
    batch.clear();
    const octets = HEADERS + this.#mss;
    for (let at = 0; at < bytes.length && (batch.count + 1) * this.#mss <= most; at += octets) {
      this.#headers(view, at, tcp.ACK, this.#mss, this.#payloadSum);
      this.#next = (this.#next + this.#mss) >>> 0;
      batch.push(this.#rx, at, octets);
    }
    this.#handler!.input(batch);
    return batch.count * this.#mss;
  }

  #one(flags: number): void {
    const syn = (flags & tcp.SYN) !== 0;
    this.#headers(this.#small.view, 0, flags, syn ? 8 : 0, 0);
    this.#batch.clear();
    this.#batch.push(this.#small, 0, HEADERS + (syn ? 8 : 0));
    this.#handler!.input(this.#batch);
  }

  #headers(view: DataView, at: number, flags: number, octets: number, payloadSum: number): void {
    const syn = (flags & tcp.SYN) !== 0;
    const ipAt = at + ethernet.HEADER_OCTETS;
    const tcpAt = ipAt + ipv4.HEADER_OCTETS;
    ethernet.emit(view, at, ethernet.macOfBytes(gatewayMac), ethernet.macOfBytes(guestMac), ethernet.TYPE_IPV4);
    ipv4.emit(view, ipAt, 40 + octets, 0, ipv4.DONT_FRAGMENT, 64, ipv4.PROTOCOL_TCP, guest, peer);
    const header = tcp.HEADER_OCTETS + (syn ? 8 : 0);
    tcp.emit(view, tcpAt, 40000, 80, this.#next, syn ? 0 : this.seen, header, flags, 0xffff);
    let partial = pseudoHeaderSum(guest, peer, ipv4.PROTOCOL_TCP, 20 + octets) + payloadSum;
    if (syn) {
      options.emitMaximumSegmentSize(view, tcpAt + 20, this.#mss);
      options.emitWindowScale(view, tcpAt + 24, SHIFT);
    }
    for (let i = 0; i < header; i += 2) partial += view.getUint16(tcpAt + i);
    tcp.setChecksum(view, tcpAt, finish(partial));
  }
}
