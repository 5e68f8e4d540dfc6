/**
 * What a bad network does to frames, as settings: which frames a rule is about, and what happens to them. The text form
 * is `delay=40ms,loss=1%,rate=10mbit`; several rules are set apart by semicolons, and for each frame the first that is
 * about it holds:
 *
 *     to=10.0.0.0/8,direction=up,loss=5%; delay=40ms,jitter=5ms
 *
 * conditioned-link.ts carries them out.
 */

import { parseAddress, parseSubnet, type Subnet } from '../wire/address.ts';

export interface ConditionRule {
  /** 'up': from the guest; 'down': to it. */
  readonly direction: 'up' | 'down' | 'both';
  /** Only frames to (up) or from (down) this network. */
  readonly to?: Subnet;
  readonly delayMs: number;
  /** The delay varies by up to this much either way. Frames stay in order. */
  readonly jitterMs: number;
  /** Probabilities per frame, 0 to 1. */
  readonly loss: number;
  readonly duplicate: number;
  /** One bit is turned over. */
  readonly corrupt: number;
  /** The frame overtakes those that are delayed. */
  readonly reorder: number;
  /** Losses in bursts (Gilbert-Elliott): probabilities to enter and to leave the bad state, and of a loss in it. */
  readonly burst?: { readonly enter: number; readonly leave: number; readonly loss: number };
  /** Bits a second; undefined: as fast as it goes. */
  readonly rate?: number;
  /** Octets that wait for the rate; more are dropped. */
  readonly queueOctets: number;
}

export interface Conditions {
  readonly rules: readonly ConditionRule[];
  /** The same seed and the same frames: the same losses. */
  readonly seed: number;
  /** As they were written. */
  readonly text: string;
}

export class ConditionsError extends Error {
  readonly code = 'CONDITIONS';
}

/** What waits at a rate, unless it is set: 100 ms of it, as a router's buffer is made, and some frames at least. */
const QUEUE_MS = 100;
const MIN_QUEUE_OCTETS = 32 * 1024;
const MAX_DELAY_MS = 60_000;
const MAX_RATE = 1e12;
const MAX_RULES = 64;

type Settings = { -readonly [name in keyof ConditionRule]?: ConditionRule[name] | undefined };

const keys = [
  'direction',
  'to',
  'delay',
  'jitter',
  'loss',
  'burst',
  'rate',
  'queue',
  'reorder',
  'duplicate',
  'corrupt',
];

/** Throws a `ConditionsError` that says what is wrong. '' and 'none' are no conditions at all: undefined. */
export function parseConditions(text: string): Conditions | undefined {
  const words = text.split(';').map((rule) => rule.trim());
  if (words.every((rule) => rule === '' || rule === 'none')) return undefined;
  if (words.length > MAX_RULES) throw new ConditionsError(`more than ${MAX_RULES} rules`);
  let seed = 1;
  const rules = words
    .filter((rule) => rule !== '')
    .map((rule) =>
      parseRule(rule, (value) => {
        seed = value;
      }),
    );
  return { rules, seed, text };
}

function parseRule(text: string, seed: (value: number) => void): ConditionRule {
  const settings: Settings = {};
  const seen = new Set<string>();
  for (const part of text.split(',')) {
    const [key = '', value, more] = part.split('=').map((word) => word.trim());
    const wrong = (why: string): ConditionsError => new ConditionsError(`'${part.trim()}': ${why}`);
    if (value === undefined || more !== undefined) throw wrong('the form is NAME=VALUE');
    if (seen.has(key)) throw wrong('it is set twice');
    seen.add(key);
    if (key === 'seed') {
      if (!/^\d{1,9}$/.test(value)) throw wrong('a seed is a whole number');
      seed(Number(value));
    } else if (!set(settings, key, value, wrong))
      throw wrong(`there is no such condition; there are ${keys.join(', ')} and seed`);
  }
  return complete(settings, text);
}

type Wrong = (why: string) => ConditionsError;

function set(settings: Settings, key: string, value: string, wrong: Wrong): boolean {
  switch (key) {
    case 'direction':
      if (value !== 'up' && value !== 'down' && value !== 'both') throw wrong('it is up, down or both');
      settings.direction = value;
      return true;
    case 'to': {
      const address = parseAddress(value);
      settings.to = address ? { address, prefix: 128 } : parseSubnet(value);
      if (!settings.to) throw wrong('a network is written as 10.0.0.0/8');
      return true;
    }
    case 'delay':
      settings.delayMs = duration(value, wrong);
      return true;
    case 'jitter':
      settings.jitterMs = duration(value, wrong);
      return true;
    case 'loss':
    case 'reorder':
    case 'duplicate':
    case 'corrupt':
      settings[key] = probability(value, wrong);
      return true;
    case 'burst': {
      const [enter, leave, loss = '100%', more] = value.split('/');
      if (leave === undefined || more !== undefined) throw wrong('the form is ENTER/LEAVE[/LOSS], such as 1%/25%');
      settings.burst = {
        enter: probability(enter!, wrong),
        leave: probability(leave, wrong),
        loss: probability(loss, wrong),
      };
      if (settings.burst.leave === 0) throw wrong('a burst must end at some time');
      return true;
    }
    case 'rate':
      settings.rate = rate(value, wrong);
      return true;
    case 'queue':
      settings.queueOctets = octets(value, wrong);
      return true;
    default:
      return false;
  }
}

function complete(settings: Settings, text: string): ConditionRule {
  const { delayMs = 0, jitterMs = 0, reorder = 0, rate, queueOctets } = settings;
  const wrong: Wrong = (why) => new ConditionsError(`'${text.trim()}': ${why}`);
  if (jitterMs > delayMs) throw wrong('the jitter is larger than the delay');
  if (reorder > 0 && delayMs === 0) throw wrong('reorder needs a delay: what is reordered overtakes what is delayed');
  if (queueOctets !== undefined && rate === undefined) throw wrong('a queue goes with a rate');
  return {
    direction: 'both',
    loss: 0,
    duplicate: 0,
    corrupt: 0,
    ...definite(settings),
    delayMs,
    jitterMs,
    reorder,
    queueOctets: queueOctets ?? Math.max(MIN_QUEUE_OCTETS, Math.round(((rate ?? 0) * QUEUE_MS) / 8000)),
  };
}

function definite(settings: Settings): Partial<ConditionRule> {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
}

/** A number and its unit; undefined when it is anything else. */
function measure(value: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = /^(\d{1,12}(?:\.\d{1,9})?)([a-z%]*)$/i.exec(value);
  const unit = match?.[2]?.toLowerCase() ?? '';
  return !match || !Object.hasOwn(units, unit) ? undefined : Number(match[1]) * units[unit]!;
}

function duration(value: string, wrong: Wrong): number {
  const ms = measure(value, { us: 0.001, ms: 1, s: 1000 });
  if (ms === undefined) throw wrong('a time has a unit: 500us, 40ms or 1.5s');
  if (ms > MAX_DELAY_MS) throw wrong(`more than ${MAX_DELAY_MS / 1000} s`);
  return ms;
}

function probability(value: string, wrong: Wrong): number {
  const share = measure(value, { '%': 0.01 });
  if (share === undefined || share > 1) throw wrong('a share is written as 0% to 100%');
  return share;
}

function rate(value: string, wrong: Wrong): number {
  const bits = measure(value, { bit: 1, kbit: 1e3, mbit: 1e6, gbit: 1e9 });
  if (bits === undefined) throw wrong('a rate has a unit: 64kbit, 10mbit or 1gbit');
  if (bits < 1000 || bits > MAX_RATE) throw wrong('a rate is from 1kbit to 1000gbit');
  return bits;
}

function octets(value: string, wrong: Wrong): number {
  const number = measure(value, { '': 1, k: 2 ** 10, m: 2 ** 20 });
  if (number === undefined || number < 1) throw wrong('a queue is a number of octets, such as 64k');
  return Math.round(number);
}
