/** Octets from the pool: as many as asked, never the same again. */

import t from 'tap';
import { RandomPool } from '../../src/proxy/adapter/random-pool.ts';

t.test('every portion is filled, and no two are alike', async (t) => {
  const pool = new RandomPool();
  const seen = new Set<string>();
  for (let i = 0; i < 2000; i++) {
    const portion = new Uint8Array(12 + (i % 5));
    pool.fill(portion);
    seen.add(Buffer.from(portion).toString('hex'));
  }
  t.equal(seen.size, 2000);
  const large = new Uint8Array(100_000);
  pool.fill(large);
  t.ok(large.subarray(99_000).some((octet) => octet !== 0));
  pool.fill(new Uint8Array(0));
});
