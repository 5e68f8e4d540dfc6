/**
 * TCP options: end, no-operation, MSS (RFC 9293 3.2), window scale and timestamps (RFC 7323), SACK-permitted and SACK
 * (RFC 2018). `parse` fills a record that is made once and used again. Every `emit` writes a multiple of 4 octets,
 * padded in front with no-operations, and returns the offset after it.
 */

import { DOUBLE_ZERO } from './double.ts';

export const END = 0;
export const NO_OPERATION = 1;
export const MAXIMUM_SEGMENT_SIZE = 2;
export const WINDOW_SCALE = 3;
export const SACK_PERMITTED = 4;
export const SACK = 5;
export const TIMESTAMPS = 8;

/** Octets that each `emit` writes. */
export const MAXIMUM_SEGMENT_SIZE_OCTETS = 4;
export const WINDOW_SCALE_OCTETS = 4;
export const SACK_PERMITTED_OCTETS = 4;
export const TIMESTAMPS_OCTETS = 12;
export const sackOctets = (blocks: number): number => 4 + 8 * blocks;

/** RFC 7323 2.3. */
export const MAX_WINDOW_SCALE = 14;
/** As many as 40 octets of options hold. RFC 2018 3. */
export const MAX_SACK_BLOCKS = 4;

/** What `parse` found. */
export class TcpOptions {
  /** -1: absent. */
  maximumSegmentSize = -1;
  /** -1: absent; at most 14. */
  windowScale = -1;
  sackPermitted = false;
  hasTimestamps = false;
  timestampValue = DOUBLE_ZERO;
  timestampEcho = DOUBLE_ZERO;
  sackBlocks = 0;
  readonly sackLeft: Uint32Array = new Uint32Array(MAX_SACK_BLOCKS);
  readonly sackRight: Uint32Array = new Uint32Array(MAX_SACK_BLOCKS);

  clear(): void {
    this.maximumSegmentSize = -1;
    this.windowScale = -1;
    this.sackPermitted = false;
    this.hasTimestamps = false;
    this.sackBlocks = 0;
  }
}

/**
 * Reads the options in `length` octets at `at` (the header's octets less 20). Returns false when an option's length is
 * illegal (below 2, or beyond the options); those before it stand, the rest is not read. RFC 9293 3.1 (MUST-7): be
 * prepared for it; a broken option is no reason to lose the segment. An option of a known kind with another length
 * than its own is skipped, as unknown kinds are (MUST-6).
 */
export function parse(view: DataView, at: number, length: number, into: TcpOptions): boolean {
  into.clear();
  const end = at + length;
  // What nearly every segment carries: two no-operations and timestamps. RFC 7323 appendix A.
  if (length === 12 && view.getUint32(at) === 0x0101080a) {
    into.hasTimestamps = true;
    into.timestampValue = view.getUint32(at + 4);
    into.timestampEcho = view.getUint32(at + 8);
    return true;
  }
  let i = at;
  while (i < end) {
    const kind = view.getUint8(i);
    if (kind === END) return true;
    if (kind === NO_OPERATION) {
      i++;
      continue;
    }
    if (i + 1 >= end) return false;
    const octets = view.getUint8(i + 1);
    if (octets < 2 || i + octets > end) return false;
    if (kind === MAXIMUM_SEGMENT_SIZE && octets === 4) into.maximumSegmentSize = view.getUint16(i + 2);
    else if (kind === WINDOW_SCALE && octets === 3) into.windowScale = Math.min(view.getUint8(i + 2), MAX_WINDOW_SCALE);
    else if (kind === SACK_PERMITTED && octets === 2) into.sackPermitted = true;
    else if (kind === TIMESTAMPS && octets === 10) {
      into.hasTimestamps = true;
      into.timestampValue = view.getUint32(i + 2);
      into.timestampEcho = view.getUint32(i + 6);
    } else if (kind === SACK && octets >= 10 && (octets - 2) % 8 === 0) {
      const blocks = Math.min((octets - 2) / 8, MAX_SACK_BLOCKS);
      for (let block = 0; block < blocks; block++) {
        into.sackLeft[block] = view.getUint32(i + 2 + 8 * block);
        into.sackRight[block] = view.getUint32(i + 6 + 8 * block);
      }
      into.sackBlocks = blocks;
    }
    i += octets;
  }
  return true;
}

export function emitMaximumSegmentSize(view: DataView, at: number, octets: number): number {
  view.setUint32(at, (MAXIMUM_SEGMENT_SIZE << 24) | (4 << 16) | octets);
  return at + 4;
}

export function emitWindowScale(view: DataView, at: number, shift: number): number {
  view.setUint32(at, (NO_OPERATION << 24) | (WINDOW_SCALE << 16) | (3 << 8) | shift);
  return at + 4;
}

export function emitSackPermitted(view: DataView, at: number): number {
  view.setUint32(at, (NO_OPERATION << 24) | (NO_OPERATION << 16) | (SACK_PERMITTED << 8) | 2);
  return at + 4;
}

export function emitTimestamps(view: DataView, at: number, value: number, echo: number): number {
  view.setUint32(at, 0x0101080a);
  view.setUint32(at + 4, value);
  view.setUint32(at + 8, echo);
  return at + 12;
}

/** Writes `blocks` blocks (at most 4; 3 beside timestamps) from the columns `left` and `right`, first block first. */
export function emitSack(
  view: DataView,
  at: number,
  blocks: number,
  left: ArrayLike<number>,
  right: ArrayLike<number>,
): number {
  view.setUint32(at, (NO_OPERATION << 24) | (NO_OPERATION << 16) | (SACK << 8) | (2 + 8 * blocks));
  for (let block = 0; block < blocks; block++) {
    view.setUint32(at + 4 + 8 * block, left[block]!);
    view.setUint32(at + 8 + 8 * block, right[block]!);
  }
  return at + 4 + 8 * blocks;
}
