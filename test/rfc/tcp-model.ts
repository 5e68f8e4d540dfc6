/**
 * A model of RFC 9293's state machine, written from section 3.10.7 with RFC 5961's changes and RFC 1337, that shares no
 * code with the stack. It is told what arrives, and says what must be sent for it; it is shown what was sent, and objects
 * to what may not be. What the RFC leaves open (when to send data, how far to open the window) it learns from that.
 */

const SPACE = 2 ** 32;

/** Octets from `b` to `a` the short way round: negative when `a` is before `b`. */
export function distance(a: number, b: number): number {
  const forward = (((a - b) % SPACE) + SPACE) % SPACE;
  return forward < SPACE / 2 ? forward : forward - SPACE;
}

const plus = (a: number, octets: number): number => (((a + octets) % SPACE) + SPACE) % SPACE;

export interface ModelSegment {
  readonly seq: number;
  readonly ack: number;
  readonly window: number;
  readonly octets: number;
  readonly SYN: boolean;
  readonly FIN: boolean;
  readonly RST: boolean;
  readonly ACK: boolean;
}

const lengthOf = (s: ModelSegment): number => s.octets + (s.SYN ? 1 : 0) + (s.FIN ? 1 : 0);

/** What has to come of a segment. */
export interface Answer {
  /** An acknowledgement: has to be sent, may be (rates of challenges are limited), or need not. */
  ack: 'must' | 'may' | 'none';
  rst: { seq: number; ack: number | undefined } | undefined;
  /** The tuple is taken over, or there is no connection any more that the model could speak of. */
  over: boolean;
}

const CHALLENGES = 5;
/** How long TIME-WAIT lasts; the clock's grain leaves it open for a while about then. */
const TIME_WAIT_MS = 10_000;
const GRAIN_MS = 200;
/** So long nothing is given up, in a handshake and after it. */
const HANDSHAKE_MS = 55_000;
const PATIENCE_MS = 250_000;

export class TcpModel {
  state: string;
  readonly active: boolean;
  iss = 0;
  irs = 0;
  una = 0;
  /** One beyond what was ever sent. */
  max = 0;
  next = 0;
  edge = 0;
  delivered = 0;
  ended = false;
  /** The number after our FIN, once it was seen. */
  finEnd: number | undefined = undefined;
  widest = 0;
  #challenges = 0;
  #quietMs = 0;
  #timeWaitMs = 0;
  #answer: Answer = { ack: 'none', rst: undefined, over: false };
  /** Octets out of order, by their distance from the first there is. */
  readonly #kept = new Set<number>();

  constructor(active: boolean) {
    this.active = active;
    this.state = active ? 'SYN-SENT' : 'SYN-RECEIVED';
  }

  /** A forwarded SYN that was accepted. */
  opened(s: ModelSegment): void {
    this.irs = s.seq;
    this.next = plus(s.seq, 1);
    this.edge = this.next;
  }

  arrive(s: ModelSegment): Answer {
    this.#answer = { ack: 'none', rst: undefined, over: false };
    if (this.state === 'CLOSED') this.#closed(s);
    else if (this.state === 'SYN-SENT') this.#synSent(s);
    else if (this.state === 'TIME-WAIT') this.#timeWait(s);
    else this.#otherwise(s);
    return this.#answer;
  }

  /** Time passes; returns true where what follows depends on timers that the model does not have. */
  pass(ms: number): boolean {
    this.#quietMs += ms;
    if (this.state === 'TIME-WAIT') {
      this.#timeWaitMs += ms;
      if (Math.abs(this.#timeWaitMs - TIME_WAIT_MS) <= GRAIN_MS) return true;
      if (this.#timeWaitMs > TIME_WAIT_MS) this.state = 'CLOSED';
    } else this.#timeWaitMs = 0;
    if (this.state === 'CLOSED') return false;
    return this.#quietMs > (this.state.startsWith('SYN') ? HANDSHAKE_MS : PATIENCE_MS);
  }

  /** Something was sent; returns an objection. */
  observe(s: ModelSegment): string | undefined {
    const syn = this.state === 'SYN-SENT' || this.state === 'SYN-RECEIVED';
    if (s.SYN) {
      if (!syn) return `SYN in ${this.state}`;
      if (this.max === 0 && this.iss === 0) {
        this.iss = s.seq;
        this.una = s.seq;
        this.max = plus(s.seq, 1);
      }
      if (s.seq !== this.iss) return 'another initial sequence number';
      if (s.ACK !== (this.state === 'SYN-RECEIVED')) return 'SYN with a wrong ACK';
    } else if (!s.ACK) return 'a segment without ACK';
    if (this.state === 'SYN-SENT') return s.SYN ? undefined : 'data before the handshake';
    if (s.ack !== this.next) return `acknowledges ${distance(s.ack, this.next)} of RCV.NXT`;
    const edge = plus(s.ack, s.window);
    if (distance(edge, this.edge) < 0) return 'the right edge moved left';
    this.edge = edge;
    const end = plus(s.seq, lengthOf(s));
    // One octet before the window is a keep-alive.
    if (distance(s.seq, this.una) < -1) return 'acknowledged octets are sent again';
    if (s.FIN) {
      if (this.finEnd !== undefined && this.finEnd !== end) return 'two FINs';
      this.finEnd = end;
      if (this.state === 'ESTABLISHED') this.state = 'FIN-WAIT-1';
      else if (this.state === 'CLOSE-WAIT') this.state = 'LAST-ACK';
      else if (!['FIN-WAIT-1', 'CLOSING', 'LAST-ACK'].includes(this.state)) return `FIN in ${this.state}`;
    }
    if (distance(end, this.max) > 0) {
      if (this.finEnd !== undefined && end !== this.finEnd) return 'octets beyond the FIN';
      this.max = end;
    }
    return undefined;
  }

  #acknowledge(): void {
    this.#answer.ack = 'must';
  }

  /** RFC 5961 7: limited; what is beyond the limit may be left out. */
  #challenge(): void {
    this.#answer.ack = this.#challenges++ < CHALLENGES ? 'must' : 'may';
  }

  #reset(seq: number, ack: number | undefined): void {
    this.#answer.rst = { seq, ack };
  }

  /** 3.10.7.1, 3.10.7.2 */
  #closed(s: ModelSegment): void {
    if (s.RST) return;
    if (s.ACK) this.#reset(s.ack, undefined);
    else if (s.SYN) this.#answer.over = true;
    else this.#reset(0, plus(s.seq, lengthOf(s)));
  }

  /** 3.10.7.3 */
  #synSent(s: ModelSegment): void {
    if (s.ACK && (distance(s.ack, this.iss) <= 0 || distance(s.ack, this.max) > 0)) {
      if (!s.RST) this.#reset(s.ack, undefined);
      return;
    }
    if (s.RST) {
      if (s.ACK) this.state = 'CLOSED';
      return;
    }
    if (!s.SYN) return;
    this.opened(s);
    if (!s.ACK) {
      this.state = 'SYN-RECEIVED';
      this.#acknowledge();
      return;
    }
    this.una = s.ack;
    this.widest = s.window;
    this.state = 'ESTABLISHED';
    this.#acknowledge();
  }

  #timeWait(s: ModelSegment): void {
    if (s.RST) return;
    if (s.SYN && !s.ACK && !s.FIN && distance(s.seq, this.next) > 0) {
      this.#answer.over = true;
      return;
    }
    this.#challenge();
    // All but the FIN again may be answered, or not.
    if (!s.FIN || plus(s.seq, lengthOf(s)) !== this.next) this.#answer.ack = 'may';
    else this.#timeWaitMs = 0;
  }

  #acceptable(s: ModelSegment): boolean {
    const window = distance(this.edge, this.next);
    const inside = (seq: number): boolean => distance(seq, this.next) >= 0 && distance(seq, this.next) < window;
    const length = lengthOf(s);
    if (length === 0) return window === 0 ? s.seq === this.next : inside(s.seq);
    if (window === 0) return false;
    const last = plus(s.seq, length - 1);
    // The table has no row for a segment that covers the whole window and more: what is inside is as good as any.
    const covers = distance(s.seq, this.next) < 0 && distance(last, this.edge) >= 0;
    return inside(s.seq) || inside(last) || covers;
  }

  /** 3.10.7.4 */
  #otherwise(s: ModelSegment): void {
    if (!this.#acceptable(s)) {
      if (s.RST) return;
      // With no window nothing is acceptable, but valid acknowledgements are heeded.
      const heeded = s.seq === this.next && s.ACK && !s.SYN && this.state !== 'SYN-RECEIVED';
      if (heeded && !this.#heed(s)) return;
      if (lengthOf(s) > 0) this.#acknowledge();
      else this.#challenge();
      return;
    }
    if (s.RST) {
      if (s.seq === this.next) this.state = 'CLOSED';
      else this.#challenge();
      return;
    }
    if (s.SYN) {
      this.#challenge();
      return;
    }
    if (!s.ACK) return;
    if (this.state === 'SYN-RECEIVED') {
      if (distance(s.ack, this.una) <= 0 || distance(s.ack, this.max) > 0) {
        this.#reset(s.ack, undefined);
        return;
      }
      this.una = plus(this.iss, 1);
      this.state = 'ESTABLISHED';
      this.widest = s.window;
    }
    if (this.#heed(s) && lengthOf(s) > 0) this.#text(s);
  }

  /** Fifth, the ACK bit; false: the segment goes no further. */
  #heed(s: ModelSegment): boolean {
    if (distance(s.ack, this.max) > 0 || distance(s.ack, this.una) < -this.widest) {
      this.#challenge();
      return false;
    }
    if (distance(s.ack, this.una) < 0) return true;
    this.una = s.ack;
    this.widest = Math.max(this.widest, s.window);
    return s.ack !== this.finEnd || !this.#finAcknowledged();
  }

  /** True: nothing follows. */
  #finAcknowledged(): boolean {
    if (this.state === 'FIN-WAIT-1') this.state = 'FIN-WAIT-2';
    else if (this.state === 'CLOSING') this.state = 'TIME-WAIT';
    else if (this.state === 'LAST-ACK') this.state = 'CLOSED';
    else return false;
    if (this.state === 'TIME-WAIT') this.#answer.ack = 'may';
    return this.state !== 'FIN-WAIT-2';
  }

  #text(s: ModelSegment): void {
    if (!['ESTABLISHED', 'FIN-WAIT-1', 'FIN-WAIT-2'].includes(this.state)) {
      this.#answer.ack = 'may';
      return;
    }
    this.#acknowledge();
    const first = plus(this.irs, 1);
    const edge = distance(this.edge, first);
    for (let i = 0; i < s.octets; i++) {
      const at = distance(plus(s.seq, i), first);
      if (at >= this.delivered && at < edge) this.#kept.add(at);
    }
    while (this.#kept.delete(this.delivered)) this.delivered++;
    this.next = plus(first, this.delivered);
    if (!s.FIN || plus(s.seq, s.octets) !== this.next) return;
    this.ended = true;
    this.next = plus(this.next, 1);
    if (distance(this.edge, this.next) < 0) this.edge = this.next;
    if (this.state === 'ESTABLISHED') this.state = 'CLOSE-WAIT';
    else if (this.state === 'FIN-WAIT-1') this.state = 'CLOSING';
    else this.state = 'TIME-WAIT';
  }
}
