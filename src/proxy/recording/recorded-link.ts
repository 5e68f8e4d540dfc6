/** A link of which everything is kept. */

import type { Arena, FrameBatch, LinkHandler, LinkOffload, LinkPort } from '../../stack/port.ts';
import { OctetSum } from './octet-sum.ts';
import type { Recorder } from './recorder.ts';

/** Of a frame that was sent so much is kept: its headers. The rest is known by the sum. */
export const HEAD = 128;

export class RecordedLink implements LinkPort {
  readonly #link: LinkPort;
  readonly #number: number;
  readonly #recorder: Recorder;
  readonly #sum = new OctetSum();

  constructor(link: LinkPort, number: number, recorder: Recorder) {
    this.#link = link;
    this.#number = number;
    this.#recorder = recorder;
  }

  get name(): string {
    return this.#link.name;
  }

  get mtu(): number {
    return this.#link.mtu;
  }

  get offload(): LinkOffload {
    return this.#link.offload;
  }

  get txArena(): Arena {
    return this.#link.txArena;
  }

  get txOffset(): number {
    return this.#link.txOffset;
  }

  start(handler: LinkHandler): void {
    const recorder = this.#recorder;
    const link = this.#number;
    recorder.call('start', [link], () =>
      this.#link.start({
        input: (batch: FrameBatch) => recorder.event('frames', [link, batch], () => handler.input(batch)),
        writable: () => recorder.event('link writable', [link], () => handler.writable()),
        deserted: () => recorder.event('deserted', [link], () => handler.deserted?.()),
        closed: (error) => recorder.event('link closed', [link, error?.message ?? ''], () => handler.closed(error)),
      }),
    );
  }

  reserve(octets: number): boolean {
    return this.#recorder.callFor('reserve', [this.#number, octets], () => this.#link.reserve(octets));
  }

  commit(octets: number, checksumStart: number, checksumOffset: number, segmentOctets: number): void {
    const { txArena, txOffset } = this.#link;
    const head = txArena.bytes.subarray(txOffset, txOffset + Math.min(octets, HEAD));
    const sum = this.#sum.add(txArena.bytes, txOffset, octets).take();
    this.#recorder.call('commit', [this.#number, checksumStart, checksumOffset, segmentOctets, octets, head, sum], () =>
      this.#link.commit(octets, checksumStart, checksumOffset, segmentOctets),
    );
  }

  flush(): void {
    this.#recorder.call('flush link', [this.#number], () => this.#link.flush());
  }

  close(): void {
    this.#recorder.call('close link', [this.#number], () => this.#link.close());
  }
}
