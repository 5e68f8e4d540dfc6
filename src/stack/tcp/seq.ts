/**
 * Sequence numbers: 32 bits that wrap, kept as signed integers (small ones to V8), compared only here. RFC 9293 3.4.
 * Two numbers compare rightly while they are less than 2^31 apart.
 */

declare const brand: unique symbol;

/** A sequence number, or an acknowledgement number. */
export type Seq = number & { readonly [brand]: 'seq' };

export const seq = (value: number): Seq => (value | 0) as Seq;
export const seqAdd = (a: Seq, octets: number): Seq => ((a + octets) | 0) as Seq;
/** Octets from `b` to `a`; negative when `a` is before `b`. */
export const seqSub = (a: Seq, b: Seq): number => (a - b) | 0;
export const seqLt = (a: Seq, b: Seq): boolean => ((a - b) | 0) < 0;
export const seqLeq = (a: Seq, b: Seq): boolean => ((a - b) | 0) <= 0;
export const seqGt = (a: Seq, b: Seq): boolean => ((a - b) | 0) > 0;
export const seqGeq = (a: Seq, b: Seq): boolean => ((a - b) | 0) >= 0;
export const seqMin = (a: Seq, b: Seq): Seq => (((a - b) | 0) <= 0 ? a : b);
export const seqMax = (a: Seq, b: Seq): Seq => (((a - b) | 0) >= 0 ? a : b);

/**
 * V8 compiles for what it has seen, and numbers wrap seldom. Shown here that they do, it need not compile again, in the
 * middle of the traffic, every function that compares them.
 */
function showThatTheyWrap(): void {
  const [first, last] = [seq(-0x8000_0000), seq(0x7fff_ffff)];
  const compares = [seqLt, seqLeq, seqGt, seqGeq, seqMin, seqMax];
  for (let calls = 0; calls < 200; calls++) {
    seqAdd(last, calls);
    seqSub(first, last);
    for (const compare of compares) compare(first, last);
  }
}
showThatTheyWrap();
