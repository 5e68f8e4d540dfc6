/** What was denied lately, for people to see: one record for flows that are alike, the last `KEPT` of them. */

import type { DenyReason, PolicyFlow } from '../policy.ts';
import type { PolicyProtocol } from './rule.ts';

const KEPT = 128;

export interface Denial {
  readonly direction: 'out' | 'in';
  readonly protocol: PolicyProtocol;
  /** What the guest wanted to reach, a name where somebody else was to resolve it; for `in`, the client. */
  readonly address: string;
  readonly port: number;
  readonly reason: DenyReason;
  /** The rule that decided, where one did. */
  readonly rule?: string;
  /** How many such flows. */
  readonly flows: number;
  /** Since the last of them, in seconds. */
  readonly secondsAgo: number;
}

type Kept = Omit<Denial, 'flows' | 'secondsAgo'> & { flows: number; atMs: number };

export class Denials {
  readonly #kept = new Map<string, Kept>();

  add(flow: PolicyFlow, address: string, reason: DenyReason, rule: string | undefined, nowMs: number): void {
    const { direction = 'out', protocol, port } = flow;
    const key = `${direction} ${protocol} ${address} ${port} ${reason} ${rule}`;
    const before = this.#kept.get(key);
    this.#kept.delete(key);
    const about = { direction, protocol, address, port, reason, ...(rule !== undefined && { rule }) };
    this.#kept.set(key, { ...about, flows: (before?.flows ?? 0) + 1, atMs: nowMs });
    if (this.#kept.size > KEPT) this.#kept.delete(this.#kept.keys().next().value!);
  }

  /** The latest first. */
  list(nowMs: number): Denial[] {
    return [...this.#kept.values()]
      .reverse()
      .map(({ atMs, ...denial }) => ({ ...denial, secondsAgo: Math.round((nowMs - atMs) / 1000) }));
  }
}
