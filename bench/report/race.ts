/**
 * The race's results: a file has a JSON object a line, each a repetition of one peer at one MTU. Lines are grouped into
 * sections within which figures may be compared: the same way of attachment, the same MTU, the same file.
 */

import type { Machine } from './machine.ts';
import type { Metric } from './metrics.ts';

/** What of a test is of interest here: figures by name, or an error. */
export type TestResult = Readonly<Record<string, unknown>>;

export interface Repetition {
  readonly peer: string;
  readonly mtu: number;
  readonly rep: number;
  readonly secs: number;
  readonly gso: boolean;
  readonly one: boolean;
  /** Seconds since 1970, when it ended. */
  readonly t: number;
  readonly res: Readonly<Record<string, unknown>>;
}

/** How the guest is attached. */
export type League = 'offload' | 'one' | 'plain' | 'tap';

const tapPeers = /^(slipway-tap|pasta|slirp4netns)/;
/** Bounds of the harness itself, not rivals. */
const limits = /^(bridge2g?|veth|veth-nooff|loopback)$/;

export const isOurs = (peer: string): boolean => peer.startsWith('slipway');
export const isLimit = (peer: string): boolean => limits.test(peer);

const leagueOf = ({ peer, one, gso }: Repetition): League =>
  tapPeers.test(peer) ? 'tap' : one ? 'one' : gso ? 'offload' : 'plain';

/** The value between the lower and the upper half; of an even number, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The first line of a file that `npm run bench -- e2e` wrote: the machine, and the rivals' versions. */
export function readHeader(text: string): { machine: Machine; versions: Readonly<Record<string, string>> } | undefined {
  try {
    const line: unknown = JSON.parse(text.slice(0, text.indexOf('\n')));
    if (!isRecord(line) || !isRecord(line.machine) || !isRecord(line.versions)) return;
    return line as unknown as ReturnType<typeof readHeader>;
  } catch {
    return;
  }
}

/** The lines of a file that are repetitions; others (a header, a line cut short) are left out. */
export function readRepetitions(text: string): Repetition[] {
  const found: Repetition[] = [];
  for (const line of text.split('\n')) {
    let row: unknown;
    try {
      row = JSON.parse(line);
    } catch {
      continue;
    }
    if (!isRecord(row) || typeof row.peer !== 'string' || typeof row.mtu !== 'number' || !isRecord(row.res)) continue;
    const number = (value: unknown): number => (typeof value === 'number' && Number.isFinite(value) ? value : 0);
    found.push({
      peer: row.peer,
      mtu: row.mtu,
      rep: number(row.rep),
      secs: number(row.secs),
      gso: row.gso === true,
      one: row.one === true,
      t: number(row.t),
      res: row.res,
    });
  }
  return found;
}

/** Repetitions that may be compared. */
export class Section {
  readonly league: League;
  readonly mtu: number;
  readonly repetitions: Repetition[] = [];

  constructor(league: League, mtu: number) {
    this.league = league;
    this.mtu = mtu;
  }

  /** Ours first, then the rivals in the order of the file, the harness's limits last. */
  get peers(): readonly string[] {
    const rank = (peer: string): number => (isOurs(peer) ? 0 : isLimit(peer) ? 2 : 1);
    return [...new Set(this.repetitions.map(({ peer }) => peer))].sort((a, b) => rank(a) - rank(b));
  }

  get ours(): string | undefined {
    return this.peers.find(isOurs);
  }

  /** A figure's values, one for each repetition that has it. */
  values(peer: string, { test, field, per = 1 }: Metric): readonly number[] {
    return this.repetitions
      .filter((repetition) => repetition.peer === peer)
      .map(({ res }) => (test === undefined ? res[field] : isRecord(res[test]) ? res[test][field] : undefined))
      .filter((value): value is number => typeof value === 'number' && Number.isFinite(value))
      .map((value) => value / per);
  }

  median(peer: string, metric: Metric): number | undefined {
    const values = this.values(peer, metric);
    return values.length === 0 ? undefined : median(values);
  }

  /** Repetitions that should have had the figure and have not. */
  failed(peer: string, { test, field }: Metric): number {
    return this.repetitions.filter(({ peer: its, res }) => {
      if (its !== peer) return false;
      if (typeof res.error === 'string') return true;
      const result = test === undefined ? undefined : res[test];
      return isRecord(result) && typeof result.error === 'string' && typeof result[field] !== 'number';
    }).length;
  }

  /** The best of the rivals by its median, or of those named. */
  best(metric: Metric, named?: readonly string[]): { readonly peer: string; readonly value: number } | undefined {
    let best: { peer: string; value: number } | undefined;
    for (const peer of this.peers) {
      if (isOurs(peer) || isLimit(peer) || (named && !named.includes(peer)) || !this.#counts(peer, metric)) continue;
      const value = this.median(peer, metric);
      if (value === undefined) continue;
      if (!best || (metric.better === 'more' ? value > best.value : value < best.value)) best = { peer, value };
    }
    return best;
  }

  /** What failed, in words: the run, or a test of it. */
  get failures(): readonly string[] {
    const found = new Map<string, number>();
    const note = (words: string): void => void found.set(words, (found.get(words) ?? 0) + 1);
    for (const { peer, res } of this.repetitions) {
      if (typeof res.error === 'string') note(`${peer}: ${res.error.split('\n')[0]!.slice(0, 120)}`);
      if (typeof res.died_in === 'string') note(`${peer}: ended in ${res.died_in}`);
      for (const [test, result] of Object.entries(res))
        if (isRecord(result) && typeof result.error === 'string')
          note(`${peer}: ${test}: ${result.error.split('\n')[0]!.slice(0, 80)}`);
    }
    return [...found].map(([words, count]) => (count > 1 ? `${words} (${count} times)` : words));
  }

  /** A transfer that hardly moved anything says nothing about CPU, which is counted in hundredths of a second. */
  #counts(peer: string, { test, field }: Metric): boolean {
    if (field !== 'peer_s_per_gb') return true;
    const moved = this.repetitions.flatMap(({ peer: its, res }) => {
      const result = its === peer && test !== undefined ? res[test] : undefined;
      return isRecord(result) && typeof result.bytes === 'number' ? [result.bytes] : [];
    });
    return moved.length === 0 || median(moved) >= 100e6;
  }
}

const order: readonly League[] = ['offload', 'one', 'plain', 'tap'];

/** Sections of one file or several. Of a section that several have, the last file's counts: only one run's figures compare. */
export function sectionsOf(files: readonly (readonly Repetition[])[]): Section[] {
  const all = new Map<string, Section>();
  for (const repetitions of files) {
    const own = new Map<string, Section>();
    for (const repetition of repetitions) {
      const league = leagueOf(repetition);
      const key = `${league} ${repetition.mtu}`;
      let section = own.get(key);
      if (!section) own.set(key, (section = new Section(league, repetition.mtu)));
      section.repetitions.push(repetition);
    }
    for (const [key, section] of own) all.set(key, section);
  }
  return [...all.values()].sort((a, b) => order.indexOf(a.league) - order.indexOf(b.league) || a.mtu - b.mtu);
}
