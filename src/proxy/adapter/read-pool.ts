/**
 * The buffer that Node reads every host socket into, and places to put by what a stream's handler has not taken from
 * it. Places are recycled: a fresh quarter mebibyte per read would cost more than the copy.
 */

const READ = 256 * 1024;
/** Idle places kept; more are left to the collector. */
const KEPT = 16;

export class ReadPool {
  /** Shared: valid only during the callback that announces what is in it. */
  readonly bytes = new Uint8Array(READ);
  readonly #idle: Uint8Array[] = [];

  /** A copy of octets `from` to `to` of the shared buffer, at the start of a place of its own. */
  keep(from: number, to: number): Uint8Array {
    const place = this.#idle.pop() ?? new Uint8Array(READ);
    place.set(this.bytes.subarray(from, to));
    return place;
  }

  giveBack(place: Uint8Array): void {
    if (this.#idle.length < KEPT) this.#idle.push(place);
  }
}
