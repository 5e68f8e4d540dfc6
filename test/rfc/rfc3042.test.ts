/** RFC 3042, Enhancing TCP's Loss Recovery Using Limited Transmit. By section. */

import t from 'tap';
import { established, TcpScript } from '../stack/tcp/tcp-script.ts';

/** Established with more to send than the congestion window lets out; returns how many segments were. */
function full(s: TcpScript, window = 65535): number {
  s.establish('<mss 1000,wscale 7>', window);
  s.write(250_000);
  s.world.poll();
  return s.world.link.take().length;
}

const duplicate = (s: TcpScript): number => {
  s.guestSends('. 1:1(0) ack 1');
  s.world.poll();
  return s.world.link.take().length;
};

t.test('2: each of the first two duplicates lets one new segment out', async (t) => {
  const s = new TcpScript(t);
  t.ok(full(s) < 250);
  t.same([duplicate(s), duplicate(s)], [1, 1]);
});

t.test('2: only as far as the window of the guest goes', async (t) => {
  const s = established(t, '<mss 1000>', 5000);
  s.write(20_000);
  s.world.poll();
  t.equal(s.world.link.take().length, 5);
  s.guestSends('. 1:1(0) ack 1 win 5000');
  s.expect();
});

t.test('2: the congestion window itself does not grow by it', async (t) => {
  const s = new TcpScript(t);
  const first = full(s);
  duplicate(s);
  duplicate(s);
  s.guestSends('. 1:1(0) ack 1001');
  s.world.poll();
  // One segment has left: what may be in flight is what was before, and a segment of slow start.
  t.ok(s.world.link.take().length <= 2);
  t.ok(first > 100);
});
