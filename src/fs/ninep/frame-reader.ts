/** Cuts a stream of octets into 9P's frames, without a copy where a frame lies within one piece of the stream. */

import { frameOctets } from './codec.ts';
import { HEADER_OCTETS } from './dialect.ts';

export class FrameReader {
  /** The beginning of a frame whose rest is to come. */
  #held = new Uint8Array(256);
  #length = 0;
  /** The largest frame to take. */
  limitOctets: number;

  constructor(limitOctets: number) {
    this.limitOctets = limitOctets;
  }

  /**
   * Hands each whole frame to `take`, valid during the call; while that says false, it stops for good. Returns why the
   * stream is no 9P, after which it must be dropped.
   */
  push(chunk: Uint8Array, take: (bytes: Uint8Array, at: number, end: number) => boolean): string | undefined {
    let at = 0;
    while (at < chunk.length) {
      const whole = this.#length === 0;
      if (!whole) at += this.#fill(chunk, at);
      const bytes = whole ? chunk : this.#held;
      const start = whole ? at : 0;
      const end = whole ? chunk.length : this.#length;
      const octets = frameOctets(bytes, start, end);
      if (octets !== undefined && (octets < HEADER_OCTETS || octets > this.limitOctets))
        return `a frame of ${octets} octets, which must be ${HEADER_OCTETS} to ${this.limitOctets}`;
      if (octets === undefined || end - start < octets) {
        if (whole) {
          this.#hold(chunk, at, chunk.length);
          return undefined;
        }
        continue;
      }
      if (whole) at += octets;
      else this.#length = 0;
      if (!take(bytes, start, start + octets)) return undefined;
    }
    return undefined;
  }

  /** Takes from `chunk` what the held frame lacks, as far as is known; the octets taken. */
  #fill(chunk: Uint8Array, at: number): number {
    const octets = frameOctets(this.#held, 0, this.#length);
    const wanted = Math.min((octets ?? 4) - this.#length, chunk.length - at);
    this.#hold(chunk, at, at + wanted);
    return wanted;
  }

  #hold(chunk: Uint8Array, at: number, end: number): void {
    const length = this.#length + end - at;
    if (length > this.#held.length) {
      const larger = new Uint8Array(
        Math.min(Math.max(length, this.#held.length * 2), Math.max(this.limitOctets, length)),
      );
      larger.set(this.#held.subarray(0, this.#length));
      this.#held = larger;
    }
    this.#held.set(chunk.subarray(at, end), this.#length);
    this.#length = length;
  }
}
