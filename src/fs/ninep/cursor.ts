/**
 * Reading and writing 9P's scalars in a caller's buffer, little-endian, intro(5). Neither throws on what the buffer
 * holds: a read beyond the end or a text that is not UTF-8 sets `fault`, and gives zeros from there on; a write beyond the
 * end sets `full`.
 */

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

const none = new Uint8Array(0);

export class Reader {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly end: number;
  at: number;
  /** What was wrong first. */
  fault: string | undefined;

  constructor(bytes: Uint8Array, from = 0, to = bytes.length) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = from;
    this.end = to;
  }

  #take(octets: number): number {
    if (this.fault === undefined && this.end - this.at >= octets) {
      const at = this.at;
      this.at += octets;
      return at;
    }
    this.fault ??= 'the message ends too early';
    return -1;
  }

  u8(): number {
    const at = this.#take(1);
    return at < 0 ? 0 : this.#view.getUint8(at);
  }

  u16(): number {
    const at = this.#take(2);
    return at < 0 ? 0 : this.#view.getUint16(at, true);
  }

  u32(): number {
    const at = this.#take(4);
    return at < 0 ? 0 : this.#view.getUint32(at, true);
  }

  u64(): bigint {
    const at = this.#take(8);
    return at < 0 ? 0n : this.#view.getBigUint64(at, true);
  }

  /** A view, not a copy. */
  octets(length: number): Uint8Array {
    const at = this.#take(length);
    return at < 0 ? none : this.bytes.subarray(at, at + length);
  }

  text(): string {
    const octets = this.octets(this.u16());
    try {
      return decoder.decode(octets);
    } catch {
      this.fault ??= 'a text is not UTF-8';
      return '';
    }
  }
}

export class Writer {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly end: number;
  at: number;
  full = false;

  constructor(bytes: Uint8Array, from = 0, to = bytes.length) {
    this.bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = from;
    this.end = to;
  }

  #take(octets: number): number {
    if (!this.full && this.end - this.at >= octets) {
      const at = this.at;
      this.at += octets;
      return at;
    }
    this.full = true;
    return -1;
  }

  u8(value: number): void {
    const at = this.#take(1);
    if (at >= 0) this.#view.setUint8(at, value);
  }

  u16(value: number): void {
    const at = this.#take(2);
    if (at >= 0) this.#view.setUint16(at, value, true);
  }

  u32(value: number): void {
    const at = this.#take(4);
    if (at >= 0) this.#view.setUint32(at, value, true);
  }

  u64(value: bigint): void {
    const at = this.#take(8);
    if (at >= 0) this.#view.setBigUint64(at, value, true);
  }

  octets(value: Uint8Array): void {
    const at = this.#take(value.length);
    if (at >= 0) this.bytes.set(value, at);
  }

  text(value: string): void {
    const at = this.#take(2);
    if (at < 0) return;
    const { read, written } = encoder.encodeInto(
      value,
      this.bytes.subarray(this.at, Math.min(this.end, this.at + 0xffff)),
    );
    this.full = read < value.length;
    if (this.full) return;
    this.#view.setUint16(at, written, true);
    this.at += written;
  }

  /** Puts a length that was not known when its place was passed. */
  patch16(at: number, value: number): void {
    this.#view.setUint16(at, value, true);
  }

  patch32(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
  }
}
