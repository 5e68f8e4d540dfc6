/**
 * A link made worse: frames that pass it are lost, delayed, held to a rate, repeated, reordered and damaged, each way by
 * rules of its own (conditions.ts). It stands between a link and the stack, and its conditions may change at any time.
 *
 * A frame's way: what nobody has cut or summed is, first; then the first rule about it draws whether it is lost, whether
 * it goes twice, whether a bit of it is turned over; then it waits its turn at the rate (a queue with a bound, whose tail
 * is dropped), and its delay. It is copied into a bounded pool until it is due. Bits are never turned over in the
 * Ethernet header: on a real wire the frame check sequence would have had the frame dropped.
 *
 * Draws are from one sequence per rule and direction, so that the same seed and the same frames give the same losses
 * whatever happens the other way. Without conditions, and when nothing is on its way any more, calls pass straight
 * through; the stack sees a link without offload while there are some.
 *
 * Events: frames from both sides, `writable` of the link, `poll` when `pollAt` has come. Limits: `poolOctets`.
 */

import { CHECKSUM_PARTIAL, CHECKSUM_UNKNOWN, FrameBatch } from '../frame-batch.ts';
import { plainArena } from '../frame-memory.ts';
import type { Arena, Clock, LinkHandler, LinkOffload, LinkPort } from '../port.ts';
import type { ConditionRule, Conditions } from './conditions.ts';
import { DueQueue } from './due-queue.ts';
import { type FrameHeaders, Net } from './frame-headers.ts';
import { FramePool } from './frame-pool.ts';
import { LARGEST_FRAME, SegmentCutter } from './segmentation.ts';

const POOL_OCTETS = 32 << 20;
const BATCH_FRAMES = 256;
const ETHERNET_HEADER = 14;
const NO_OFFLOAD: LinkOffload = { checksum: false, segmentOctets: 0 };

export interface ConditionedLinkOptions {
  readonly clock: Clock;
  /** Octets that both directions together keep. */
  readonly poolOctets?: number;
}

/** What has become of frames, both ways together. */
export interface ConditionCounts {
  lost: number;
  duplicated: number;
  corrupted: number;
  reordered: number;
  /** Beyond a rate's queue. */
  queueFull: number;
  /** Beyond the pool. */
  poolFull: number;
  /** They could not be cut: their headers are not what they claim. */
  malformed: number;
}

/** A rule at work in one direction. */
class Path {
  readonly rule: ConditionRule;
  readonly net: Net | undefined;
  #state: number;
  isBad = false;
  /** When the frame before has left the rate's queue, and when the last one in order is due. */
  freeAtMs = Number.NEGATIVE_INFINITY;
  lastDueMs = Number.NEGATIVE_INFINITY;

  constructor(rule: ConditionRule, seed: number) {
    this.rule = rule;
    this.net = rule.to && new Net(rule.to.address, rule.to.prefix);
    this.#state = seed | 0;
  }

  /** 0 to 1, a sequence by the seed (splitmix32). */
  draw(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let z = this.#state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return ((z ^ (z >>> 16)) >>> 0) / 0x1_0000_0000;
  }

  happens(probability: number): boolean {
    return probability > 0 && this.draw() < probability;
  }

  loses(): boolean {
    const { loss, burst } = this.rule;
    if (!burst) return this.happens(loss);
    // Gilbert-Elliott: the state moves first, then it decides.
    if (this.draw() < (this.isBad ? burst.leave : burst.enter)) this.isBad = !this.isBad;
    return this.happens(this.isBad ? burst.loss : loss);
  }
}

/** One direction: its rules, and what is on its way. */
class Lane {
  readonly due = new DueQueue();
  paths: readonly Path[] = [];
  readonly isUp: boolean;

  constructor(isUp: boolean) {
    this.isUp = isUp;
  }

  use(conditions: Conditions | undefined): void {
    const paths: Path[] = [];
    for (const [i, rule] of (conditions?.rules ?? []).entries())
      if (rule.direction === 'both' || (rule.direction === 'up') === this.isUp)
        paths.push(new Path(rule, Math.imul(conditions!.seed, 0x9e3779b1) + 2 * i + (this.isUp ? 1 : 0)));
    this.paths = paths;
  }

  /** Frames go through it. */
  get isActive(): boolean {
    return this.paths.length > 0 || this.due.size > 0;
  }

  pathOf(headers: FrameHeaders): Path | undefined {
    const peer = this.isUp ? headers.destination : headers.source;
    for (const path of this.paths) if (!path.net || (headers.hasAddresses && path.net.has(peer))) return path;
    return undefined;
  }
}

export class ConditionedLink implements LinkPort {
  readonly counts: ConditionCounts = {
    lost: 0,
    duplicated: 0,
    corrupted: 0,
    reordered: 0,
    queueFull: 0,
    poolFull: 0,
    malformed: 0,
  };
  /** What the link below is to tell its events to. */
  readonly below: LinkHandler;
  readonly #link: LinkPort;
  readonly #clock: Clock;
  readonly #pool: FramePool;
  readonly #up = new Lane(true);
  readonly #down = new Lane(false);
  readonly #cutter = new SegmentCutter();
  readonly #scratch: Arena = plainArena(LARGEST_FRAME);
  readonly #reserved: Arena = plainArena(LARGEST_FRAME);
  readonly #committed = new FrameBatch(1, 1);
  readonly #batch = new FrameBatch(BATCH_FRAMES, 2);
  readonly #given: number[] = [];
  #handler: LinkHandler | undefined;
  /** The reservation at hand is of our own memory. */
  #own = false;
  /** The link has refused a frame that is due. */
  #blocked = false;
  #giving = false;

  constructor(link: LinkPort, options: ConditionedLinkOptions) {
    this.#link = link;
    this.#clock = options.clock;
    this.#pool = new FramePool(options.poolOctets ?? POOL_OCTETS);
    this.below = {
      input: (batch) => this.#input(batch),
      writable: () => {
        this.#blocked = false;
        this.#send(this.#clock.nowMs());
        if (!this.#blocked) this.#handler?.writable();
      },
      deserted: () => {
        this.#forget();
        this.#handler?.deserted?.();
      },
      closed: (error) => {
        this.#forget();
        this.#handler?.closed(error);
      },
    };
  }

  get name(): string {
    return this.#link.name;
  }

  get mtu(): number {
    return this.#link.mtu;
  }

  get offload(): LinkOffload {
    return this.#down.isActive ? NO_OFFLOAD : this.#link.offload;
  }

  get txArena(): Arena {
    return this.#own ? this.#reserved : this.#link.txArena;
  }

  get txOffset(): number {
    return this.#own ? 0 : this.#link.txOffset;
  }

  /** Frames that are on their way now. */
  get kept(): number {
    return this.#up.due.size + this.#down.due.size;
  }

  /** Conditions from now on; what is on its way stays so. Undefined: none. */
  use(conditions: Conditions | undefined): void {
    this.#up.use(conditions);
    this.#down.use(conditions);
  }

  start(handler: LinkHandler): void {
    this.adopt(handler);
    this.#link.start(this.below);
  }

  /** For a link that is started already, and tells its events to `below`. */
  adopt(handler: LinkHandler): void {
    this.#handler = handler;
  }

  reserve(octets: number): boolean {
    this.#own = this.#down.isActive;
    // A link that is full makes the stack wait, as it would alone: `writable` follows.
    return this.#own ? !this.#blocked && octets <= LARGEST_FRAME : this.#link.reserve(octets);
  }

  commit(octets: number, checksumStart: number, checksumOffset: number, segmentOctets: number): void {
    if (!this.#own) {
      this.#link.commit(octets, checksumStart, checksumOffset, segmentOctets);
      return;
    }
    const batch = this.#committed;
    batch.clear();
    batch.push(this.#reserved, 0, octets, checksumStart > 0 ? CHECKSUM_PARTIAL : CHECKSUM_UNKNOWN, segmentOctets);
    this.#offer(this.#down, batch, 0, this.#clock.nowMs());
  }

  flush(): void {
    if (this.#down.due.size > 0) this.#send(this.#clock.nowMs());
    this.#link.flush();
  }

  close(): void {
    this.#forget();
    this.#link.close();
  }

  /** When `poll` is due. */
  pollAt(): number {
    const down = this.#blocked ? Number.POSITIVE_INFINITY : this.#down.due.nextMs;
    return Math.min(this.#up.due.nextMs, down);
  }

  /** Lets go what is due. */
  poll(nowMs: number): void {
    if (this.#down.due.nextMs <= nowMs && !this.#blocked) {
      this.#send(nowMs);
      this.#link.flush();
    }
    if (this.#up.due.nextMs <= nowMs) this.#give(nowMs);
  }

  #input(batch: FrameBatch): void {
    if (!this.#up.isActive) {
      this.#handler?.input(batch);
      return;
    }
    const nowMs = this.#clock.nowMs();
    for (let i = 0; i < batch.count; i++) this.#offer(this.#up, batch, i, nowMs);
    this.#give(nowMs);
  }

  #offer(lane: Lane, batch: FrameBatch, index: number, nowMs: number): void {
    const cutter = this.#cutter;
    const frames = cutter.take(batch, index);
    if (frames === 0) this.counts.malformed++;
    const path = lane.pathOf(cutter.headers);
    for (let i = 0; i < frames; i++) {
      const octets = cutter.octetsOf(i);
      cutter.write(i, this.#scratch, 0);
      if (path) this.#pass(lane, path, octets, nowMs);
      else this.#keep(lane, octets, nowMs);
    }
  }

  /** A frame in the scratch memory meets a rule. */
  #pass(lane: Lane, path: Path, octets: number, nowMs: number): void {
    const { rule } = path;
    const { counts } = this;
    if (path.loses()) {
      counts.lost++;
      return;
    }
    const twice = path.happens(rule.duplicate);
    if (twice) counts.duplicated++;
    if (path.happens(rule.corrupt) && octets > ETHERNET_HEADER) {
      const bit = Math.floor(path.draw() * (octets - ETHERNET_HEADER) * 8);
      this.#scratch.bytes[ETHERNET_HEADER + (bit >> 3)]! ^= 1 << (bit & 7);
      counts.corrupted++;
    }
    this.#queue(lane, path, octets, nowMs);
    if (twice) this.#queue(lane, path, octets, nowMs);
  }

  #queue(lane: Lane, path: Path, octets: number, nowMs: number): void {
    const { rule } = path;
    let atMs = nowMs;
    if (rule.rate !== undefined) {
      const begin = Math.max(nowMs, path.freeAtMs);
      if (((begin - nowMs) * rule.rate) / 8000 + octets > rule.queueOctets && begin > nowMs) {
        this.counts.queueFull++;
        return;
      }
      path.freeAtMs = begin + (octets * 8000) / rule.rate;
      atMs = path.freeAtMs;
    }
    if (path.happens(rule.reorder)) {
      this.counts.reordered++;
      this.#keep(lane, octets, atMs);
      return;
    }
    const jitterMs = rule.jitterMs === 0 ? 0 : (2 * path.draw() - 1) * rule.jitterMs;
    const dueMs = Math.max(atMs + rule.delayMs + jitterMs, path.lastDueMs);
    path.lastDueMs = dueMs;
    this.#keep(lane, octets, dueMs);
  }

  #keep(lane: Lane, octets: number, atMs: number): void {
    const frame = this.#pool.keep(this.#scratch.bytes, 0, octets);
    if (frame < 0) this.counts.poolFull++;
    else lane.due.push(frame, atMs);
  }

  /** Hands what is due to the link. */
  #send(nowMs: number): void {
    const { due } = this.#down;
    while (due.nextMs <= nowMs && !this.#blocked) {
      const octets = this.#pool.octets(due.first);
      if (!this.#link.reserve(octets)) {
        this.#blocked = true;
        return;
      }
      const frame = due.shift();
      this.#pool.copy(frame, this.#link.txArena.bytes, this.#link.txOffset);
      this.#link.commit(octets, 0, 0, 0);
      this.#pool.free(frame);
    }
  }

  /** Hands what is due to the stack, a batch at a time. */
  #give(nowMs: number): void {
    if (this.#giving) return;
    this.#giving = true;
    const { due } = this.#up;
    const batch = this.#batch;
    while (due.nextMs <= nowMs) {
      batch.clear();
      while (due.nextMs <= nowMs && batch.count < BATCH_FRAMES && this.#pool.push(due.first, batch))
        this.#given.push(due.shift());
      this.#handler?.input(batch);
      for (const frame of this.#given) this.#pool.free(frame);
      this.#given.length = 0;
    }
    this.#giving = false;
  }

  /** Drops what is on its way. */
  #forget(): void {
    for (const { due } of [this.#up, this.#down]) while (due.size > 0) this.#pool.free(due.shift());
    this.#blocked = false;
  }
}
