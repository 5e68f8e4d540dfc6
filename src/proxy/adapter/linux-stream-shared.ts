/** What the streams of one adapter share: the readiness set, memory for what the kernel does not take, and places for arguments. */

import { addressOf, Place } from '../../native/memory.ts';
import type { Readiness } from '../../native/readiness.ts';
import {
  type getsockname,
  getsockopt,
  IOVEC,
  SO_ERROR,
  SOCKADDR,
  SOL_SOCKET,
  setsockopt,
} from '../../native/system-calls.ts';
import type { Arena } from '../../stack/port.ts';
import { formatAddress } from '../../stack/wire/address.ts';
import { scopeOf, withoutScope } from '../scoped-address.ts';
import { decodeAddress, decodePort } from './socket-address.ts';
import { WritePool } from './write-pool.ts';

/** iovecs that one call takes (UIO_MAXIOV). */
export const VECTORS = 1024;

export class LinuxStreamShared {
  readonly readiness: Readiness;
  readonly pool = new WritePool();
  readonly vectors = new Place(VECTORS * IOVEC);
  readonly #words = new Uint32Array(this.vectors.bytes.buffer);
  readonly #option = new Place(8);
  readonly #name = new Place(SOCKADDR);
  readonly #nameLength = new Place(4);
  /** The memory last written from, and last read into, and where it is: mostly it is the same again. */
  #from: Arena | undefined;
  #fromAddress = 0;
  #into: Uint8Array | undefined;
  #intoAddress = 0;

  constructor(readiness: Readiness) {
    this.readiness = readiness;
  }

  /** The iovec at `index`. */
  setVector(index: number, address: number, octets: number): void {
    const at = index * 4;
    this.#words[at] = address;
    this.#words[at + 1] = address / 0x1_0000_0000;
    this.#words[at + 2] = octets;
  }

  addressFrom(arena: Arena): number {
    if (arena === this.#from) return this.#fromAddress;
    this.#from = arena;
    this.#fromAddress = addressOf(arena.bytes);
    return this.#fromAddress;
  }

  addressInto(bytes: Uint8Array): number {
    if (bytes === this.#into) return this.#intoAddress;
    this.#into = bytes;
    this.#intoAddress = addressOf(bytes);
    return this.#intoAddress;
  }

  /** Sets an option of one int, or of the two of struct linger. */
  setOption(fd: number, level: number, option: number, first: number, second?: number): void {
    const { view, address } = this.#option;
    view.setInt32(0, first, true);
    view.setInt32(4, second ?? 0, true);
    setsockopt(fd, level, option, address, second === undefined ? 4 : 8);
  }

  /** What failed, as a positive errno; 0: nothing. */
  takeError(fd: number): number {
    const { view, address } = this.#option;
    view.setInt32(0, 0, true);
    view.setInt32(4, 4, true);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, address, address + 4);
    return view.getInt32(0, true);
  }

  /** The address and port that `call` tells of the socket. */
  name(call: typeof getsockname, fd: number): { address: string; port: number } | undefined {
    if (fd < 0) return undefined;
    this.#nameLength.view.setInt32(0, SOCKADDR, true);
    if (call(fd, this.#name.address, this.#nameLength.address) < 0) return undefined;
    const address = decodeAddress(this.#name.view, 0);
    if (!address) return undefined;
    const scope = scopeOf(address);
    const text = scope === 0 ? formatAddress(address) : `${formatAddress(withoutScope(address))}%${scope}`;
    return { address: text, port: decodePort(this.#name.view, 0) };
  }
}
