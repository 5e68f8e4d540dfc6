/**
 * Plays a recording back to a network: tells it what it was told, answers its calls as they were answered, and holds
 * each call against the recorded one, octet for octet. The first difference ends it: from then on nothing is told any
 * more, and calls are answered with nothing until the network has come back from the event it is in.
 */

import type { Clock, Random } from '../../stack/port.ts';
import { type KindName, kinds } from './record.ts';
import type { DecodedRecord, DecodedValue, RecordDecoder } from './record-decoder.ts';
import { RecordEncoder, type Value } from './record-encoder.ts';

/** How a network did something else than it had done. */
export interface Difference {
  /** The record, counted from 1, and where it is in the file; what was recorded. */
  readonly record: number;
  readonly offset: number;
  readonly recorded: DecodedRecord | undefined;
  /** What the network did now; undefined: nothing. */
  readonly replayed: DecodedRecord | string | undefined;
  /** Since the recording began. */
  readonly atMs: number;
}

export type Values = Readonly<Record<string, DecodedValue>>;
type Dispatch = (values: Values) => void;

export class Player {
  readonly #decoder: RecordDecoder;
  readonly #decode: (record: Uint8Array) => DecodedRecord;
  readonly #said = new RecordEncoder();
  readonly #dispatches = new Map<KindName, Dispatch>();
  #nowMs = 0;
  #startMs = 0;
  #salt = 1;
  difference: Difference | undefined;
  /** What a call threw last, as it had thrown it. */
  thrown: Error | undefined;
  /** The recording has no more, and no end: the network is beyond what is known of it. */
  #over = false;
  readonly counts = { events: 0, calls: 0, framesIn: 0, framesOut: 0, octetsIn: 0, octetsOut: 0 };
  readonly clock: Clock = { nowMs: () => this.#nowMs };
  readonly random: Random = { fill: (into) => this.#fill(into) };

  /** `decode` reads one record by itself. */
  constructor(decoder: RecordDecoder, decode: (record: Uint8Array) => DecodedRecord) {
    this.#decoder = decoder;
    this.#decode = decode;
  }

  get elapsedMs(): number {
    return this.#nowMs - this.#startMs;
  }

  /** Nothing is told any more, and calls are answered with nothing. */
  get isOver(): boolean {
    return this.#over || this.difference !== undefined;
  }

  begin(startMs: number): void {
    this.#nowMs = startMs;
    this.#startMs = startMs;
  }

  on(name: KindName, dispatch: Dispatch): void {
    this.#dispatches.set(name, dispatch);
  }

  /** Tells the next event. False: there is none more, or the network is beyond it. */
  next(): KindName | undefined {
    let record = this.#decoder.peek();
    if (record?.name === 'nested') {
      this.#decoder.take();
      record = this.#decoder.peek();
    }
    if (!record || record.name === 'end') return undefined;
    if (kinds[record.name].what !== 'event') {
      this.#differ(record, undefined);
      return undefined;
    }
    this.#tell(record);
    return record.name;
  }

  call(name: KindName, ...values: readonly Value[]): void {
    if (this.isOver) return;
    this.counts.calls++;
    this.#said.clear();
    this.#said.record(name, values);
    const said = this.#said.bytes;
    const record = this.#decoder.peek();
    if (!record) {
      this.#over = true;
      return;
    }
    if (!same(record.bytes, said)) {
      this.#differ(record, this.#decode(said.slice()));
      return;
    }
    this.#decoder.take();
    while (this.#decoder.peek()?.name === 'nested' && !this.isOver) {
      this.#decoder.take();
      const event = this.#decoder.peek();
      if (event) this.#tell(event);
    }
    const thrown = this.#decoder.peek();
    if (thrown?.name !== 'threw') return;
    this.#decoder.take();
    const { message, code } = thrown.values.error as { message: string; code?: string };
    this.thrown = Object.assign(new Error(message), code === undefined ? {} : { code });
    throw this.thrown;
  }

  /** A call that is answered with a number; `otherwise` once there was a difference. */
  ask(otherwise: number, name: KindName, ...values: readonly Value[]): number {
    this.call(name, ...values);
    return (this.#result('gave')?.number as number | undefined) ?? otherwise;
  }

  askOctets(name: KindName, ...values: readonly Value[]): Uint8Array | undefined {
    this.call(name, ...values);
    return this.#result('gave octets')?.octets as Uint8Array | undefined;
  }

  askText(name: KindName, ...values: readonly Value[]): string {
    this.call(name, ...values);
    return (this.#result('gave text')?.text as string | undefined) ?? '';
  }

  askData(name: KindName, ...values: readonly Value[]): unknown {
    this.call(name, ...values);
    return this.#result('gave data')?.data;
  }

  /** The answer to a read, which is octets or a code; undefined once there was a difference. */
  askRead(name: KindName, ...values: readonly Value[]): Uint8Array | number | undefined {
    this.call(name, ...values);
    if (this.isOver) return undefined;
    if (this.#decoder.peek()?.name === 'gave octets') return this.#result('gave octets')?.octets as Uint8Array;
    return this.#result('gave')?.number as number | undefined;
  }

  /** The network threw, or did what no call is. */
  failed(what: string): void {
    this.#differ(this.#decoder.peek(), what);
  }

  #result(name: KindName): Values | undefined {
    if (this.isOver) return undefined;
    const record = this.#decoder.take();
    if (record?.name === name) return record.values;
    if (!record) {
      this.#over = true;
      return undefined;
    }
    this.#differ(record, 'an answer');
    return undefined;
  }

  #tell(record: DecodedRecord): void {
    this.#decoder.take();
    this.counts.events++;
    this.#nowMs = record.values.atMs as number;
    const dispatch = this.#dispatches.get(record.name);
    if (!dispatch) {
      this.#differ(record, 'a network that cannot be told that');
      return;
    }
    dispatch(record.values);
  }

  #differ(recorded: DecodedRecord | undefined, replayed: DecodedRecord | string | undefined): void {
    this.difference ??= {
      record: this.#decoder.count + 1,
      offset: recorded?.offset ?? -1,
      recorded,
      replayed,
      atMs: this.elapsedMs,
    };
  }

  #fill(into: Uint8Array): void {
    const octets = this.askOctets('random', into.length);
    if (octets) into.set(octets.subarray(0, into.length));
    // Who tries until something fits finds it, also after a difference.
    else for (let i = 0; i < into.length; i++) into[i] = (this.#salt = Math.imul(this.#salt, 0x19660d) + 1) >>> 24;
  }
}

function same(one: Uint8Array, other: Uint8Array): boolean {
  if (one.length !== other.length) return false;
  for (let i = 0; i < one.length; i++) if (one[i] !== other[i]) return false;
  return true;
}
