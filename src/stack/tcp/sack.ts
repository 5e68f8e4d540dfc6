/**
 * What we report of octets that came out of order: RFC 2018 4, and of those that came twice: RFC 2883 4. Blocks travel
 * in acknowledgements without payload only, so that a segment's payload has one size.
 */

import { MAX_SACK_BLOCKS } from '../wire/tcp-options.ts';
import { type Seq, seqAdd } from './seq.ts';
import type { Tcb } from './tcb.ts';

/** Beside timestamps there is room for one block less. RFC 2018 3. */
const mostBlocks = (c: Tcb): number => (c.timestamps ? MAX_SACK_BLOCKS - 1 : MAX_SACK_BLOCKS);

/** The blocks of one acknowledgement. One per endpoint, filled anew each time. */
export class SackBlocks {
  count = 0;
  readonly left = new Int32Array(MAX_SACK_BLOCKS);
  readonly right = new Int32Array(MAX_SACK_BLOCKS);

  push(left: Seq, right: Seq): void {
    this.left[this.count] = left;
    this.right[this.count++] = right;
  }
}

/** Whether an acknowledgement has anything to report. */
export const hasBlocks = (c: Tcb): boolean =>
  c.sackPermitted && (c.duplicateLeft !== c.duplicateRight || (c.reassembly !== undefined && !c.reassembly.empty));

/**
 * Gathers blocks for an acknowledgement that `after` others will follow at once: the last has the newest, those before
 * it what did not find room there. False: there are none.
 */
export function gather(c: Tcb, blocks: SackBlocks, after: number): boolean {
  blocks.count = 0;
  if (after === 0 && c.duplicateLeft !== c.duplicateRight) {
    blocks.push(c.duplicateLeft, c.duplicateRight);
    c.duplicateLeft = c.duplicateRight;
  }
  const most = mostBlocks(c);
  c.reassembly?.blocks(blocks, after * most, most);
  return blocks.count > 0;
}

/** Octets that had come before, from `left` on, are reported by the next acknowledgement. */
export function reportTwice(c: Tcb, left: Seq, octets: number): void {
  if (!c.sackPermitted || octets <= 0) return;
  c.duplicateLeft = left;
  c.duplicateRight = seqAdd(left, octets);
}
