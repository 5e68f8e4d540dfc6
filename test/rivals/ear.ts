/** What comes out of a network core, kept until a case asks for it. */

import { check, headerOctets, protocol, totalLength } from '../../src/stack/wire/ipv4.ts';

export interface Packet {
  readonly source: string;
  readonly destination: string;
  readonly protocol: number;
  /** Flags and offset as in the header. */
  readonly fragment: number;
  readonly identification: number;
  readonly payload: Uint8Array;
}

interface Waiting {
  readonly matches: (packet: Packet) => boolean;
  readonly resolve: (packet: Packet) => void;
}

const dotted = (bytes: Uint8Array): string => bytes.join('.');

/** Undefined: not a sound IPv4 packet. */
export function readPacket(frame: Uint8Array): Packet | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  if (frame.length < 34 || view.getUint16(12) !== 0x0800 || check(view, 14, frame.length - 14) !== 0) return undefined;
  return {
    source: dotted(frame.subarray(26, 30)),
    destination: dotted(frame.subarray(30, 34)),
    protocol: protocol(view, 14),
    fragment: view.getUint16(20),
    identification: view.getUint16(18),
    payload: frame.slice(14 + headerOctets(view, 14), 14 + totalLength(view, 14)),
  };
}

export class Ear {
  /** Nobody has asked for these yet. */
  #kept: Packet[] = [];
  #waiting: Waiting[] = [];

  hear(frame: Uint8Array): void {
    const packet = readPacket(frame);
    if (!packet) return;
    const at = this.#waiting.findIndex(({ matches }) => matches(packet));
    if (at >= 0) this.#waiting.splice(at, 1)[0]!.resolve(packet);
    else this.#kept.push(packet);
    if (this.#kept.length > 10_000) this.#kept.shift();
  }

  /** The next packet that matches, heard already or within `ms`; undefined: none. */
  async next(matches: (packet: Packet) => boolean, ms: number): Promise<Packet | undefined> {
    const at = this.#kept.findIndex(matches);
    if (at >= 0) return this.#kept.splice(at, 1)[0];
    const { promise, resolve } = Promise.withResolvers<Packet | undefined>();
    const waiting = { matches, resolve };
    this.#waiting.push(waiting);
    const timer = setTimeout(() => resolve(undefined), ms);
    const packet = await promise;
    clearTimeout(timer);
    this.#waiting = this.#waiting.filter((other) => other !== waiting);
    return packet;
  }

  clear(): void {
    this.#kept = [];
  }
}
