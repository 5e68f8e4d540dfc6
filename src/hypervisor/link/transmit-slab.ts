/**
 * Memory that frames are written into on their way to a stream socket. A slab fills up from the start; `send` hands
 * what is new to the socket in one write; when the socket has taken everything, a slab that is still being filled
 * starts over (its memory is warm), and a retired one is handed back through `release`.
 */

import type { Arena, ArenaSource } from '../../stack/port.ts';
import type { StreamPeer } from './stream-peer.ts';

const SLAB = 1024 * 1024;

export class TransmitSlab implements Arena {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly sums: Arena['sums'];
  readonly base: number;
  /** Where the next frame's length goes. */
  end = 0;
  readonly #release: (slab: TransmitSlab) => void;
  readonly #taken: () => void;
  #sent = 0;
  #inFlight = 0;
  #retired = false;

  constructor(memory: ArenaSource | undefined, release: (slab: TransmitSlab) => void) {
    const arena = memory?.arena(SLAB);
    this.bytes = arena?.bytes ?? new Uint8Array(SLAB);
    this.view = arena?.view ?? new DataView(this.bytes.buffer);
    this.sums = arena?.sums;
    this.base = arena?.base ?? 0;
    this.#release = release;
    this.#taken = () => {
      if (--this.#inFlight === 0) this.#idle();
    };
  }

  fits(octets: number): boolean {
    return this.end + octets <= SLAB;
  }

  /** One write of what was added since the last. */
  send(peer: StreamPeer): void {
    const from = this.#sent;
    if (this.end === from) return;
    this.#sent = this.end;
    this.#inFlight++;
    peer.send(this, from, this.end, this.#taken);
  }

  /** Nothing will be added: the slab goes back once the socket has taken it. */
  retire(): void {
    this.#retired = true;
    if (this.#inFlight === 0) this.#idle();
  }

  /** Forgets what was not sent: its reader is gone. */
  reset(): void {
    this.end = this.#sent;
  }

  #idle(): void {
    if (this.#retired) {
      this.#retired = false;
      this.end = 0;
      this.#sent = 0;
      this.#release(this);
    } else if (this.end === this.#sent) {
      this.end = 0;
      this.#sent = 0;
      this.#release(this);
    }
  }
}
