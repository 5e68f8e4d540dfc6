/** Writes records one behind the other into memory that grows with the largest. */

import type { FrameBatch } from '../../stack/port.ts';
import { formatData, type KindName, kinds } from './record.ts';

/** A field's value, by its type. */
export type Value = number | string | Uint8Array | FrameBatch | object | undefined;

const text = new TextEncoder();

export class RecordEncoder {
  #bytes: Uint8Array;
  #end = 0;

  constructor(octets = 1024) {
    this.#bytes = new Uint8Array(octets);
  }

  get octets(): number {
    return this.#end;
  }

  /** What was written. Valid until the next record. */
  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#end);
  }

  clear(): void {
    this.#end = 0;
  }

  record(name: KindName, values: readonly Value[]): void {
    const { code, fields } = kinds[name];
    this.#number(code);
    let i = 0;
    for (const type of Object.values(fields)) {
      const value = values[i++];
      if (type === 'time') this.#time(value as number);
      else if (type === 'number') this.#number(value as number);
      else if (type === 'signed') this.#signed(value as number);
      else if (type === 'octets') this.#octets(value as Uint8Array);
      else if (type === 'text') this.#octets(text.encode(value as string));
      else if (type === 'data') this.#octets(text.encode(formatData(value)));
      else this.#frames(value as FrameBatch);
    }
  }

  #room(octets: number): void {
    const needed = this.#end + octets;
    if (needed <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
    larger.set(this.#bytes.subarray(0, this.#end));
    this.#bytes = larger;
  }

  #number(value: number): void {
    this.#room(8);
    let left = value;
    while (left >= 0x80) {
      this.#bytes[this.#end++] = (left % 0x80) | 0x80;
      left = Math.floor(left / 0x80);
    }
    this.#bytes[this.#end++] = left;
  }

  #time(value: number): void {
    this.#room(8);
    new DataView(this.#bytes.buffer).setFloat64(this.#end, value);
    this.#end += 8;
  }

  #signed(value: number): void {
    this.#number(value < 0 ? -2 * value - 1 : 2 * value);
  }

  #octets(value: Uint8Array, offset = 0, length = value.length): void {
    this.#number(length);
    this.#append(value, offset, length);
  }

  #append(value: Uint8Array, offset: number, length: number): void {
    this.#room(length);
    this.#bytes.set(value.subarray(offset, offset + length), this.#end);
    this.#end += length;
  }

  /** Each frame: its checksum's state, segment size and fragments, which are told apart as the link had them. */
  #frames(batch: FrameBatch): void {
    this.#number(batch.count);
    for (let i = 0; i < batch.count; i++) {
      this.#number(batch.checksum[i]!);
      this.#number(batch.segmentOctets[i]!);
      const first = batch.first[i]!;
      const fragments = batch.fragments[i]!;
      this.#number(fragments);
      for (let f = first; f < first + fragments; f++)
        this.#octets(batch.arena[f]!.bytes, batch.offset[f]!, batch.length[f]!);
    }
  }
}
