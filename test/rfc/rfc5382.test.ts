/** RFC 5382, NAT Behavioral Requirements for TCP: what concerns connections that idle. By requirement. */

import t from 'tap';
import { icmpFrame } from '../stack/frames.ts';
import { established } from '../stack/tcp/tcp-script.ts';
import { reach, synchronized } from './states.ts';

const HOUR_MS = 3_600_000;

t.test(
  'REQ-5: an established connection that idles lives for more than 2 hours 4 minutes, and costs nothing',
  async (t) => {
    const s = reach(t, 'ESTABLISHED');
    s.advance(5000);
    t.equal(s.world.netstack.pollAt(), Number.POSITIVE_INFINITY, 'nothing is due');
    t.equal(s.world.netstack.pooledOctets, 0);
    s.advance(1000 * HOUR_MS);
    s.owns();
    s.guestSends('P. 1:11(10) ack 1');
    s.owns('received 10');
    s.write(10);
    s.expect('P. 1:11(10) ack 11');
  },
);

t.test('REQ-5: so does a half-closed one, whichever side closed', async (t) => {
  const theirs = reach(t, 'CLOSE-WAIT');
  theirs.advance(3 * HOUR_MS);
  theirs.owns();
  theirs.write(10);
  theirs.expect('P. 1:11(10) ack 2');
  const ours = reach(t, 'FIN-WAIT-2');
  for (let minutes = 0; minutes < 180; minutes++) {
    ours.advance(60_001);
    ours.guestSends('. 1:1(0) ack 2');
  }
  ours.world.link.take();
  ours.guestSends('P. 1:11(10) ack 2');
  ours.owns('received 10');
});

t.test('REQ-5: so does one whose guest has its window closed', async (t) => {
  const s = established(t, '<mss 1000>', 1000);
  s.write(2000);
  s.world.poll();
  s.guestSends('. 1:1(0) ack 1001 win 0');
  s.world.link.take();
  const until = s.world.nowMs + 2 * HOUR_MS;
  while (s.world.nowMs < until) {
    s.advanceUntilSent();
    s.world.link.take();
    s.guestSends('. 1:1(0) ack 1001 win 0');
  }
  s.owns();
  s.guestSends('. 1:1(0) ack 1001 win 1000');
  s.expect('P. 1001:2001(1000) ack 1');
});

t.test('REQ-2: simultaneous open works through it', async (t) => {
  const s = reach(t, 'SYN-SENT');
  s.guestSends('S 0:0(0)');
  s.world.poll();
  s.guestSends('. 1:1(0) ack 1');
  s.owns('established');
});

t.test('REQ-10: an ICMP message does not end a connection', async (t) => {
  for (const state of synchronized.slice(0, -1)) {
    const s = reach(t, state);
    if (state === 'ESTABLISHED' || state === 'CLOSE-WAIT') s.write(10);
    s.world.poll();
    s.advance(200);
    const sent = s.world.link.take().at(-1);
    if (!sent) continue;
    for (const code of [0, 1, 2, 3, 5, 13]) s.world.link.input([icmpFrame(3, code, 0, sent.bytes.slice(14, 42))]);
    t.equal(s.connection.state, state);
    s.owns();
  }
});

t.test('5: after an RST the tuple is free again', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.guestSends('R 1:1(0)');
  s.owns('closed ECONNRESET');
  s.guestSends('S 500:500(0)');
  t.equal(s.world.dialled.length, 2);
});
