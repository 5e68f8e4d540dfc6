/** The frames of the serial multiplexer; serial-mux.ts says what they mean. */

export const frameType = { HELLO: 1, OPEN: 2, ACCEPT: 3, DATA: 4, CREDIT: 5, SHUTDOWN: 6, RESET: 7 } as const;

export const magic = 0x584d5753;
export const version = 1;
export const frameHeaderOctets = 12;
export const frameTrailerOctets = 4;
export const maxPayloadOctets = 32752;
export const maxFrameOctets = frameHeaderOctets + maxPayloadOctets + frameTrailerOctets;
export const helloPayloadOctets = 16;

/** Called with each whole frame; `payload` is valid during the call. */
export type FrameHandler = (type: number, flags: number, id: number, value: number, payload: Buffer) => void;

/** Writes a frame around a payload that is already at `at + frameHeaderOctets`; the frame's octets. */
export function sealFrame(
  into: Buffer,
  at: number,
  type: number,
  flags: number,
  id: number,
  value: number,
  length: number,
): number {
  const first = (type | (flags << 8) | (length << 16)) >>> 0;
  into.writeUInt32LE(first, at);
  into.writeUInt32LE(id, at + 4);
  into.writeUInt32LE(value, at + 8);
  into.writeUInt32LE((magic ^ first ^ id ^ value) >>> 0, at + frameHeaderOctets + length);
  return frameHeaderOctets + length + frameTrailerOctets;
}

/** Takes frames out of a stream of octets; begins, and begins again after `hunt`, by looking for a HELLO. */
export class FrameParser {
  readonly #onFrame: FrameHandler;
  readonly #onLost: (reason: string) => void;
  readonly #buffer = Buffer.alloc(256 * 1024 + maxFrameOctets);
  #length = 0;
  #hunting = true;

  constructor(onFrame: FrameHandler, onLost: (reason: string) => void) {
    this.#onFrame = onFrame;
    this.#onLost = onLost;
  }

  /** Ignores everything up to the next HELLO. */
  hunt(): void {
    this.#hunting = true;
  }

  push(octets: Uint8Array): void {
    for (let from = 0; from < octets.length; ) {
      const here = Math.min(octets.length - from, this.#buffer.length - this.#length);
      this.#buffer.set(octets.subarray(from, from + here), this.#length);
      this.#length += here;
      from += here;
      this.#parse();
    }
  }

  #parse(): void {
    let at = 0;
    for (;;) {
      const used = this.#take(at);
      if (used === 0) break;
      if (used < 0) {
        if (!this.#hunting) {
          this.#hunting = true;
          this.#onLost('an octet sequence that is no frame');
        }
        at++;
      } else at += used;
    }
    this.#buffer.copyWithin(0, at, this.#length);
    this.#length -= at;
  }

  /** Takes the frame at `at`: its octets; 0: not whole yet; -1: no frame. */
  #take(at: number): number {
    if (this.#length - at < frameHeaderOctets) return 0;
    const first = this.#buffer.readUInt32LE(at);
    const type = first & 0xff;
    const flags = (first >>> 8) & 0xff;
    const length = first >>> 16;
    if (type < frameType.HELLO || type > frameType.RESET || length > maxPayloadOctets) return -1;
    const id = this.#buffer.readUInt32LE(at + 4);
    const isHello = type === frameType.HELLO;
    if (isHello && (flags !== version || length !== helloPayloadOctets || id !== magic)) return -1;
    if (this.#hunting && !isHello) return -1;
    const octets = frameHeaderOctets + length + frameTrailerOctets;
    if (this.#length - at < octets) return 0;
    const value = this.#buffer.readUInt32LE(at + 8);
    const trailer = this.#buffer.readUInt32LE(at + frameHeaderOctets + length);
    if (trailer !== (magic ^ first ^ id ^ value) >>> 0) return -1;
    this.#hunting = false;
    this.#onFrame(
      type,
      flags,
      id,
      value,
      this.#buffer.subarray(at + frameHeaderOctets, at + frameHeaderOctets + length),
    );
    return octets;
  }
}
