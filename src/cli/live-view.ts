/** Views that are shown again and again until they are interrupted, or nobody reads them any more. */

import { setTimeout as sleep } from 'node:timers/promises';

/** Clears a terminal's screen. */
const CLEAR = '\x1b[H\x1b[2J';

/** Calls `show` every `periodMs`; `first` is true the first time. */
export async function showRepeatedly(periodMs: number, show: (first: boolean) => Promise<void>): Promise<void> {
  const interrupted = new AbortController();
  const stop = (): void => interrupted.abort();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
  process.stdout.once('error', stop);
  for (let first = true; !interrupted.signal.aborted; first = false) {
    await show(first);
    await sleep(periodMs, undefined, { signal: interrupted.signal }).catch(() => undefined);
  }
}

/** Sets what follows apart from what was shown before. */
export function beginView(first: boolean): void {
  process.stdout.write(process.stdout.isTTY ? CLEAR : first ? '' : '\n');
}
