/** RFC 6298, Computing TCP's Retransmission Timer. By section. */

import t, { type Test } from 'tap';
import { answered, type TcpScript } from '../stack/tcp/tcp-script.ts';
import { opening } from './states.ts';

/** Established, with one round trip of `ms` measured. */
function measured(t: Test, ms: number): TcpScript {
  const s = answered(t, '<mss 1000,wscale 7>');
  s.world.nowMs += ms;
  s.guestSends('. 1:1(0) ack 1');
  s.owns('established');
  return s;
}

/** Milliseconds until something is sent. */
function quiet(s: TcpScript): number {
  const before = s.world.nowMs;
  s.advanceUntilSent();
  return s.world.nowMs - before;
}

const near = (t: Test, found: number, wanted: number): void => {
  t.ok(found >= wanted && found <= wanted + 2, `${found} ms, wanted ${wanted}`);
};

t.test('2.1: before a measurement the timeout is 1 second', async (t) => {
  const s = opening(t);
  near(t, quiet(s), 1000);
});

t.test('2.2: after the first, R + 4 * R/2', async (t) => {
  const s = measured(t, 200);
  s.write(10);
  s.expect('P. 1:11(10) ack 1');
  near(t, quiet(s), 600);
});

t.test('2.3: then smoothed: RTTVAR 3/4 and 1/4, SRTT 7/8 and 1/8', async (t) => {
  const s = measured(t, 200);
  s.write(10);
  s.expect('P. 1:11(10) ack 1');
  s.world.nowMs += 100;
  s.guestSends('. 1:1(0) ack 11');
  s.write(10);
  s.expect('P. 11:21(10) ack 1');
  // RTTVAR 3/4 * 100 + 1/4 * 100 = 100, SRTT 7/8 * 200 + 1/8 * 100 = 187.5
  near(t, quiet(s), 587.5);
});

t.test('2.5: 60 seconds at most', async (t) => {
  const s = measured(t, 200);
  s.write(10);
  s.expect('P. 1:11(10) ack 1');
  let longest = 0;
  for (let i = 0; i < 12; i++) {
    longest = Math.max(longest, quiet(s));
    s.world.link.take();
  }
  near(t, longest, 60_000);
});

t.test('3: Karn: what was sent again is not measured', async (t) => {
  const s = measured(t, 200);
  s.write(10);
  s.expect('P. 1:11(10) ack 1');
  near(t, quiet(s), 600);
  s.world.link.take();
  s.world.nowMs += 5000;
  s.guestSends('. 1:1(0) ack 11');
  t.equal(s.world.netstack.flows()[0]?.rttMs, 200);
});

t.test('5.1: sending starts the timer if it is not running, and does not put it off if it is', async (t) => {
  const s = measured(t, 200);
  s.write(10);
  s.expect('P. 1:11(10) ack 1');
  s.world.nowMs += 500;
  s.write(10);
  s.expect('P. 11:21(10) ack 1');
  near(t, quiet(s), 100);
});

t.test('5.2: when all is acknowledged it stops', async (t) => {
  const s = measured(t, 200);
  s.write(10);
  s.expect('P. 1:11(10) ack 1');
  s.guestSends('. 1:1(0) ack 11');
  s.advance(120_000);
  s.expect();
});

t.test('5.3: an acknowledgement of something new starts it again', async (t) => {
  const s = measured(t, 200);
  s.write(2000);
  s.expect('. 1:1001(1000) ack 1', 'P. 1001:2001(1000) ack 1');
  s.world.nowMs += 500;
  s.guestSends('. 1:1(0) ack 1001');
  s.world.nowMs += 500;
  s.expect();
});

t.test('5.4: when it expires the earliest segment is sent again', async (t) => {
  const s = measured(t, 200);
  s.flight(3000);
  s.advanceUntilSent();
  s.expect('. 1:1001(1000) ack 1');
});

t.test('5.5: and the timeout doubles', async (t) => {
  const s = measured(t, 200);
  s.write(10);
  s.expect('P. 1:11(10) ack 1');
  for (const wanted of [600, 1200, 2400, 4800, 9600]) {
    near(t, quiet(s), wanted);
    s.expect('P. 1:11(10) ack 1');
  }
});

t.test('5.5: a SYN and a SYN-ACK back off alike', async (t) => {
  const s = opening(t);
  for (const wanted of [1000, 2000, 4000, 8000]) {
    near(t, quiet(s), wanted);
    s.expect('S 0:0(0)');
  }
});
