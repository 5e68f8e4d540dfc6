/** Between the stack's fragments and the contiguous octets that small messages (DHCP, DNS) are read from and written to. */

import type { Arena, Fragment, FragmentList } from '../stack/port.ts';

/** Copies the fragments' octets to the beginning of `into`; how many there are, or -1 when they do not fit. */
export function gather(list: FragmentList, into: Uint8Array): number {
  if (list.octets > into.length) return -1;
  let octets = 0;
  for (let i = 0; i < list.count; i++) {
    const { arena, offset, length } = list.items[i]!;
    const from = arena.bytes;
    // A loop, not `set`: these are a few hundred octets at most, and `set` needs a view made for it.
    if (length < 128) for (let k = 0; k < length; k++) into[octets + k] = from[offset + k]!;
    else into.set(from.subarray(offset, offset + length), octets);
    octets += length;
  }
  return octets;
}

/** A list of one fragment over octets of ours, for `send` and `writev`. */
export class SingleFragment implements FragmentList {
  readonly count = 1;
  readonly items: readonly [Fragment];

  constructor(bytes: Uint8Array) {
    const arena: Arena = { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length) };
    this.items = [{ arena, offset: 0, length: bytes.length }];
  }

  get octets(): number {
    return this.items[0].length;
  }

  /** Narrows the list to a stretch of its octets. */
  narrow(offset: number, length: number): this {
    this.items[0].offset = offset;
    this.items[0].length = length;
    return this;
  }
}
