/** Reads a recording: its header, chunks as they are asked for, and the records in them. Whatever the octets, it ends or throws a `RecordingError`. */

import { CHUNK_HEADER, HEADER, LARGEST_CHUNK } from './chunk.ts';
import { octetWord } from './octet-sum.ts';
import { type Kind, type KindName, kindOf, kinds, parseData, RecordingError } from './record.ts';

/** Up to so many of the next octets of the file; fewer at its end. */
export type Source = (octets: number) => Uint8Array;

/** A frame as it came in, by its fragments. */
export interface RecordedFrame {
  readonly checksum: number;
  readonly segmentOctets: number;
  readonly fragments: readonly Uint8Array[];
}

export type DecodedValue = number | string | Uint8Array | readonly RecordedFrame[] | unknown;

export interface DecodedRecord {
  readonly name: KindName;
  readonly values: Readonly<Record<string, DecodedValue>>;
  /** As it stands in the file. */
  readonly bytes: Uint8Array;
  /** Where in the file. */
  readonly offset: number;
}

const text = new TextDecoder('utf-8', { fatal: true });

export class RecordDecoder {
  readonly #source: Source;
  #chunk: Uint8Array = new Uint8Array(0);
  /** Of the chunk's first octet in the file. */
  #chunkAt = 0;
  #at = 0;
  #next: DecodedRecord | undefined;
  /** Records taken. */
  count = 0;

  constructor(source: Source) {
    this.#source = source;
    const header = source(HEADER.length);
    if (header.length < HEADER.length || header.some((octet, i) => i < HEADER.length - 1 && octet !== HEADER[i]))
      throw new RecordingError('it is no recording of slipway');
    const version = header[HEADER.length - 1];
    if (version !== HEADER[HEADER.length - 1])
      throw new RecordingError(`it is of version ${version}, which this slipway does not know`);
    this.#chunkAt = HEADER.length;
  }

  /** The next record; undefined: there is none. */
  peek(): DecodedRecord | undefined {
    if (this.#next) return this.#next;
    while (this.#at === this.#chunk.length) if (!this.#fill()) return undefined;
    this.#next = this.#record();
    return this.#next;
  }

  take(): DecodedRecord | undefined {
    const record = this.peek();
    this.#next = undefined;
    if (record) this.count++;
    return record;
  }

  #fill(): boolean {
    const at = this.#chunkAt + this.#chunk.length;
    const header = this.#source(CHUNK_HEADER);
    if (header.length === 0) return false;
    const broken = (what: string): RecordingError => new RecordingError(`at octet ${at}: ${what}`);
    if (header.length < CHUNK_HEADER) throw broken('the file ends within a chunk, it was cut off');
    const view = new DataView(header.buffer, header.byteOffset);
    const octets = view.getUint32(0);
    const sum = view.getUint32(4);
    if (octets === 0 || octets > LARGEST_CHUNK) throw broken(`a chunk of ${octets} octets, the file is damaged`);
    const chunk = this.#source(octets);
    if (chunk.length < octets) throw broken('the file ends within a chunk, it was cut off');
    if (octetWord(chunk) !== sum) throw broken('the chunk is not what was written, the file is damaged');
    this.#chunk = chunk;
    this.#chunkAt = at + CHUNK_HEADER;
    this.#at = 0;
    return true;
  }

  #record(): DecodedRecord {
    const start = this.#at;
    const offset = this.#chunkAt + start;
    try {
      const code = this.#number();
      const name = kindOf(code);
      if (!name) throw new RecordingError(`a record of the unknown kind ${code}`);
      const kind: Kind = kinds[name];
      const values: Record<string, DecodedValue> = {};
      for (const [field, type] of Object.entries(kind.fields)) {
        if (type === 'time') values[field] = this.#time();
        else if (type === 'number') values[field] = this.#number();
        else if (type === 'signed') values[field] = this.#signed();
        else if (type === 'octets') values[field] = this.#octets();
        else if (type === 'frames') values[field] = this.#frames();
        else {
          const found = text.decode(this.#octets());
          values[field] = type === 'text' ? found : parseData(found);
        }
      }
      return { name, values, bytes: this.#chunk.subarray(start, this.#at), offset };
    } catch (error) {
      throw new RecordingError(`at octet ${offset}: ${(error as Error).message}`);
    }
  }

  #number(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 0x80) {
      const octet = this.#chunk[this.#at++];
      if (octet === undefined) throw new RecordingError('a record goes beyond its chunk');
      value += (octet & 0x7f) * factor;
      if (value > Number.MAX_SAFE_INTEGER) throw new RecordingError('a number is too large');
      if (octet < 0x80) return value;
    }
  }

  #time(): number {
    const at = this.#at;
    if (at + 8 > this.#chunk.length) throw new RecordingError('a record goes beyond its chunk');
    this.#at += 8;
    return new DataView(this.#chunk.buffer, this.#chunk.byteOffset).getFloat64(at);
  }

  #signed(): number {
    const value = this.#number();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  #octets(): Uint8Array {
    const length = this.#number();
    if (this.#at + length > this.#chunk.length) throw new RecordingError('a record goes beyond its chunk');
    const found = this.#chunk.subarray(this.#at, this.#at + length);
    this.#at += length;
    return found;
  }

  #frames(): RecordedFrame[] {
    const count = this.#number();
    const frames: RecordedFrame[] = [];
    for (let i = 0; i < count; i++) {
      const checksum = this.#number();
      const segmentOctets = this.#number();
      const fragmentCount = this.#number();
      if (fragmentCount === 0 || fragmentCount > 255) throw new RecordingError(`a frame of ${fragmentCount} fragments`);
      const fragments: Uint8Array[] = [];
      for (let f = 0; f < fragmentCount; f++) fragments.push(this.#octets());
      frames.push({ checksum, segmentOctets, fragments });
    }
    return frames;
  }
}
