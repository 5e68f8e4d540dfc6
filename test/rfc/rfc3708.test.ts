/** RFC 3708, Using TCP Duplicate Selective Acknowledgement (DSACKs) to Detect Spurious Retransmissions. By section. */

import t, { type Test } from 'tap';
import { established, type TcpScript } from '../stack/tcp/tcp-script.ts';

/** Two segments went again, and all is acknowledged: the window is half of ten segments. */
function recovered(t: Test): TcpScript {
  const s = established(t, '<mss 1000,wscale 7,sackOK>');
  s.flight(10_000);
  s.guestSends('. 1:1(0) ack 1 <sack 2001:10001>');
  s.expect('. 1:1001(1000) ack 1', '. 1001:2001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 10001');
  return s;
}

const sent = (s: TcpScript): number => {
  s.write(100_000);
  s.world.poll();
  return s.world.link.take().length;
};

t.test('3: when all that was sent again came twice, the windows are as before', async (t) => {
  const s = recovered(t);
  s.guestSends('. 1:1(0) ack 10001 <sack 1:1001>', '. 1:1(0) ack 10001 <sack 1001:2001>');
  t.equal(sent(s), 100);
});

t.test('3: when only some of it did, they stay', async (t) => {
  const s = recovered(t);
  s.guestSends('. 1:1(0) ack 10001 <sack 1:1001>');
  t.equal(sent(s), 5);
});
