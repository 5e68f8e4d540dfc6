/**
 * Reassembly. IPv4: RFC 791 3.2, RFC 815 (holes), RFC 1122 3.3.2, RFC 1858 and 3128 (tiny fragments), RFC 8900 (why to
 * be careful). IPv6: RFC 8200 4.5. Overlaps: RFC 5722 3, made for IPv6 and as good for IPv4.
 *
 * A datagram's fragments are copied into one of a few buffers of 64 KiB; holes are kept as a sorted list of pairs.
 * A fragment that overlaps another, without being its exact repetition, loses the whole datagram: no honest sender
 * makes any. Limits: `BUFFERS` datagrams at once, of which one ingress may hold all but one; when all are taken the
 * oldest goes. After `LIFETIME_MS` (`IPV6_LIFETIME_MS`) an unfinished datagram goes, and its sender is told where its
 * first fragment is here (RFC 1122 3.3.2, RFC 8200 4.5). At most `MAX_HOLES` holes: fragments that come in an order that makes more are an attack.
 */

import type { Drops } from './drops.ts';
import { Fragments } from './fragment-list.ts';
import { CHECKSUM_UNKNOWN, FrameBatch } from './frame-batch.ts';
import type { Packet } from './packet.ts';
import type { Arena } from './port.ts';
import type { SwitchPort } from './switch-port.ts';
import { Timer, type TimerWheel } from './timers.ts';
import * as ipv4 from './wire/ipv4.ts';
import * as ipv6 from './wire/ipv6.ts';
import * as extension from './wire/ipv6-extension.ts';

const BUFFERS = 32;
const LIFETIME_MS = 15_000;
const IPV6_LIFETIME_MS = 60_000;
const MAX_HOLES = 64;
const END_UNKNOWN = 65536;
/** The payload begins here in a buffer: before it there is room for the headers that are before a fragment's payload. */
const PAYLOAD_AT = 256;

class Datagram {
  readonly arena: Arena;
  readonly timer: Timer;
  port: SwitchPort | undefined = undefined;
  isIpv6 = false;
  /** Source and destination. */
  readonly words = new Int32Array(8);
  identification = 0;
  /** IPv4 only: RFC 8200 4.5 does without. */
  protocol = 0;
  /** Octets of the first fragment's header; 0: it has not come. */
  headerOctets = 0;
  /** Octets of the payload, once the last fragment has come. */
  end = END_UNKNOWN;
  /** Pairs: begin of a hole, its end (exclusive). Sorted. */
  readonly holes: number[] = [];
  /** Order of arrival. */
  age = 0;

  constructor(expired: (datagram: Datagram, nowMs: number) => void) {
    const bytes = new Uint8Array(PAYLOAD_AT + 65536);
    this.arena = { bytes, view: new DataView(bytes.buffer) };
    this.timer = new Timer({ expired: (nowMs) => expired(this, nowMs) });
  }
}

export interface ReassemblyOptions {
  readonly drops: Drops;
  readonly timers: TimerWheel;
  /** A whole packet, made anew: a batch of one frame that begins with the IP header. */
  readonly whole: (port: SwitchPort, batch: FrameBatch, nowMs: number) => void;
  /** Time is up; `batch` holds the header and what follows it of the first fragment, in one piece. */
  readonly timedOut: (port: SwitchPort, batch: FrameBatch, nowMs: number) => void;
}

export class Reassembly {
  readonly #options: ReassemblyOptions;
  readonly #buffers: Datagram[] = [];
  readonly #batch = new FrameBatch(1, 1);
  readonly #pieces = new Fragments();
  #arrivals = 0;

  constructor(options: ReassemblyOptions) {
    this.#options = options;
  }

  /** Datagrams that wait for fragments. */
  get size(): number {
    let count = 0;
    for (const datagram of this.#buffers) if (datagram.port) count++;
    return count;
  }

  /**
   * What IP carries of `packet` is octets from `begin` on of what a datagram carries, with more behind them or not;
   * `header` octets from the IP header on stay before it.
   */
  input(packet: Packet, begin: number, more: boolean, identification: number, header: number, nowMs: number): void {
    const { ipAt, transportOctets: octets } = packet;
    const end = begin + octets;
    const most = packet.isIpv6 ? 65535 + ipv6.HEADER_OCTETS : 65535;
    // All but the last carry a multiple of 8 octets; none reaches beyond the largest datagram (the "ping of death").
    if (octets === 0 || (more && (octets & 7) !== 0) || end + header > most || header > PAYLOAD_AT) {
      this.#drop('fragment-malformed');
      return;
    }
    // RFC 3128: the transport's header may not be split. 8 octets of offset would let a second one rewrite its flags.
    const least = packet.protocol === ipv4.PROTOCOL_TCP ? 20 : 8;
    if (begin === 0 ? octets < least : begin < least) {
      this.#drop('fragment-malformed');
      return;
    }
    const datagram = this.#find(packet, identification, nowMs);
    if (!more) {
      // The end may be told twice, but not differently, and nothing may lie beyond it.
      if (datagram.end !== END_UNKNOWN && datagram.end !== end) {
        this.#abandon(datagram, 'fragment-overlap');
        return;
      }
      if (datagram.end === END_UNKNOWN && !this.#cutAt(datagram, end)) {
        this.#abandon(datagram, 'fragment-overlap');
        return;
      }
    } else if (end > datagram.end) {
      this.#abandon(datagram, 'fragment-overlap');
      return;
    }
    const { holes } = datagram;
    let hole = 0;
    while (hole < holes.length && holes[hole + 1]! <= begin) hole += 2;
    if (hole === holes.length || holes[hole]! >= end) {
      // All of it is here already: a repetition, if what it repeats is the same. RFC 8200 4.5 lets it be ignored.
      this.#repeats(packet, datagram, begin, octets) ? undefined : this.#abandon(datagram, 'fragment-overlap');
      return;
    }
    const from = holes[hole]!;
    const to = holes[hole + 1]!;
    if (begin < from || end > to) {
      this.#abandon(datagram, 'fragment-overlap');
      return;
    }
    if (begin === from && end === to) holes.splice(hole, 2);
    else if (begin === from) holes[hole] = end;
    else if (end === to) holes[hole + 1] = begin;
    else {
      if (holes.length >= 2 * MAX_HOLES) {
        this.#abandon(datagram, 'fragment-malformed');
        return;
      }
      holes.splice(hole + 1, 0, begin, end);
    }
    this.#copy(packet, datagram, begin, octets);
    if (begin === 0) {
      datagram.headerOctets = header;
      const { bytes } = datagram.arena;
      for (let i = 0; i < header; i++) bytes[PAYLOAD_AT - header + i] = packet.arena.bytes[ipAt + i]!;
    }
    if (holes.length === 0) this.#complete(datagram, nowMs);
  }

  /** Forgets what came in by a port. */
  forget(port: SwitchPort): void {
    for (const datagram of this.#buffers) if (datagram.port === port) this.#release(datagram);
  }

  #find(packet: Packet, identification: number, nowMs: number): Datagram {
    let free: Datagram | undefined;
    let oldest: Datagram | undefined;
    let oldestOfPort: Datagram | undefined;
    let ofPort = 0;
    for (const datagram of this.#buffers) {
      if (!datagram.port) {
        free ??= datagram;
        continue;
      }
      if (!oldest || datagram.age < oldest.age) oldest = datagram;
      if (datagram.port !== packet.port) continue;
      ofPort++;
      if (!oldestOfPort || datagram.age < oldestOfPort.age) oldestOfPort = datagram;
      if (datagram.identification === identification && isOf(datagram, packet)) return datagram;
    }
    if (!free && this.#buffers.length < BUFFERS) {
      free = new Datagram((datagram, at) => this.#timeout(datagram, at));
      this.#buffers.push(free);
    }
    if (!free || ofPort === BUFFERS - 1) {
      free = ofPort === BUFFERS - 1 ? oldestOfPort! : oldest!;
      this.#abandon(free, 'fragment-evicted');
    }
    free.port = packet.port;
    free.identification = identification;
    free.isIpv6 = packet.isIpv6;
    free.words[0] = packet.source0;
    free.words[1] = packet.source1;
    free.words[2] = packet.source2;
    free.words[3] = packet.source3;
    free.words[4] = packet.destination0;
    free.words[5] = packet.destination1;
    free.words[6] = packet.destination2;
    free.words[7] = packet.destination3;
    free.protocol = packet.protocol;
    free.headerOctets = 0;
    free.end = END_UNKNOWN;
    free.holes.length = 0;
    free.holes.push(0, END_UNKNOWN);
    free.age = this.#arrivals++;
    this.#options.timers.arm(free.timer, nowMs + (packet.isIpv6 ? IPV6_LIFETIME_MS : LIFETIME_MS));
    return free;
  }

  /** The datagram ends at `end`: the last hole is cut there. False: something is here already beyond it. */
  #cutAt(datagram: Datagram, end: number): boolean {
    const { holes } = datagram;
    if (holes[holes.length - 2]! >= end) return false;
    holes[holes.length - 1] = end;
    datagram.end = end;
    return true;
  }

  #copy(packet: Packet, datagram: Datagram, begin: number, octets: number): void {
    const pieces = this.#pieces;
    pieces.clear();
    packet.payload(0, octets, pieces);
    let at = PAYLOAD_AT + begin;
    for (let i = 0; i < pieces.count; i++) {
      const { arena, offset, length } = pieces.items[i]!;
      datagram.arena.bytes.set(arena.bytes.subarray(offset, offset + length), at);
      at += length;
    }
  }

  #repeats(packet: Packet, datagram: Datagram, begin: number, octets: number): boolean {
    const pieces = this.#pieces;
    pieces.clear();
    packet.payload(0, octets, pieces);
    let at = PAYLOAD_AT + begin;
    for (let i = 0; i < pieces.count; i++) {
      const { arena, offset, length } = pieces.items[i]!;
      for (let k = 0; k < length; k++) if (datagram.arena.bytes[at + k] !== arena.bytes[offset + k]) return false;
      at += length;
    }
    return true;
  }

  #complete(datagram: Datagram, nowMs: number): void {
    const port = datagram.port!;
    const at = PAYLOAD_AT - datagram.headerOctets;
    const total = datagram.headerOctets + datagram.end;
    // The first fragment's headers may be longer than the others'.
    if (total > (datagram.isIpv6 ? 65535 + ipv6.HEADER_OCTETS : 65535)) {
      this.#abandon(datagram, 'fragment-malformed');
      return;
    }
    unite(datagram, at, total);
    this.#release(datagram);
    // The buffer is free, but nothing takes it before this returns: fragments come one at a time.
    this.#batch.clear();
    this.#batch.push(datagram.arena, at, total, CHECKSUM_UNKNOWN);
    this.#options.whole(port, this.#batch, nowMs);
  }

  #timeout(datagram: Datagram, nowMs: number): void {
    const port = datagram.port!;
    const { headerOctets, arena } = datagram;
    const first = datagram.holes[0]!;
    this.#abandon(datagram, 'fragment-timeout');
    if (headerOctets === 0) return;
    unite(datagram, PAYLOAD_AT - headerOctets, headerOctets + first);
    this.#batch.clear();
    this.#batch.push(arena, PAYLOAD_AT - headerOctets, headerOctets + first, CHECKSUM_UNKNOWN);
    this.#options.timedOut(port, this.#batch, nowMs);
  }

  #abandon(
    datagram: Datagram,
    reason: 'fragment-overlap' | 'fragment-evicted' | 'fragment-timeout' | 'fragment-malformed',
  ): void {
    this.#release(datagram);
    this.#drop(reason);
  }

  #release(datagram: Datagram): void {
    datagram.port = undefined;
    this.#options.timers.cancel(datagram.timer);
  }

  #drop(reason: 'fragment-overlap' | 'fragment-evicted' | 'fragment-timeout' | 'fragment-malformed'): void {
    this.#options.drops.count(reason);
  }
}

function isOf(datagram: Datagram, packet: Packet): boolean {
  const { words } = datagram;
  return (
    words[3] === packet.source3 &&
    words[7] === packet.destination3 &&
    datagram.isIpv6 === packet.isIpv6 &&
    (packet.isIpv6
      ? words[2] === packet.source2 &&
        words[1] === packet.source1 &&
        words[0] === packet.source0 &&
        words[6] === packet.destination2 &&
        words[5] === packet.destination1 &&
        words[4] === packet.destination0
      : datagram.protocol === packet.protocol)
  );
}

/** Makes the first fragment's header at `at` that of a packet of `total` octets. */
function unite(datagram: Datagram, at: number, total: number): void {
  const { view } = datagram.arena;
  if (!datagram.isIpv6) {
    view.setUint16(at + ipv4.TOTAL_LENGTH, total);
    view.setUint16(at + ipv4.FLAGS_FRAGMENT, 0);
    ipv4.fillChecksum(view, at);
    return;
  }
  view.setUint16(at + ipv6.PAYLOAD_LENGTH, total - ipv6.HEADER_OCTETS);
  // The field that named the fragment header now names what followed it. The headers have been walked before.
  let field = at + ipv6.NEXT_HEADER;
  let header = at + ipv6.HEADER_OCTETS;
  while (view.getUint8(field) !== extension.FRAGMENT && header < PAYLOAD_AT) {
    field = header + extension.NEXT_HEADER;
    header += (view.getUint8(header + extension.LENGTH) + 1) * 8;
  }
  view.setUint8(field, datagram.protocol);
}
