/** The checksum against a naive twin: every offset, length and parity. */

import fc from 'fast-check';
import t from 'tap';
import * as checksum from '../../../src/stack/wire/checksum.ts';

/** RFC 1071's own words, one 16-bit word at a time. */
function naive(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (bytes[i]! << 8) | (bytes[i + 1] ?? 0);
    if (sum > 0xffff) sum = (sum & 0xffff) + 1;
  }
  return sum;
}

/** A folded sum modulo 0xffff: 0 and 0xffff are one number in one's complement. */
const same = (a: number, b: number): boolean => a % 0xffff === b % 0xffff;

const pattern = (length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 167 + (i >> 3) * 29 + 255) & 0xff);

t.test('the example of RFC 1071 3', async (t) => {
  const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
  t.equal(checksum.fold(checksum.sum(new DataView(bytes.buffer), 0, 8)), 0xddf2);
  t.equal(checksum.finish(checksum.sum(new DataView(bytes.buffer), 0, 8)), ~0xddf2 & 0xffff);
});

t.test('sum and copyAndSum at every offset and length up to 230', async (t) => {
  const bytes = pattern(256);
  const view = new DataView(bytes.buffer);
  let wrong = 0;
  for (let offset = 0; offset < 9; offset++)
    for (let length = 0; length <= 230; length++) {
      const expected = naive(bytes.subarray(offset, offset + length));
      if (checksum.fold(checksum.sum(view, offset, length)) !== expected) wrong++;
      if (!same(checksum.fold(checksum.sum(view, offset, length, 0x1234)), expected + 0x1234)) wrong++;
      const copy = new Uint8Array(256);
      const copied = checksum.copyAndSum(view, offset, new DataView(copy.buffer), 7, length);
      if (checksum.fold(copied) !== expected) wrong++;
      if (Buffer.compare(copy.subarray(7, 7 + length), bytes.subarray(offset, offset + length)) !== 0) wrong++;
      if (copy[6] !== 0 || copy[7 + length] !== 0) wrong++;
    }
  t.equal(wrong, 0);
});

t.test('large and all-ones buffers, in a view that begins at an odd place', async (t) => {
  for (const length of [1460, 1461, 65480, 65535, 1 << 20]) {
    const backing = new Uint8Array(length + 3).fill(255);
    t.equal(
      checksum.fold(checksum.sum(new DataView(backing.buffer, 1, length), 0, length)),
      naive(backing.subarray(1, 1 + length)),
    );
  }
});

t.test('pieces of any length join to the whole', async () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 70 }), { maxLength: 8 }), (pieces) => {
      const whole = new Uint8Array(Buffer.concat(pieces));
      let partial = 0;
      let octets = 0;
      for (const piece of pieces) {
        partial = checksum.join(
          partial,
          octets,
          checksum.sum(new DataView(piece.buffer, piece.byteOffset, piece.length), 0, piece.length),
        );
        octets += piece.length;
      }
      return same(checksum.fold(partial), naive(whole));
    }),
  );
});

t.test('incremental updates agree with a new sum (RFC 1624)', async () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 20, maxLength: 60 }),
      fc.nat(0xffff),
      fc.integer(),
      fc.nat(7),
      (bytes, word, double, place) => {
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
        // Equation 3 holds for data that is not all zero: a header never is.
        view.setUint16(18, 0x4500);
        const at = place * 2;
        const before = checksum.finish(checksum.sum(view, 0, bytes.length));
        const oldWord = view.getUint16(at);
        view.setUint16(at, word);
        const after = checksum.updateWord(before, oldWord, word);
        if (after !== checksum.finish(checksum.sum(view, 0, bytes.length))) return false;
        const oldDouble = view.getInt32(at);
        view.setInt32(at, double);
        return (
          checksum.updateDoubleWord(after, oldDouble, double) === checksum.finish(checksum.sum(view, 0, bytes.length))
        );
      },
    ),
  );
});

t.test('the pseudo-header', async () => {
  fc.assert(
    fc.property(fc.integer(), fc.integer(), fc.nat(255), fc.nat(0xffff), (source, destination, protocol, octets) => {
      const bytes = new Uint8Array(12);
      const view = new DataView(bytes.buffer);
      view.setInt32(0, source);
      view.setInt32(4, destination);
      view.setUint8(9, protocol);
      view.setUint16(10, octets);
      return checksum.fold(checksum.pseudoHeaderSum(source, destination, protocol, octets)) === naive(bytes);
    }),
  );
});
