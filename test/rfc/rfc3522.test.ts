/** RFC 3522, The Eifel Detection Algorithm for TCP, with the response of RFC 4015. By section. */

import t, { type Test } from 'tap';
import { established, type TcpScript } from '../stack/tcp/tcp-script.ts';

/** Timestamps, no SACK; ten segments of 988 octets are in flight, and the first went again at tick `again`. */
function timedOut(t: Test): { s: TcpScript; again: number } {
  const s = established(t, '<mss 1000,wscale 7,TS val 1 ecr 0>');
  s.flight(9880);
  const begin = s.world.nowMs;
  s.advanceUntilSent();
  const again = Math.floor(s.world.nowMs) - begin;
  s.expect(`. 1:989(988) ack 1 <TS val ${again} ecr 1>`);
  return { s, again };
}

t.test(
  '3.2: an acknowledgement that echoes the first transmission: nothing was lost, and the windows are as before',
  async (t) => {
    const { s } = timedOut(t);
    s.guestSends('. 1:1(0) ack 989 <TS val 2 ecr 0>');
    s.expect();
    s.write(50_000);
    s.world.poll();
    t.ok(s.world.link.take().length > 50);
  },
);

t.test('3.2: one that echoes what was sent again says nothing of the kind', async (t) => {
  const { s, again } = timedOut(t);
  s.guestSends(`. 1:1(0) ack 989 <TS val 2 ecr ${again}>`);
  s.world.poll();
  t.equal(s.world.link.take().length, 2, 'slow start');
});

t.test('3.2: only the first acknowledgement counts', async (t) => {
  const { s, again } = timedOut(t);
  s.guestSends(`. 1:1(0) ack 989 <TS val 2 ecr ${again}>`);
  s.world.poll();
  s.world.link.take();
  s.guestSends('. 1:1(0) ack 1977 <TS val 2 ecr 0>');
  s.world.poll();
  t.ok(s.world.link.take().length <= 2);
});
