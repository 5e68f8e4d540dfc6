/**
 * A switch for several guests on one network: each guest's link is plugged into a port, and what the port makes of it is
 * plugged into the stack. Frames for the gateway go to the stack as they come; frames for another guest are written
 * straight into its link; broadcasts go to both. A source guard (source-guard.ts) stands at every port.
 *
 * It learns which MAC address is behind which port. Frames to an address that nobody has sent from are dropped, never
 * flooded: whoever is asked for by ARP or NDP has spoken before anybody can send to them. What is asked of the network
 * alone (DHCP, router solicitations) is shown to no other guest.
 *
 * What a guest's link takes off the sender's hands (checksums, segmentation) is left to it where it can; otherwise frames
 * are cut and summed first. A link that is full has its frames kept, up to `QUEUE_OCTETS`, and the stack waits behind
 * them. Broadcasts are limited for each port to `FLOODS_PER_SECOND`.
 *
 * Events: frames, `writable`, `deserted` and `closed` of links. Timers: none.
 */

import { CHECKSUM_PARTIAL, FrameBatch } from '../frame-batch.ts';
import { plainArena } from '../frame-memory.ts';
import type { Address, Arena, Clock, LinkHandler, LinkPort } from '../port.ts';
import * as ethernet from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import * as tcp from '../wire/tcp.ts';
import * as udp from '../wire/udp.ts';
import { FrameHeaders } from './frame-headers.ts';
import { FramePool } from './frame-pool.ts';
import { PassingLink } from './passing-link.ts';
import { LARGEST_FRAME, SegmentCutter } from './segmentation.ts';
import { GuardedPort, type GuardOptions, type GuardReason, SourceGuard } from './source-guard.ts';

const QUEUE_OCTETS = 2 << 20;
const FLOODS_PER_SECOND = 1000;

export interface SwitchOptions extends GuardOptions {
  readonly clock: Clock;
}

export interface SwitchDrops extends Readonly<Record<GuardReason, number>> {
  /** To a MAC address that nobody has. */
  readonly 'unknown-destination': number;
  /** The other guest's link is full, and so is what is kept for it. */
  readonly full: number;
  /** Larger than the other guest's link takes. */
  readonly mtu: number;
  /** Broadcasts beyond the rate. */
  readonly flood: number;
  /** To be cut or summed, and not what it claims to be. */
  readonly malformed: number;
}

export class Switch {
  readonly #guard: SourceGuard;
  readonly #clock: Clock;
  readonly #mac: number;
  readonly #ports = new Map<GuardedPort, Port>();
  readonly #counts = { 'unknown-destination': 0, full: 0, mtu: 0, flood: 0, malformed: 0 };
  readonly #headers = new FrameHeaders();
  readonly #cutter = new SegmentCutter();
  readonly #dirty = new Set<Port>();

  constructor(options: SwitchOptions) {
    this.#guard = new SourceGuard(options);
    this.#clock = options.clock;
    this.#mac = ethernet.macOfBytes(options.macAddress);
  }

  /** Frames that went nowhere, by reason. */
  get drops(): SwitchDrops {
    return { ...this.#guard.drops, ...this.#counts };
  }

  /** Plugs a guest's link in; what it returns is for the stack to be attached to. */
  plug(link: LinkPort): SwitchedLink {
    const port: Port = new Port(link, {
      input: (batch) => this.#input(port, batch),
      forget: (bound) => {
        this.#guard.forget(port.guarded, bound);
        if (bound) this.#ports.delete(port.guarded);
      },
    });
    this.#ports.set(port.guarded, port);
    return port;
  }

  /** A lease: the address is behind this link, at this MAC address. */
  bind(address: Address, link: SwitchedLink, macAddress: Uint8Array): void {
    if (!(link instanceof Port)) throw new TypeError('the link is not plugged into this switch');
    this.#guard.bind(address, link.guarded, macAddress);
  }

  unbind(address: Address): void {
    this.#guard.unbind(address);
  }

  #input(from: Port, batch: FrameBatch): void {
    const verdicts = from.verdictsFor(batch.count);
    let forStack = 0;
    for (let i = 0; i < batch.count; i++) forStack += verdicts[i] = this.#frame(from, batch, i) ? 1 : 0;
    for (const port of this.#dirty) port.flush();
    this.#dirty.clear();
    if (forStack === batch.count) from.deliver(batch);
    else if (forStack > 0) from.deliver(from.only(batch, verdicts));
  }

  /** Forwards a frame to other guests where it is for them; returns whether the stack is to see it. */
  #frame(from: Port, batch: FrameBatch, index: number): boolean {
    const first = batch.first[index]!;
    const { view } = batch.arena[first]!;
    const at = batch.offset[first]!;
    const length = batch.length[first]!;
    const headers = this.#headers;
    headers.read(view, at, length);
    // Too short for a header: the stack counts it.
    if (length < ethernet.HEADER_OCTETS) return true;
    const reach = this.#guard.check(from.guarded, headers, view, at, length);
    if (reach === undefined) return false;
    if (headers.destinationMac === this.#mac) return true;
    if (ethernet.isGroup(view, at)) {
      if (reach === 'all') this.#flood(from, batch, index);
      return true;
    }
    const owner = this.#guard.portOf(headers.destinationMac);
    const to = owner && this.#ports.get(owner);
    if (!to) this.#counts['unknown-destination']++;
    else if (reach === 'network') this.#guard.drops['source-address']++;
    else if (to !== from) this.#forward(to, batch, index);
    return false;
  }

  #flood(from: Port, batch: FrameBatch, index: number): void {
    if (this.#ports.size < 2) return;
    if (!from.mayFlood(this.#clock.nowMs())) {
      this.#counts.flood++;
      return;
    }
    for (const to of this.#ports.values()) if (to !== from) this.#forward(to, batch, index);
  }

  #forward(to: Port, batch: FrameBatch, index: number): void {
    const segmentOctets = batch.segmentOctets[index]!;
    const isPartial = batch.checksum[index] === CHECKSUM_PARTIAL;
    const { offload, mtu } = to;
    const ipOctets = batch.octets[index]! - ethernet.HEADER_OCTETS;
    if (segmentOctets === 0 && ipOctets > mtu) {
      this.#counts.mtu++;
      return;
    }
    this.#dirty.add(to);
    const { protocol, transportAt } = this.#headers;
    const isTcp = protocol === ipv4.PROTOCOL_TCP;
    const leaves = offload.checksum && ipOctets <= Math.max(offload.segmentOctets, mtu);
    if (!isPartial && segmentOctets === 0) this.#sent(to.forward(batch, index, 0, 0, 0));
    else if (leaves && transportAt > 0 && (isTcp || (protocol === ipv4.PROTOCOL_UDP && segmentOctets === 0))) {
      const field = isTcp ? tcp.CHECKSUM : udp.CHECKSUM;
      const needs = transportAt + (isTcp ? tcp.HEADER_OCTETS : udp.HEADER_OCTETS);
      if (batch.octets[index]! < needs) this.#counts.malformed++;
      else this.#sent(to.forward(batch, index, transportAt, field, segmentOctets));
    } else this.#cut(to, batch, index);
  }

  #cut(to: Port, batch: FrameBatch, index: number): void {
    const cutter = this.#cutter;
    const frames = cutter.take(batch, index);
    if (frames === 0) this.#counts.malformed++;
    for (let i = 0; i < frames; i++) {
      const octets = cutter.octetsOf(i);
      if (octets > to.mtu + ethernet.HEADER_OCTETS) this.#counts.mtu++;
      else this.#sent(to.forwardSegment(cutter, i));
    }
  }

  #sent(sent: boolean): void {
    if (!sent) this.#counts.full++;
  }
}

/** A guest's link as the stack sees it behind the switch. */
export type SwitchedLink = LinkPort;

interface PortEvents {
  input(batch: FrameBatch): void;
  /** Nobody is there any more; `bound`: nor will be. */
  forget(bound: boolean): void;
}

type Entry = [frame: number, checksumStart: number, checksumOffset: number, segmentOctets: number];

class Port extends PassingLink {
  readonly guarded = new GuardedPort();
  readonly #events: PortEvents;
  #handler: LinkHandler | undefined;
  readonly #batch = new FrameBatch();
  #verdicts = new Uint8Array(1024);
  /** Frames for which the link had no room: in the pool, and what `commit` is to be told of each. */
  readonly #pool = new FramePool(QUEUE_OCTETS);
  #queue: number[] = [];
  /** Where a frame is put together on its way into the pool; made when it is first needed. */
  #spare: Arena | undefined;
  #head = 0;
  #refused = false;
  #floodsAtMs = Number.NEGATIVE_INFINITY;
  #floods = 0;

  constructor(link: LinkPort, events: PortEvents) {
    super(link);
    this.#events = events;
  }

  start(handler: LinkHandler): void {
    this.#handler = handler;
    this.link.start({
      input: (batch) => this.#events.input(batch),
      writable: () => this.#writable(),
      deserted: () => {
        this.#drain();
        // Whoever comes next may have the same lease.
        this.#events.forget(false);
        handler.deserted?.();
      },
      closed: (error) => {
        this.#drain();
        this.#events.forget(true);
        handler.closed(error);
      },
    });
  }

  override reserve(octets: number): boolean {
    if (this.#queue.length === 0) return this.link.reserve(octets);
    this.#refused = true;
    return false;
  }

  deliver(batch: FrameBatch): void {
    this.#handler?.input(batch);
  }

  verdictsFor(count: number): Uint8Array {
    if (count > this.#verdicts.length) this.#verdicts = new Uint8Array(count);
    return this.#verdicts;
  }

  /** The frames of a batch whose verdict is 1, where they lie. */
  only(batch: FrameBatch, verdicts: Uint8Array): FrameBatch {
    const some = this.#batch;
    some.clear();
    for (let i = 0; i < batch.count; i++) {
      if (verdicts[i] === 0) continue;
      const first = batch.first[i]!;
      const [checksum, segmentOctets] = [batch.checksum[i]!, batch.segmentOctets[i]!];
      // A batch larger than ours is told of in several.
      if (some.count === some.capacity || some.fragmentsLeft < batch.fragments[i]!) {
        this.deliver(some);
        some.clear();
      }
      if (!some.push(batch.arena[first]!, batch.offset[first]!, batch.length[first]!, checksum, segmentOctets)) break;
      for (let f = first + 1; f < first + batch.fragments[i]!; f++)
        some.extend(batch.arena[f]!, batch.offset[f]!, batch.length[f]!);
    }
    return some;
  }

  mayFlood(nowMs: number): boolean {
    if (nowMs - this.#floodsAtMs >= 1000) {
      this.#floodsAtMs = nowMs;
      this.#floods = 0;
    }
    return this.#floods++ < FLOODS_PER_SECOND;
  }

  /** A frame from another guest; false: no room. */
  forward(batch: FrameBatch, index: number, start: number, offset: number, segmentOctets: number): boolean {
    const octets = batch.octets[index]!;
    if (this.#queue.length === 0 && this.link.reserve(octets)) {
      copyFrame(batch, index, this.link.txArena.bytes, this.link.txOffset);
      this.link.commit(octets, start, offset, segmentOctets);
      return true;
    }
    const { bytes } = (this.#spare ??= plainArena(LARGEST_FRAME));
    if (octets > bytes.length) return false;
    copyFrame(batch, index, bytes, 0);
    return this.#keep(bytes, octets, start, offset, segmentOctets);
  }

  /** The same for a frame that had to be cut. */
  forwardSegment(cutter: SegmentCutter, index: number): boolean {
    const octets = cutter.octetsOf(index);
    if (this.#queue.length === 0 && this.link.reserve(octets)) {
      cutter.write(index, this.link.txArena, this.link.txOffset);
      this.link.commit(octets, 0, 0, 0);
      return true;
    }
    const spare = (this.#spare ??= plainArena(LARGEST_FRAME));
    cutter.write(index, spare, 0);
    return this.#keep(spare.bytes, octets, 0, 0, 0);
  }

  #keep(bytes: Uint8Array, octets: number, start: number, offset: number, segmentOctets: number): boolean {
    const frame = this.#pool.keep(bytes, 0, octets);
    if (frame < 0) return false;
    this.#queue.push(frame, start, offset, segmentOctets);
    return true;
  }

  #writable(): void {
    while (this.#head < this.#queue.length) {
      const [frame, start, offset, segmentOctets] = [0, 1, 2, 3].map((i) => this.#queue[this.#head + i]!) as Entry;
      const octets = this.#pool.octets(frame);
      if (!this.link.reserve(octets)) break;
      this.#pool.copy(frame, this.link.txArena.bytes, this.link.txOffset);
      this.link.commit(octets, start, offset, segmentOctets);
      this.#pool.free(frame);
      this.#head += 4;
    }
    if (this.#head > 0) this.link.flush();
    this.#queue.splice(0, this.#head);
    this.#head = 0;
    if (this.#queue.length > 0) return;
    this.#refused = false;
    this.#handler?.writable();
  }

  /** Forgets what is kept for a guest that has gone. */
  #drain(): void {
    for (let i = 0; i < this.#queue.length; i += 4) this.#pool.free(this.#queue[i]!);
    this.#queue = [];
    if (!this.#refused) return;
    this.#refused = false;
    this.#handler?.writable();
  }
}

function copyFrame(batch: FrameBatch, index: number, into: Uint8Array, at: number): void {
  let place = at;
  const first = batch.first[index]!;
  for (let f = first; f < first + batch.fragments[index]!; f++) {
    const begin = batch.offset[f]!;
    into.set(batch.arena[f]!.bytes.subarray(begin, begin + batch.length[f]!), place);
    place += batch.length[f]!;
  }
}
