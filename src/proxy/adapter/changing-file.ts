/**
 * A small file of the host's that may change at any time, be swapped, go and come back: read again when it has, and looked
 * at (one stat, which follows links, so that a swapped link counts) at most once in `LOOK_MS`, and only while it is asked
 * for. A file that is gone, unreadable or too large is an empty one.
 */

import { readFileSync, statSync } from 'node:fs';
import type { Clock } from '../../stack/port.ts';

/** Shorter than it takes somebody to change the file and ask; many questions within it cost one look. */
export const LOOK_MS = 1;
const LARGEST_FILE = 8 << 20;

/** What tells a file as it is now, links followed, from another and from what it was; its octets. Throws as `statSync` does. */
export function lookAt(path: string): { readonly stamp: string; readonly octets: bigint } {
  const { dev, ino, size, mtimeNs } = statSync(path, { bigint: true });
  return { stamp: `${dev} ${ino} ${size} ${mtimeNs}`, octets: size };
}

export class ChangingFile<T> {
  readonly #clock: Clock;
  readonly #read: (text: string) => T;
  #path: string;
  #value: T;
  #stamp = 'none';
  #nextLookMs = Number.NEGATIVE_INFINITY;

  /** `path` '': no file at all. */
  constructor(clock: Clock, path: string, read: (text: string) => T) {
    this.#clock = clock;
    this.#path = path;
    this.#read = read;
    this.#value = read('');
  }

  /** Another file from now on; or the same, read anew. */
  use(path = this.#path): void {
    this.#path = path;
    this.#stamp = '';
    this.#nextLookMs = Number.NEGATIVE_INFINITY;
  }

  /** What is read of it now: the same as before as long as nothing has changed. */
  current(): T {
    const nowMs = this.#clock.nowMs();
    if (nowMs >= this.#nextLookMs) {
      this.#nextLookMs = nowMs + LOOK_MS;
      this.#look();
    }
    return this.#value;
  }

  #look(): void {
    let stamp = 'none';
    let text = '';
    try {
      if (this.#path !== '') {
        const found = lookAt(this.#path);
        stamp = found.stamp;
        if (stamp !== this.#stamp && found.octets <= LARGEST_FILE) text = readFileSync(this.#path, 'utf8');
      }
    } catch {
      // It may have gone since.
    }
    if (stamp === this.#stamp) return;
    this.#stamp = stamp;
    this.#value = this.#read(text);
  }
}
