/** The timer wheel against a plain list. */

import fc from 'fast-check';
import t from 'tap';
import { Timer, TimerWheel } from '../../src/stack/timers.ts';

class Owner {
  readonly timer = new Timer(this);
  firedAtMs: number[] = [];
  onFire: (() => void) | undefined = undefined;

  expired(nowMs: number): void {
    this.firedAtMs.push(nowMs);
    this.onFire?.();
  }
}

t.test('fires what a list would fire, never early, at most a tick late', async () => {
  const delay = fc.oneof(
    fc.double({ min: 0, max: 70, noNaN: true }),
    fc.integer({ min: 0, max: 5000 }),
    fc.integer({ min: 0, max: 20_000_000 }),
    fc.constantFrom(0, 63, 64, 65, 4095, 4096, 4097, 262_143, 262_144, 16_777_215, 16_777_216, 50_000_000),
  );
  const step = fc.oneof(
    fc.record({ do: fc.constant('arm' as const), timer: fc.nat(9), delay }),
    fc.record({ do: fc.constant('cancel' as const), timer: fc.nat(9), delay: fc.constant(0) }),
    fc.record({ do: fc.constant('pass' as const), timer: fc.constant(0), delay }),
  );
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1e11, noNaN: true }), fc.array(step, { maxLength: 60 }), (start, steps) => {
      let nowMs = start;
      const wheel = new TimerWheel(nowMs);
      const owners = Array.from({ length: 10 }, () => new Owner());
      const due = new Map<Owner, number>();
      for (const { do: action, timer, delay: ms } of steps) {
        const owner = owners[timer]!;
        if (action === 'arm') {
          wheel.arm(owner.timer, nowMs + ms);
          due.set(owner, nowMs + ms);
        } else if (action === 'cancel') {
          wheel.cancel(owner.timer);
          due.delete(owner);
        } else {
          nowMs += ms;
          for (const { firedAtMs } of owners) firedAtMs.length = 0;
          wheel.advance(nowMs);
          for (const [late, at] of due) {
            const fired = late.firedAtMs.length > 0;
            if (fired && at > nowMs) throw new Error('early');
            if (!fired && at <= nowMs - 1) throw new Error(`late: due ${at}, now ${nowMs}`);
            if (fired) due.delete(late);
          }
        }
        if (wheel.size !== due.size) throw new Error(`${wheel.size} armed, ${due.size} due`);
        for (const each of owners) if (each.timer.armed !== due.has(each)) throw new Error('armed');
        const next = wheel.nextMs();
        if (due.size === 0 ? next !== Number.POSITIVE_INFINITY : next > Math.min(...due.values()) + 1) {
          // The next tick may be the one after now, when the deadline has passed already.
          if (next > Math.floor(nowMs) + 1) throw new Error(`next ${next}`);
        }
      }
    }),
    { numRuns: 2000 },
  );
});

t.test('an owner may arm itself and cancel others while it is told', async (t) => {
  const wheel = new TimerWheel(0);
  const [a, b] = [new Owner(), new Owner()];
  wheel.arm(a.timer, 10);
  wheel.arm(b.timer, 10);
  for (const [owner, other] of [
    [a, b],
    [b, a],
  ] as const)
    owner.onFire = () => {
      wheel.cancel(other.timer);
      wheel.arm(owner.timer, 20);
    };
  wheel.advance(10);
  t.equal(a.firedAtMs.length + b.firedAtMs.length, 1);
  t.equal(wheel.size, 1);
  a.onFire = undefined;
  b.onFire = undefined;
  wheel.advance(20);
  t.equal(wheel.size, 0);
});

t.test('ten thousand timers cost nothing until they are due', async (t) => {
  const wheel = new TimerWheel(0);
  const owners = Array.from({ length: 10_000 }, () => new Owner());
  for (const owner of owners) wheel.arm(owner.timer, 60_000);
  let advances = 0;
  for (let now = 0; now < 59_999; now = Math.max(now + 1, Math.min(wheel.nextMs(), 59_999)), advances++)
    wheel.advance(now);
  t.ok(advances < 200, `${advances} times`);
  t.notOk(owners.some(({ firedAtMs }) => firedAtMs.length > 0));
  wheel.advance(60_000);
  t.ok(owners.every(({ firedAtMs }) => firedAtMs.length === 1));
});
