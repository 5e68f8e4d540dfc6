/** Two streams of Node's joined both ways: each end's back-pressure and half-close reach the other; a failure ends both. */

import type { Duplex } from 'node:stream';

/** `head` was read from `a` already. */
export function joinStreams(a: Duplex, b: Duplex, head?: Uint8Array): void {
  if (head && head.length > 0) b.write(head);
  a.pipe(b);
  b.pipe(a);
  for (const [one, other] of [
    [a, b],
    [b, a],
  ] as const) {
    one.on('error', () => other.destroy());
    one.once('close', () => {
      if (!one.readableEnded || !one.writableFinished) other.destroy();
    });
    if (one.destroyed) other.destroy();
  }
}
