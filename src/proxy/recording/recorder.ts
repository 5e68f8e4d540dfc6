/**
 * Keeps what passes between a network and its outside, as records (record.ts) in chunks.
 *
 * Time is a part of an event: the clock is read when one begins, and stands still until the next, so that whatever a
 * network does with the time needs no record of its own. Events that happen within a call belong to that call's event.
 *
 * Memory is bounded by a chunk and the largest record. A sink that throws, such as a full disk, ends the recording, which
 * `failed` is told, and nothing else.
 */

import type { Clock } from '../../stack/port.ts';
import { CHUNK, chunkHeader, HEADER } from './chunk.ts';
import type { KindName } from './record.ts';
import { RecordEncoder, type Value } from './record-encoder.ts';

export interface RecorderOptions {
  /** The time, as it is. */
  readonly clock: Clock;
  /** Takes octets, which are the recorder's again on return. May throw. */
  readonly sink: (octets: Uint8Array) => void;
  /** Nothing more is kept, because of this. */
  readonly failed?: (error: Error) => void;
}

export class Recorder {
  readonly #options: RecorderOptions;
  readonly #chunk = new RecordEncoder(2 * CHUNK);
  #nowMs: number;
  #calls = 0;
  #ended = false;
  /** The time of the event under way, or of the last. */
  readonly clock: Clock = { nowMs: () => this.#nowMs };

  /** `of` is what the network is made of. */
  constructor(options: RecorderOptions, of: Readonly<Record<string, unknown>>) {
    this.#options = options;
    this.#nowMs = options.clock.nowMs();
    this.#give(HEADER);
    this.#record('made', [{ ...of, startMs: this.#nowMs }]);
  }

  /** The outside tells something, by `run`. */
  event<T>(name: KindName, values: readonly Value[], run: () => T): T {
    if (this.#calls > 0) this.#record('nested', []);
    else this.#nowMs = this.#options.clock.nowMs();
    this.#record(name, [this.#nowMs, ...values]);
    const calls = this.#calls;
    this.#calls = 0;
    try {
      return run();
    } finally {
      this.#calls = calls;
    }
  }

  /** The network asks or tells something, and is answered by `run`. */
  call<T>(name: KindName, values: readonly Value[], run: () => T): T {
    this.#record(name, values);
    this.#calls++;
    try {
      return run();
    } catch (error) {
      const { message, code } = error as Error & { code?: unknown };
      this.#record('threw', [{ message, code }]);
      throw error;
    } finally {
      this.#calls--;
    }
  }

  /** The same, of which a number or a yes or no is kept. */
  callFor<T extends number | boolean>(name: KindName, values: readonly Value[], run: () => T): T {
    const result = this.call(name, values, run);
    this.gave(Number(result));
    return result;
  }

  gave(result: number): void {
    this.#record('gave', [result]);
  }

  gaveOctets(octets: Uint8Array): void {
    this.#record('gave octets', [octets]);
  }

  gaveText(text: string): void {
    this.#record('gave text', [text]);
  }

  gaveData(data: unknown): void {
    this.#record('gave data', [data as Value]);
  }

  /** Hands on what is there. */
  flush(): void {
    if (this.#ended || this.#chunk.octets === 0) return;
    const records = this.#chunk.bytes;
    this.#give(chunkHeader(records));
    this.#give(records);
    this.#chunk.clear();
  }

  /** Ends the recording in order. */
  end(): void {
    this.#record('end', []);
    this.flush();
    this.#ended = true;
  }

  #record(name: KindName, values: readonly Value[]): void {
    if (this.#ended) return;
    this.#chunk.record(name, values);
    if (this.#chunk.octets >= CHUNK) this.flush();
  }

  #give(octets: Uint8Array): void {
    if (this.#ended) return;
    try {
      this.#options.sink(octets);
    } catch (error) {
      this.#ended = true;
      this.#options.failed?.(error as Error);
    }
  }
}
