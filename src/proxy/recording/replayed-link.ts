/** A link that has come out of a recording: its frames are the recorded ones, and what is sent is held against them. */

import { plainArena } from '../../stack/frame-memory.ts';
import { type Arena, FrameBatch, type LinkHandler, type LinkOffload, type LinkPort } from '../../stack/port.ts';
import { OctetSum } from './octet-sum.ts';
import type { Player } from './player.ts';
import type { RecordedFrame } from './record-decoder.ts';
import { HEAD } from './recorded-link.ts';

const LARGEST_FRAME = 128 * 1024;

export interface LinkDescription {
  readonly name: string;
  readonly mtu: number;
  readonly offload: LinkOffload;
}

export class ReplayedLink implements LinkPort {
  readonly name: string;
  readonly mtu: number;
  readonly offload: LinkOffload;
  readonly txArena: Arena = plainArena(LARGEST_FRAME);
  readonly txOffset = 0;
  readonly #number: number;
  readonly #player: Player;
  readonly #sum = new OctetSum();
  handler: LinkHandler | undefined;

  constructor({ name, mtu, offload }: LinkDescription, number: number, player: Player) {
    this.name = name;
    this.mtu = mtu;
    this.offload = offload;
    this.#number = number;
    this.#player = player;
  }

  start(handler: LinkHandler): void {
    this.handler = handler;
    this.#player.call('start', this.#number);
  }

  reserve(octets: number): boolean {
    return octets <= LARGEST_FRAME && this.#player.ask(0, 'reserve', this.#number, octets) === 1;
  }

  commit(octets: number, checksumStart: number, checksumOffset: number, segmentOctets: number): void {
    const { bytes } = this.txArena;
    const head = bytes.subarray(0, Math.min(octets, HEAD));
    const sum = this.#sum.add(bytes, 0, octets).take();
    const { counts } = this.#player;
    counts.framesOut++;
    counts.octetsOut += octets;
    this.#player.call('commit', this.#number, checksumStart, checksumOffset, segmentOctets, octets, head, sum);
  }

  flush(): void {
    this.#player.call('flush link', this.#number);
  }

  close(): void {
    this.#player.call('close link', this.#number);
  }

  input(frames: readonly RecordedFrame[]): void {
    const { counts } = this.#player;
    const fragments = frames.reduce((sum, frame) => sum + frame.fragments.length, 0);
    const octets = frames.reduce((sum, frame) => frame.fragments.reduce((some, { length }) => some + length, sum), 0);
    const batch = new FrameBatch(Math.max(1, frames.length), Math.ceil(fragments / Math.max(1, frames.length)));
    // A copy: what is read of a recording is the decoder's.
    const arena = plainArena(octets);
    let at = 0;
    for (const { checksum, segmentOctets, fragments } of frames) {
      counts.framesIn++;
      fragments.forEach((fragment, i) => {
        arena.bytes.set(fragment, at);
        if (i === 0) batch.push(arena, at, fragment.length, checksum, segmentOctets);
        else batch.extend(arena, at, fragment.length);
        at += fragment.length;
      });
    }
    counts.octetsIn += octets;
    this.handler?.input(batch);
  }
}

/** Links by their numbers, told what they were told. */
export function playLinks(player: Player, links: readonly ReplayedLink[]): void {
  const of = (values: Readonly<Record<string, unknown>>): ReplayedLink | undefined => links[values.link as number];
  player.on('frames', (values) => of(values)?.input(values.frames as readonly RecordedFrame[]));
  player.on('link writable', (values) => of(values)?.handler?.writable());
  player.on('deserted', (values) => of(values)?.handler?.deserted?.());
  player.on('link closed', (values) => {
    const { error } = values;
    of(values)?.handler?.closed(error === '' ? undefined : new Error(String(error)));
  });
}
