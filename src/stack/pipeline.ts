/**
 * The reactive edge: link -> taps -> netstack -> link, and the schedule of polls. Batches are observed here, never
 * frames: taps (captures, metrics) get one emission per batch, during which the batch is valid; they look, they do not
 * hold up. What the stack sends is shown as it is committed, a batch of one: the memory it lies in is the link's again
 * after that, and may hold the next frame. A tap that throws is reported by rxjs, outside of this, and stops no frame.
 *
 * Conditions (a network made worse) are the world beyond the taps: a capture has what the stack has sent, before it is
 * lost, and what has reached it.
 *
 * The pipeline owns no timer: the composition root gives it a clock and a way to be called later.
 */

import type { Observable } from 'rxjs';
// The whole of rxjs would cost the core alone a tenth of a second and 4 MB; this is one file of it.
import { Subject } from 'rxjs/internal/Subject';
import { CHECKSUM_PARTIAL, CHECKSUM_VERIFIED, FrameBatch } from './frame-batch.ts';
import { type ConditionCounts, ConditionedLink } from './link/conditioned-link.ts';
import type { Conditions } from './link/conditions.ts';
import { PassingLink } from './link/passing-link.ts';
import type { Netstack } from './netstack.ts';
import type { Clock, LinkHandler, LinkPort } from './port.ts';

/** Frames that passed a link together. Valid during the emission only. */
export interface TappedBatch {
  readonly link: string;
  readonly ingress: number;
  readonly mtu: number;
  readonly direction: 'from-guest' | 'to-guest';
  readonly batch: FrameBatch;
  readonly nowMs: number;
}

/** What has deadlines of its own and is polled along with the stack, such as the DNS forwarder. */
export interface Polled {
  pollAt(): number;
  poll(nowMs: number): void;
}

export interface PipelineOptions {
  readonly netstack: Netstack;
  readonly services?: readonly Polled[];
  readonly clock: Clock;
  /** Calls `run` soon (in this turn of the event loop or the next), or at a time by the clock. A later call replaces an earlier `at`. */
  readonly schedule: (at: number | 'soon', run: () => void) => void;
  /** Calls `run` when nothing else has come at once, or a little later in any case: then nothing is put off until there is an answer. */
  readonly whenQuiet?: (run: () => void) => void;
  /** Octets that one poll may send on each link. */
  readonly budgetOctets?: number;
}

/** A poll's output in one piece: the socket's writes and the guest's interrupts are as large as that. */
const BUDGET_OCTETS = 1 << 21;

export class Pipeline {
  readonly #netstack: Netstack;
  readonly #services: readonly Polled[];
  readonly #clock: Clock;
  readonly #schedule: PipelineOptions['schedule'];
  readonly #budgetOctets: number;
  readonly #batches = new Subject<TappedBatch>();
  readonly #run = (): void => this.#due();
  readonly #ranSoon = (): void => {
    this.#called = false;
    if (this.#wanted) this.run();
  };
  readonly #links = new Set<TappedLink>();
  /** Links that have conditions, or had some. */
  readonly #conditioned = new Set<ConditionedLink>();
  #conditions: Conditions | undefined;
  /** Somebody has work and no poll has been since. */
  #wanted = false;
  /** The schedule will call soon. */
  #called = false;
  #running = false;
  /** When the schedule will call; Infinity: it will not. */
  #at: number = Number.POSITIVE_INFINITY;

  constructor(options: PipelineOptions) {
    this.#netstack = options.netstack;
    this.#services = options.services ?? [];
    this.#clock = options.clock;
    this.#schedule = options.schedule;
    this.#budgetOctets = options.budgetOctets ?? BUDGET_OCTETS;
    this.#netstack.onWork = () => this.wake();
    const { whenQuiet } = options;
    const quiet = (): void => {
      this.#netstack.quiet();
      this.run();
    };
    if (whenQuiet) this.#netstack.onPutOff = () => whenQuiet(quiet);
  }

  /** Every batch of every link that is attached with taps. */
  get batches(): Observable<TappedBatch> {
    return this.#batches.asObservable();
  }

  /**
   * Plugs a link in; its frames pass the taps if anyone observes `batches`. `plug`: what stands between the taps and the
   * stack, such as a switch, and has frames of its own for the link.
   */
  attach(link: LinkPort, plug?: (tapped: LinkPort) => LinkPort): number {
    const tapped = new TappedLink(link, this.#batches, this.#clock, {
      ran: () => this.run(),
      closed: () => {
        this.#links.delete(tapped);
        if (tapped.conditioned) this.#conditioned.delete(tapped.conditioned);
      },
    });
    this.#links.add(tapped);
    const ingress = this.#netstack.attach(plug?.(tapped) ?? tapped);
    tapped.ingress = ingress;
    if (this.#conditions) this.#conditioned.add(tapped.condition(this.#conditions));
    return ingress;
  }

  /** Makes every link worse from now on, those to come as well; undefined: no more. What is on its way stays so. */
  condition(conditions: Conditions | undefined): void {
    this.#conditions = conditions;
    for (const link of this.#links)
      if (conditions || link.conditioned) this.#conditioned.add(link.condition(conditions));
  }

  get conditions(): Conditions | undefined {
    return this.#conditions;
  }

  /** What conditions have done to frames, link by link. */
  conditionCounts(): Readonly<ConditionCounts>[] {
    return [...this.#conditioned].map(({ counts }) => counts);
  }

  /** Work is ready: polls soon, once for all who call before that. */
  wake(): void {
    if (this.#running) return;
    this.#wanted = true;
    if (this.#called) return;
    this.#called = true;
    this.#schedule('soon', this.#ranSoon);
  }

  /** Polls now, and sees to it that the next poll comes in time. */
  run(): void {
    if (this.#running) return;
    this.#running = true;
    this.#wanted = false;
    const nowMs = this.#clock.nowMs();
    for (const service of this.#services) service.poll(nowMs);
    for (const link of this.#conditioned) link.poll(nowMs);
    this.#netstack.poll(nowMs, this.#budgetOctets);
    this.#running = false;
    let next = this.#netstack.pollAt();
    for (const service of this.#services) next = Math.min(next, service.pollAt());
    for (const link of this.#conditioned) next = Math.min(next, link.pollAt());
    // The budget is spent and there is more: let host sockets and other links have their turn first.
    if (next <= nowMs) this.wake();
    else if (next < this.#at) {
      this.#at = next;
      this.#schedule(next, this.#run);
    }
  }

  #due(): void {
    this.#at = Number.POSITIVE_INFINITY;
    this.run();
  }
}

interface TappedLinkEvents {
  /** Frames have come in: whoever polls should look. */
  ran(): void;
  closed(): void;
}

/**
 * A link whose batches are shown to a subject on their way, while anyone looks, and that may be given conditions: these
 * then stand before the link, in its place.
 */
class TappedLink extends PassingLink {
  readonly #batches: Subject<TappedBatch>;
  readonly #clock: Clock;
  readonly #events: TappedLinkEvents;
  readonly #out = new FrameBatch(1, 1);
  /** What the taps and the stack get, and what the link tells: the same, or conditions stand between. */
  #above: LinkHandler | undefined;
  #below: LinkHandler | undefined;
  conditioned: ConditionedLink | undefined;
  ingress = 0;

  constructor(link: LinkPort, batches: Subject<TappedBatch>, clock: Clock, events: TappedLinkEvents) {
    super(link);
    this.#batches = batches;
    this.#clock = clock;
    this.#events = events;
  }

  start(handler: LinkHandler): void {
    this.#above = {
      input: (batch) => {
        if (this.#batches.observed) this.#show('from-guest', batch);
        handler.input(batch);
      },
      writable: () => handler.writable(),
      deserted: () => handler.deserted?.(),
      closed: (error) => handler.closed(error),
    };
    this.#below ??= this.#above;
    this.link.start({
      input: (batch) => {
        this.#below?.input(batch);
        this.#events.ran();
      },
      writable: () => this.#below?.writable(),
      deserted: () => this.#below?.deserted?.(),
      closed: (error) => {
        this.#below?.closed(error);
        this.#events.closed();
      },
    });
  }

  /** Puts conditions before the link, which has been started. */
  condition(conditions: Conditions | undefined): ConditionedLink {
    let { conditioned } = this;
    if (!conditioned) {
      conditioned = this.conditioned = new ConditionedLink(this.link, { clock: this.#clock });
      if (this.#above) conditioned.adopt(this.#above);
      this.link = conditioned;
      this.#below = conditioned.below;
    }
    conditioned.use(conditions);
    return conditioned;
  }

  override commit(octets: number, checksumStart: number, checksumOffset: number, segmentOctets: number): void {
    if (this.#batches.observed) {
      const out = this.#out;
      out.clear();
      const checksum = checksumStart > 0 ? CHECKSUM_PARTIAL : CHECKSUM_VERIFIED;
      out.push(this.link.txArena, this.link.txOffset, octets, checksum, segmentOctets);
      this.#show('to-guest', out);
    }
    super.commit(octets, checksumStart, checksumOffset, segmentOctets);
  }

  #show(direction: TappedBatch['direction'], batch: FrameBatch): void {
    const { ingress, name, mtu } = this;
    this.#batches.next({ link: name, ingress, mtu, direction, batch, nowMs: this.#clock.nowMs() });
  }
}
