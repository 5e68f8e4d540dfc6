/**
 * Who is where, and whether it can still be reached: what ARP (neighbor.ts) and IPv6's neighbour discovery (ndp.ts) have
 * in common. RFC 4861 5.1, 7.2.2 and 7.3 to 7.3.3; RFC 1122 2.3.2.1 and 2.3.2.2, which it answers for IPv4 as well.
 *
 * Learnt from what guests say and send; pinned by a lease (`pin`), which nothing from another port overrides. Addresses
 * that are not on the link are reached through the guest that was heard last on any port, or through a route (`route`): a
 * guest is the router to its containers.
 *
 * An entry begins as INCOMPLETE where somebody asks for it: all ports are asked, three times a second apart, and then
 * `unreachable` tells that nobody answered. Heard of by itself it is STALE, and only an answer that we asked for, or
 * TCP's acknowledgements, make it REACHABLE, for half a minute. Using a STALE one begins a DELAY of 5 s, in which TCP
 * may confirm it; then it is asked itself (PROBE), and where it is silent it is INCOMPLETE again. Connections keep the
 * address that they have, and doubt it when nothing is acknowledged (`Tcb.context.reroute`): so a frame costs nothing.
 *
 * Timers: one per entry. Limits: `MAX_NEIGHBOURS` entries, the oldest that no lease holds goes; one datagram waits per
 * address, in `MAX_WAITING` entries.
 */

import type { Drops } from './drops.ts';
import type { SwitchPort } from './switch-port.ts';
import { Timer, type TimerWheel } from './timers.ts';
import { DOUBLE_ZERO } from './wire/double.ts';

const MAX_NEIGHBOURS = 1024;
const MAX_WAITING = 64;
/** MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT. RFC 4861 10. */
const MOST_SOLICITATIONS = 3;
/** RetransTimer; RFC 1122 2.3.2.1 has no more requests than one a second, too. */
const RETRANSMIT_MS = 1000;
/** DELAY_FIRST_PROBE_TIME */
const DELAY_MS = 5000;
/** BaseReachableTime, of which between MIN_RANDOM_FACTOR and MAX_RANDOM_FACTOR is taken. RFC 4861 6.3.2. */
const REACHABLE_MS = 30_000;
const LEAST_FACTOR = 0.5;
const FACTOR_SPAN = 1;

/** RFC 4861 7.3.2 */
export type NeighborState = 'INCOMPLETE' | 'REACHABLE' | 'STALE' | 'DELAY' | 'PROBE';

/** Where to send to. */
export interface Neighbor {
  readonly mac: number;
  readonly port: SwitchPort;
}

export class Entry<A> implements Neighbor {
  readonly address: A;
  readonly timer: Timer;
  state: NeighborState = 'INCOMPLETE';
  mac = DOUBLE_ZERO;
  /** Set with the MAC address, which of an INCOMPLETE one is that of before, or none. */
  declare port: SwitchPort;
  pinned = false;
  /** Sent since INCOMPLETE or PROBE began. */
  solicitations = 0;
  delayedAtMs = DOUBLE_ZERO;
  /** Sends the datagram that waits for this address. */
  waiting: (() => void) | undefined = undefined;

  constructor(address: A, expired: (entry: Entry<A>, nowMs: number) => void) {
    this.address = address;
    this.timer = new Timer({ expired: (nowMs) => expired(this, nowMs) });
  }
}

interface Route<A> {
  readonly network: A;
  readonly prefix: number;
  readonly via: A;
}

export interface NeighborCacheOptions {
  readonly ports: () => Iterable<SwitchPort>;
  readonly drops: Drops;
  readonly timers: TimerWheel;
  /** 32 bits. */
  readonly random: () => number;
  /** Asked where a timer is to be armed, not per packet. */
  readonly now: () => number;
  /** A timer was armed, or a frame written. */
  readonly wake: () => void;
  /** An address has become known, or has moved; it was asked for. */
  readonly learnt: (wasAsked: boolean) => void;
  /** Nobody answers for an address. */
  readonly unreachable: () => void;
  /** Upper-layer confirmation: whether what was sent there since then was acknowledged. RFC 4861 7.3.1. */
  readonly confirms: (neighbor: Neighbor, sinceMs: number) => boolean;
}

/** `A`: an address, as the family has them at hand. */
export abstract class NeighborCache<A> {
  readonly #options: NeighborCacheOptions;
  /** In order of age. */
  readonly #entries = new Set<Entry<A>>();
  readonly #routes: Route<A>[] = [];
  /** The guest heard last. */
  #router: Entry<A> | undefined = undefined;
  #waiting = 0;

  constructor(options: NeighborCacheOptions) {
    this.#options = options;
  }

  // What a family adds.

  protected abstract find(address: A): Entry<A> | undefined;
  protected abstract index(entry: Entry<A>): void;
  protected abstract unindex(entry: Entry<A>): void;
  /** An address of the caller's, to be kept. */
  protected abstract copy(address: A): A;
  protected abstract isOnLink(address: A): boolean;
  protected abstract contains(network: A, prefix: number, address: A): boolean;
  /** Notes what `port` has told last, so that it need not be looked up for every frame. */
  protected abstract remember(port: SwitchPort, address: A, mac: number): void;
  /** What `port` tells next is to be looked up. */
  protected abstract unremember(port: SwitchPort): void;
  /** Asks who has an address: whoever is behind `port`, or one neighbour (`mac`). */
  protected abstract solicit(address: A, port: SwitchPort, mac: number | undefined): void;

  // What the stack asks.

  /** Next hop for an address; undefined: nobody known (see `ask`). */
  resolve(address: A): Neighbor | undefined {
    const hop = this.#nextHop(address);
    if (hop === undefined || hop.state === 'REACHABLE') return hop;
    return this.#used(hop);
  }

  /** Asks where an address is. `waiting` sends what waits for it; one that has waited for longer is dropped. */
  ask(address: A, waiting?: () => void): void {
    const hop = this.#nextHop(address) ?? this.#add(address);
    if (hop.state !== 'INCOMPLETE') return;
    if (waiting) this.#wait(hop, waiting);
    if (!hop.timer.armed) this.#askAll(hop, this.#options.now());
    this.#removeOldest();
    this.#options.wake();
  }

  /** Whether an address is being asked for. */
  isAsked(address: A): boolean {
    const hop = this.#nextHop(address);
    return hop?.state === 'INCOMPLETE' && hop.timer.armed;
  }

  /** What was sent there was not acknowledged in time: what confirmed its next hop before counts no more. RFC 1122 3.3.1.4. */
  doubt(address: A): void {
    const hop = this.#nextHop(address);
    if (hop?.state === 'DELAY') hop.delayedAtMs = this.#options.now();
    else if (hop) this.suspect(hop);
  }

  /** A lease: this address is behind this port and MAC address, whatever others say. */
  pin(address: A, port: SwitchPort, mac: number): void {
    this.#place(address, port, mac, true, false);
  }

  unpin(address: A): void {
    const entry = this.find(address);
    if (entry) this.#remove(entry);
  }

  /** Reaches a network through the guest that has the address `via`, ahead of the guest heard last. */
  route(network: A, prefix: number, via: A): void {
    this.#routes.push({ network: this.copy(network), prefix, via: this.copy(via) });
    this.#routes.sort((a, b) => b.prefix - a.prefix);
  }

  /** Forgets all that is behind a port. */
  forget(port: SwitchPort): void {
    for (let i = this.#routes.length - 1; i >= 0; i--)
      if (this.find(this.#routes[i]!.via)?.port === port) this.#routes.splice(i, 1);
    for (const entry of this.#entries) if (entry.port === port) this.#remove(entry);
  }

  // What messages and packets tell.

  /** `address` is behind `port` at `mac`; an answer to what we asked shows that it hears us, too. RFC 4861 7.2.3, 7.2.5. */
  protected learn(port: SwitchPort, address: A, mac: number, isAnswer = false): void {
    const before = this.find(address);
    if (before?.pinned && before.port !== port) return;
    this.remember(port, address, mac);
    if (before && before.state !== 'INCOMPLETE' && before.mac === mac && before.port === port) {
      this.#router = before;
      if (isAnswer) this.#reached(before);
    } else this.#place(address, port, mac, before?.pinned ?? false, isAnswer);
  }

  /** It may have moved, as somebody says who may not say so for certain. RFC 4861 7.2.5. */
  protected suspect(entry: Entry<A>): void {
    if (entry.state !== 'REACHABLE') return;
    entry.state = 'STALE';
    this.#options.timers.cancel(entry.timer);
  }

  // Inside.

  #nextHop(address: A): Entry<A> | undefined {
    const known = this.find(address);
    if (known !== undefined && known.state !== 'INCOMPLETE') return known;
    return this.isOnLink(address) ? known : (this.#gatewayTo(address) ?? known);
  }

  #gatewayTo(address: A): Entry<A> | undefined {
    for (const { network, prefix, via } of this.#routes)
      if (this.contains(network, prefix, address)) return this.find(via) ?? this.#add(via);
    return this.#router;
  }

  /** Something is about to be sent to an entry that is not REACHABLE. RFC 4861 7.3.3. */
  #used(entry: Entry<A>): Neighbor | undefined {
    if (entry.state === 'INCOMPLETE') return undefined;
    if (entry.state === 'STALE') {
      entry.state = 'DELAY';
      entry.delayedAtMs = this.#options.now();
      this.#options.timers.arm(entry.timer, entry.delayedAtMs + DELAY_MS);
      this.#options.wake();
    }
    return entry;
  }

  #expired(entry: Entry<A>, nowMs: number): void {
    const { timers, confirms } = this.#options;
    if (entry.state === 'REACHABLE') entry.state = 'STALE';
    else if (entry.state === 'INCOMPLETE') {
      if (entry.solicitations < MOST_SOLICITATIONS) this.#solicitAll(entry, nowMs);
      else this.#unanswered(entry);
    } else if (confirms(entry, entry.delayedAtMs)) this.#reached(entry);
    // While the link takes nothing, silence says nothing: the guest may be paused.
    else if (entry.port.blocked) timers.arm(entry.timer, nowMs + DELAY_MS);
    else if (entry.state === 'DELAY' || entry.solicitations < MOST_SOLICITATIONS) {
      if (entry.state === 'DELAY') entry.solicitations = 0;
      entry.state = 'PROBE';
      entry.solicitations++;
      this.solicit(entry.address, entry.port, entry.mac);
      timers.arm(entry.timer, nowMs + RETRANSMIT_MS);
    } else {
      // It is where it was no more; what it says next is news.
      this.unremember(entry.port);
      entry.state = 'INCOMPLETE';
      this.#askAll(entry, nowMs);
    }
  }

  #askAll(entry: Entry<A>, nowMs: number): void {
    entry.solicitations = 0;
    this.#solicitAll(entry, nowMs);
  }

  /** Asks for an INCOMPLETE one: on every port, or on that of its lease. */
  #solicitAll(entry: Entry<A>, nowMs: number): void {
    entry.solicitations++;
    if (entry.pinned) this.solicit(entry.address, entry.port, undefined);
    else for (const port of this.#options.ports()) this.solicit(entry.address, port, undefined);
    this.#options.timers.arm(entry.timer, nowMs + RETRANSMIT_MS);
  }

  #unanswered(entry: Entry<A>): void {
    // A lease stands, and whoever is behind the guest may only be reached by it: both are asked for again when needed.
    if (!entry.pinned && entry !== this.#router) this.#remove(entry);
    else this.#dropWaiting(entry);
    this.#options.unreachable();
  }

  #reached(entry: Entry<A>): void {
    const { timers, random, now } = this.#options;
    const factor = LEAST_FACTOR + (FACTOR_SPAN * (random() >>> 0)) / 0x1_0000_0000;
    entry.state = 'REACHABLE';
    timers.arm(entry.timer, now() + REACHABLE_MS * factor);
  }

  /** It is known from now on where an address is. */
  #place(address: A, port: SwitchPort, mac: number, pinned: boolean, isAnswer: boolean): void {
    const entry = this.find(address) ?? this.#add(address);
    this.#entries.delete(entry);
    this.#entries.add(entry);
    const wasAsked = entry.state === 'INCOMPLETE' && entry.timer.armed;
    entry.mac = mac;
    entry.port = port;
    entry.pinned = pinned;
    entry.state = 'STALE';
    this.#options.timers.cancel(entry.timer);
    if (isAnswer) this.#reached(entry);
    this.#router = entry;
    const { waiting } = entry;
    if (waiting) {
      entry.waiting = undefined;
      this.#waiting--;
      waiting();
    }
    this.#options.learnt(wasAsked);
    this.#removeOldest();
  }

  #add(address: A): Entry<A> {
    const entry = new Entry(this.copy(address), (expired, nowMs) => this.#expired(expired, nowMs));
    this.#entries.add(entry);
    this.index(entry);
    return entry;
  }

  #removeOldest(): void {
    if (this.#entries.size <= MAX_NEIGHBOURS) return;
    for (const entry of this.#entries) {
      if (entry.pinned || entry === this.#router) continue;
      this.#remove(entry);
      return;
    }
  }

  #remove(entry: Entry<A>): void {
    const wasAsked = entry.state === 'INCOMPLETE' && entry.timer.armed;
    this.#options.timers.cancel(entry.timer);
    this.#dropWaiting(entry);
    this.unindex(entry);
    this.#entries.delete(entry);
    if (entry === this.#router) this.#router = undefined;
    if (entry.port) this.unremember(entry.port);
    if (wasAsked) this.#options.unreachable();
  }

  /** RFC 4861 7.2.2: one datagram waits, the newest. */
  #wait(entry: Entry<A>, waiting: () => void): void {
    this.#dropWaiting(entry);
    if (this.#waiting >= MAX_WAITING) {
      this.#options.drops.count('no-neighbour');
      return;
    }
    this.#waiting++;
    entry.waiting = waiting;
  }

  #dropWaiting(entry: Entry<A>): void {
    if (!entry.waiting) return;
    entry.waiting = undefined;
    this.#waiting--;
    this.#options.drops.count('no-neighbour');
  }
}
