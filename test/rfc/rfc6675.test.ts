/** RFC 6675, A Conservative Loss Recovery Algorithm Based on Selective Acknowledgment (SACK) for TCP. By section. */

import t, { type Test } from 'tap';
import { measured, type TcpScript } from '../stack/tcp/tcp-script.ts';

/** A flight of the whole initial window, 131 segments, with more to send. */
function full(t: Test, octets = 250_000): TcpScript {
  const s = measured(t, '<mss 1000,wscale 7,sackOK>');
  t.equal(s.flight(octets), 131);
  s.world.nowMs += 10;
  return s;
}

const sent = (s: TcpScript): number => {
  s.world.poll();
  return s.world.link.take().length;
};

t.test('4: what the guest has is not in flight: something new may go for it', async (t) => {
  const s = full(t);
  s.guestSends('. 1:1(0) ack 1 <sack 1001:2001>');
  s.expect('. 131001:132001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 1 <sack 1001:3001>');
  s.expect('. 132001:133001(1000) ack 1');
});

t.test('5: the first segment that is lost goes at once, others as what is in flight falls below half', async (t) => {
  const s = full(t);
  s.guestSends('. 1:1(0) ack 1 <sack 3001:6001>');
  s.expect('. 1:1001(1000) ack 1');
  // Half of 131: 65. In flight: 131 - 3 - 1.
  s.guestSends('. 1:1(0) ack 1 <sack 3001:66001>');
  s.expect();
  s.guestSends('. 1:1(0) ack 1 <sack 3001:68001>');
  s.expect('. 1001:2001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 1 <sack 3001:70001>');
  s.expect('. 2001:3001(1000) ack 1', '. 131001:132001(1000) ack 1');
});

t.test('5: the window is halved once for all losses of a flight', async (t) => {
  const s = full(t, 131_000);
  s.guestSends('. 1:1(0) ack 1 <sack 1001:70001>');
  s.expect('. 1:1001(1000) ack 1');
  s.world.nowMs += 10;
  s.guestSends('. 1:1(0) ack 70001 <sack 71001:131001>');
  s.expect('. 70001:71001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 131001');
  s.write(131_000);
  t.equal(sent(s), 65);
});
