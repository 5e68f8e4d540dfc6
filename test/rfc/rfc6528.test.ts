/** RFC 6528, Defending against Sequence Number Attacks. By section. */

import t, { type Test } from 'tap';
import { readIp } from '../stack/frames.ts';
import { TcpScript } from '../stack/tcp/tcp-script.ts';

/** Our initial sequence number towards a guest's port, as its SYN-ACK shows it. */
function isn(
  t: Test,
  options: { guestPort?: number; peer?: string; peerPort?: number; seed?: number; atMs?: number },
): number {
  const s = new TcpScript(t, options);
  s.world.nowMs = options.atMs ?? 1000;
  s.guestSends('S 0:0(0)');
  s.connection.accept(s.owner);
  s.world.poll();
  const { payload } = readIp(s.world.link.take()[0]!.bytes);
  return new DataView(payload.buffer, payload.byteOffset).getUint32(4);
}

t.test('3: numbers of one tuple grow with a clock of 4 microseconds', async (t) => {
  for (const ms of [1, 10, 1000, 3_600_000])
    t.equal((isn(t, { atMs: 1000 + ms }) - isn(t, {})) >>> 0, (ms * 250) >>> 0);
});

t.test('3: numbers of different tuples tell nothing of each other: every part of the tuple counts', async (t) => {
  const all = [{}, { guestPort: 40001 }, { guestPort: 40002 }, { peer: '10.0.0.2' }, { peerPort: 81 }].map((options) =>
    isn(t, options),
  );
  t.equal(new Set(all).size, all.length);
  const distances = all.slice(1).map((value, i) => (value - all[i]!) | 0);
  t.equal(new Set(distances).size, distances.length);
  t.ok(distances.every((distance) => Math.abs(distance) > 1000));
});

t.test('3: the secret differs between netstacks', async (t) => {
  t.not(isn(t, { seed: 1 }), isn(t, { seed: 2 }));
});

t.test('3: 4096 tuples have 4096 numbers, spread over the whole space', async (t) => {
  const s = new TcpScript(t);
  const quarters = [0, 0, 0, 0];
  const seen = new Set<number>();
  for (let guestPort = 1; guestPort <= 4096; guestPort++) {
    Object.assign(s, { guestPort }).guestSends('S 0:0(0)');
    s.connection.accept(s.owner);
    s.world.poll();
    const { payload } = readIp(s.world.link.take()[0]!.bytes);
    const value = new DataView(payload.buffer, payload.byteOffset).getUint32(4);
    seen.add(value);
    quarters[value >>> 30]!++;
    s.connection.abort();
    s.world.link.take();
  }
  t.ok(seen.size >= 4090);
  t.ok(quarters.every((count) => count > 800));
});
