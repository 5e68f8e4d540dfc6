/**
 * What is in flight: the numbers from SND.UNA to SND.NXT as runs of octets that went out together and have fared alike
 * since. It is the scoreboard of RFC 6675 and the transmission times of RFC 8985 in one. A stream that loses nothing has
 * a run for each `poll` that sent something, so that it costs next to nothing; a block that the peer reports splits a
 * run, and neighbours of one fate join again.
 *
 * Limit: `MAX_RUNS`; a block that would make more is not heeded, and what it reports may be sent again.
 */

import { DOUBLE_ZERO } from '../wire/double.ts';
import { type Seq, seq, seqAdd, seqGt, seqLeq, seqLt, seqMax, seqSub } from './seq.ts';

const MAX_RUNS = 2048;

export interface Run {
  start: Seq;
  end: Seq;
  sentAtMs: number;
  /** It was sent before, too. */
  again: boolean;
  /** Lost: and not sent again since. */
  fate: 'flying' | 'sacked' | 'lost';
}

export class Flight {
  readonly runs: Run[] = [];
  readonly #spare: Run[] = [];
  sackedOctets = 0;
  lostOctets = 0;
  /** RACK.xmit_ts, RACK.end_seq and RACK.rtt, of what was sent last of all that has arrived; -1: nothing has. RFC 8985 5.2 */
  lastSentAtMs = -1;
  lastEnd: Seq = seq(0);
  lastRttMs = DOUBLE_ZERO;
  /** RACK.fack: the highest number that has arrived; and as it was before the acknowledgement at hand. */
  forward: Seq = seq(0);
  #forwardBefore: Seq = seq(0);
  /** RACK.reordering_seen */
  reordered = false;
  /** What the acknowledgement at hand measured on octets that were sent once; -1: nothing. RFC 6298 3 */
  sampleMs = -1;
  /** It was about octets that had been sent again. */
  heardOfAgain = false;

  /** The first number will be `iss`. */
  start(iss: Seq): void {
    this.lastEnd = iss;
    this.forward = iss;
  }

  /** Octets from `start` on go out for the first time; they follow what is in flight. */
  sent(start: Seq, end: Seq, nowMs: number): void {
    const { runs } = this;
    const last = runs[runs.length - 1];
    if (last && last.fate === 'flying' && !last.again && (last.sentAtMs === nowMs || runs.length >= MAX_RUNS)) {
      last.end = end;
      last.sentAtMs = nowMs;
      return;
    }
    runs.push(this.#make(start, end, nowMs, false, 'flying'));
  }

  /** The first `octets` of run `index`, which is lost, go out again. */
  resent(index: number, octets: number, nowMs: number): void {
    const { runs } = this;
    const run = runs[index]!;
    if (octets < seqSub(run.end, run.start)) this.#split(index, seqAdd(run.start, octets));
    if (run.fate === 'lost') this.lostOctets -= octets;
    else if (run.fate === 'sacked') this.sackedOctets -= octets;
    run.fate = 'flying';
    run.again = true;
    run.sentAtMs = nowMs;
    const before = runs[index - 1];
    if (before && before.fate === 'flying' && before.again && (before.sentAtMs === nowMs || runs.length > MAX_RUNS)) {
      before.end = run.end;
      before.sentAtMs = nowMs;
      this.#remove(index);
    }
  }

  /** An acknowledgement is at hand: what follows is about it. */
  begin(): void {
    this.#forwardBefore = this.forward;
    this.sampleMs = -1;
    this.heardOfAgain = false;
  }

  /** SND.UNA moves to `ack`. `leastRttMs`: no round trip is shorter. */
  acknowledge(ack: Seq, nowMs: number, leastRttMs: number): void {
    const { runs } = this;
    for (let run = runs[0]; run && seqLt(run.start, ack); run = runs[0]) {
      const whole = seqLeq(run.end, ack);
      const end = whole ? run.end : ack;
      const octets = seqSub(end, run.start);
      if (run.fate === 'sacked') this.sackedOctets -= octets;
      else {
        if (run.fate === 'lost') this.lostOctets -= octets;
        this.#arrived(run, end, nowMs, leastRttMs);
      }
      if (whole) this.#spare.push(runs.shift()!);
      else run.start = ack;
    }
  }

  /** The peer has the octets from `left` to `right`; returns how many of them that is news of. */
  sack(left: Seq, right: Seq, nowMs: number, leastRttMs: number): number {
    const { runs } = this;
    const before = this.sackedOctets;
    for (let i = this.#firstAfter(left); i < runs.length && seqLt(runs[i]!.start, right); i++) {
      if (runs[i]!.fate === 'sacked') continue;
      if (seqLt(runs[i]!.start, left)) {
        if (runs.length >= MAX_RUNS) continue;
        this.#split(i++, left);
      }
      const run = runs[i]!;
      if (seqGt(run.end, right)) {
        if (runs.length >= MAX_RUNS) break;
        this.#split(i, right);
      }
      const octets = seqSub(run.end, run.start);
      if (run.fate === 'lost') this.lostOctets -= octets;
      this.sackedOctets += octets;
      this.#arrived(run, run.end, nowMs, leastRttMs);
      run.fate = 'sacked';
      if (this.#join(i)) i--;
    }
    return this.sackedOctets - before;
  }

  /** Run `index` is lost; returns the index of the run that it is in from now on. */
  lose(index: number): number {
    const run = this.runs[index]!;
    this.lostOctets += seqSub(run.end, run.start);
    run.fate = 'lost';
    return this.#join(index) ? index - 1 : index;
  }

  /** The first octets are lost, as many as a segment holds. RFC 6582 3.2 */
  loseFirst(octets: number): void {
    const run = this.runs[0];
    if (run?.fate !== 'flying') return;
    if (octets < seqSub(run.end, run.start)) this.#split(0, seqAdd(run.start, octets));
    this.lose(0);
  }

  /** All that the peer has not reported is lost: the timer expired. */
  loseAll(): void {
    for (let i = 0; i < this.runs.length; i++) if (this.runs[i]!.fate === 'flying') i = this.lose(i);
  }

  /** Nothing was lost after all; what was not sent again is still on its way. */
  findAll(): void {
    for (const run of this.runs) if (run.fate === 'lost') run.fate = 'flying';
    this.lostOctets = 0;
  }

  /** The peer may have thrown away what it reported. RFC 2018 8 */
  forgetSacks(): void {
    for (const run of this.runs) if (run.fate === 'sacked') run.fate = 'flying';
    this.sackedOctets = 0;
  }

  /** The index of the first run that is lost; there is one. */
  firstLost(): number {
    const { runs } = this;
    let i = 0;
    while (runs[i]!.fate !== 'lost') i++;
    return i;
  }

  /** Splits the last `octets` off the last run; returns the index of the run that they are. */
  splitTail(octets: number): number {
    const { runs } = this;
    const last = runs.length - 1;
    const run = runs[last]!;
    if (seqSub(run.end, run.start) <= octets) return last;
    this.#split(last, seqAdd(run.end, -octets));
    return last + 1;
  }

  clear(): void {
    this.runs.length = 0;
    this.#spare.length = 0;
    this.sackedOctets = 0;
    this.lostOctets = 0;
  }

  /** The octets of `run` up to `end` have arrived. RFC 8985 6.2, steps 1 to 3. */
  #arrived(run: Run, end: Seq, nowMs: number, leastRttMs: number): void {
    const rttMs = nowMs - run.sentAtMs;
    if (run.again) {
      this.heardOfAgain = true;
      // It is rather the one of before that has arrived.
      if (rttMs < leastRttMs) return;
    } else {
      this.sampleMs = rttMs;
      if (seqLt(end, this.#forwardBefore)) this.reordered = true;
    }
    this.forward = seqMax(this.forward, end);
    if (run.sentAtMs < this.lastSentAtMs) return;
    if (run.sentAtMs === this.lastSentAtMs && seqLeq(end, this.lastEnd)) return;
    this.lastSentAtMs = run.sentAtMs;
    this.lastEnd = end;
    this.lastRttMs = rttMs;
  }

  /** The first run that ends after `at`. */
  #firstAfter(at: Seq): number {
    const { runs } = this;
    let low = 0;
    let high = runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (seqLeq(runs[middle]!.end, at)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #split(index: number, at: Seq): void {
    const run = this.runs[index]!;
    this.runs.splice(index + 1, 0, this.#make(at, run.end, run.sentAtMs, run.again, run.fate));
    run.end = at;
  }

  /** Makes run `index` one with neighbours of its fate; true: with the one before it. When these were sent matters no more. */
  #join(index: number): boolean {
    const { runs } = this;
    const run = runs[index]!;
    const after = runs[index + 1];
    if (after?.fate === run.fate) {
      this.#swallow(run, after);
      this.#remove(index + 1);
    }
    const before = runs[index - 1];
    if (before?.fate !== run.fate) return false;
    this.#swallow(before, run);
    this.#remove(index);
    return true;
  }

  #swallow(run: Run, next: Run): void {
    run.end = next.end;
    run.again ||= next.again;
    run.sentAtMs = Math.max(run.sentAtMs, next.sentAtMs);
  }

  #remove(index: number): void {
    const [run] = this.runs.splice(index, 1);
    this.#spare.push(run!);
  }

  #make(start: Seq, end: Seq, sentAtMs: number, again: boolean, fate: Run['fate']): Run {
    const run = this.#spare.pop() ?? { start, end, sentAtMs, again, fate };
    run.start = start;
    run.end = end;
    run.sentAtMs = sentAtMs;
    run.again = again;
    run.fate = fate;
    return run;
  }
}
