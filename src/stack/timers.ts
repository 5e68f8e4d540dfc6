/**
 * Timers: a hierarchical hashed wheel (Varghese and Lauck 1987, schemes 6 and 7). Four levels of 64 slots with a tick
 * of 1 ms, so 64 ms, 4 s, 4 min and 4.6 h; what lies further waits in the last level and is put back when it comes by.
 * `arm` and `cancel` are O(1). `advance` costs what is due, not what is armed nor the time that passed: a bitmap per
 * level says where the next occupied slot is. A timer never fires early, and at most one tick late.
 */

import { DOUBLE_ZERO } from './wire/double.ts';

const LEVELS = 4;
const BITS = 6;
const SLOTS = 1 << BITS;
const MASK = SLOTS - 1;
/** Ticks that the wheel spans. */
const SPAN = 2 ** (LEVELS * BITS);

export interface TimerOwner {
  /** The timer is no longer armed; it may be armed again at once. */
  expired(nowMs: number): void;
}

/** A timer of one owner, made once and armed as often as needed. */
export class Timer {
  readonly owner: TimerOwner;
  /** When it fires; meaningful while armed. */
  deadlineMs = DOUBLE_ZERO;
  /** Place in the wheel, level * 64 + slot; -1: not armed. The wheel's alone. */
  place = -1;
  next: Timer | undefined = undefined;
  previous: Timer | undefined = undefined;

  constructor(owner: TimerOwner) {
    this.owner = owner;
  }

  get armed(): boolean {
    return this.place >= 0;
  }
}

/** The first set bit of a 64-bit map at or after `from`, cyclically, as a distance from `from`; -1: none. */
function distance(low: number, high: number, from: number): number {
  // Rotates the map right by `from`, so that the answer is its lowest set bit.
  let a = low;
  let b = high;
  if (from >= 32) [a, b] = [b, a];
  const turn = from & 31;
  if (turn !== 0) {
    const turned = (a >>> turn) | (b << (32 - turn));
    b = (b >>> turn) | (a << (32 - turn));
    a = turned;
  }
  if (a !== 0) return 31 - Math.clz32(a & -a);
  if (b !== 0) return 63 - Math.clz32(b & -b);
  return -1;
}

export class TimerWheel {
  readonly #heads: (Timer | undefined)[] = new Array(LEVELS * SLOTS).fill(undefined);
  /** Two words per level: which slots are occupied. */
  readonly #occupied = new Int32Array(LEVELS * 2);
  /** The last tick that was served. */
  #tick: number;
  #count = 0;

  constructor(nowMs: number) {
    this.#tick = Math.floor(nowMs);
  }

  /** Timers armed. */
  get size(): number {
    return this.#count;
  }

  /** Arms `timer` for `atMs`, wherever it was before. */
  arm(timer: Timer, atMs: number): void {
    if (timer.place >= 0) this.cancel(timer);
    timer.deadlineMs = atMs;
    this.#count++;
    this.#insert(timer);
  }

  cancel(timer: Timer): void {
    const place = timer.place;
    if (place < 0) return;
    const { next, previous } = timer;
    if (previous) previous.next = next;
    else {
      this.#heads[place] = next;
      if (!next) this.#occupied[place >> 5]! &= ~(1 << (place & 31));
    }
    if (next) next.previous = previous;
    timer.next = undefined;
    timer.previous = undefined;
    timer.place = -1;
    this.#count--;
  }

  /** Fires what is due at `nowMs`. */
  advance(nowMs: number): void {
    const target = Math.floor(nowMs);
    for (;;) {
      const tick = this.#nextTick();
      if (tick > target) break;
      this.#tick = tick;
      // Slots of higher levels that begin at this tick come down first: they may hold timers due now.
      for (let level = LEVELS - 1; level > 0; level--) {
        const width = 2 ** (level * BITS);
        if (tick % width === 0) this.#serve(level * SLOTS + (Math.floor(tick / width) & MASK), nowMs, tick);
      }
      this.#serve(tick & MASK, nowMs, tick);
    }
    if (target > this.#tick) this.#tick = target;
  }

  /** When `advance` is next worth calling; Infinity: nothing is armed. */
  nextMs(): number {
    return this.#count === 0 ? Number.POSITIVE_INFINITY : this.#nextTick();
  }

  #insert(timer: Timer): void {
    const tick = Math.max(Math.ceil(timer.deadlineMs), this.#tick + 1);
    this.#link(timer, Math.min(tick, this.#tick + SPAN - 1));
  }

  #link(timer: Timer, tick: number): void {
    const delta = tick - this.#tick;
    let level = 0;
    while (level < LEVELS - 1 && delta >= 2 ** ((level + 1) * BITS)) level++;
    const place = level * SLOTS + (Math.floor(tick / 2 ** (level * BITS)) & MASK);
    const head = this.#heads[place];
    timer.place = place;
    timer.previous = undefined;
    timer.next = head;
    if (head) head.previous = timer;
    this.#heads[place] = timer;
    this.#occupied[place >> 5]! |= 1 << (place & 31);
  }

  /** The first tick after the last served one at which a slot begins that holds timers. */
  #nextTick(): number {
    let best = Number.POSITIVE_INFINITY;
    for (let level = 0; level < LEVELS; level++) {
      const low = this.#occupied[level * 2]!;
      const high = this.#occupied[level * 2 + 1]!;
      if ((low | high) === 0) continue;
      const width = 2 ** (level * BITS);
      const after = Math.floor(this.#tick / width) + 1;
      const tick = (after + distance(low, high, after & MASK)) * width;
      if (tick < best) best = tick;
    }
    return best;
  }

  /** Fires the due timers of a slot and moves the others to where they belong now. */
  #serve(place: number, nowMs: number, tick: number): void {
    const waiting = this.#heads[place];
    if (!waiting) return;
    if (place >= SLOTS) {
      this.#heads[place] = undefined;
      this.#occupied[place >> 5]! &= ~(1 << (place & 31));
      for (let timer: Timer | undefined = waiting; timer; ) {
        const next: Timer | undefined = timer.next;
        this.#link(timer, Math.max(Math.min(Math.ceil(timer.deadlineMs), tick + SPAN - 1), tick));
        timer = next;
      }
      return;
    }
    // A slot of the first level stands for one tick, and what is armed meanwhile goes to a later one. Each timer is out
    // of the list before its owner is told, so that an owner may arm or cancel any.
    for (let timer = this.#heads[place]; timer; timer = this.#heads[place]) {
      this.cancel(timer);
      timer.owner.expired(nowMs);
    }
  }
}
