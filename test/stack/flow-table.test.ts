/** The flow table against a Map; the keyed hash. */

import fc from 'fast-check';
import t from 'tap';
import { FlowTable, KEY_WORDS } from '../../src/stack/flow-table.ts';
import { KeyedHash } from '../../src/stack/keyed-hash.ts';
import { seededRandom } from './world.ts';

const hashOf = (seed: number): KeyedHash => {
  const random = seededRandom(seed);
  return new KeyedHash({
    fill: (into) => {
      for (let i = 0; i < into.length; i++) into[i] = random() * 256;
    },
  });
};

/** Keys that differ in one word only, of few values: so that they meet. */
const keyOf = (number: number): Int32Array => {
  const key = new Int32Array(KEY_WORDS);
  key[number % KEY_WORDS] = 1 + Math.floor(number / KEY_WORDS);
  return key;
};

t.test('finds what a Map finds', async () => {
  const step = fc.tuple(fc.constantFrom('set', 'set', 'delete', 'find'), fc.nat(300));
  fc.assert(
    fc.property(fc.nat(), fc.array(step, { maxLength: 400 }), (seed, steps) => {
      const table = new FlowTable<number>(hashOf(seed + 1), 8);
      const map = new Map<number, number>();
      for (const [index, [action, number]] of steps.entries()) {
        if (action === 'set') {
          table.set(keyOf(number), index);
          map.set(number, index);
        } else if (action === 'delete') {
          if (table.delete(keyOf(number)) !== map.delete(number)) throw new Error('delete');
        } else if (table.find(keyOf(number)) !== map.get(number)) throw new Error('find');
        if (table.size !== map.size) throw new Error('size');
      }
      for (const [number, value] of map) if (table.find(keyOf(number)) !== value) throw new Error('lost');
      if ([...table.values()].sort().join() !== [...map.values()].sort().join()) throw new Error('values');
    }),
    { numRuns: 500 },
  );
});

t.test('the hash depends on every word, on their number and on the key', async (t) => {
  const one = hashOf(1);
  const two = hashOf(2);
  const seen = new Set<number>();
  for (let number = 0; number < 1000; number++) {
    seen.add(one.hash(keyOf(number), KEY_WORDS));
    seen.add(two.hash(keyOf(number), KEY_WORDS));
    seen.add(one.strong(keyOf(number), KEY_WORDS));
  }
  t.ok(seen.size >= 2999);
  const zeros = new Int32Array(KEY_WORDS);
  t.not(one.hash(zeros, 3), one.hash(zeros, 4));
});

t.test('slots are used evenly', async (t) => {
  const hash = hashOf(3);
  const counts = new Uint32Array(64);
  for (let port = 0; port < 64_000; port++) {
    const key = new Int32Array(KEY_WORDS);
    key[8] = port;
    counts[hash.hash(key, KEY_WORDS) & 63]!++;
  }
  for (const count of counts) t.ok(count > 800 && count < 1200, `${count} of 1000`);
});
