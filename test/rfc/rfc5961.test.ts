/** RFC 5961, Improving TCP's Robustness to Blind In-Window Attacks. By section. */

import t from 'tap';
import { established } from '../stack/tcp/tcp-script.ts';
import { rcvNxt, reach, sndNxt, synchronized } from './states.ts';

const resettable = synchronized.slice(0, -1);

t.test('3.2: RST outside the window is dropped silently', async (t) => {
  for (const state of resettable) {
    const s = reach(t, state);
    const next = rcvNxt(state);
    for (const seq of [next - 1, next - 70_000, next + 70_000, next + 0x7000_0000]) s.guestSends(`R ${seq}:${seq}(0)`);
    s.expect();
    t.equal(s.connection.state, state);
    t.same(s.world.drops(), { 'tcp-unacceptable': 4 });
  }
});

t.test('3.2: RST inside the window, not at RCV.NXT, gets a challenge ACK and resets nothing', async (t) => {
  for (const state of resettable) {
    const s = reach(t, state);
    const seq = rcvNxt(state) + 1;
    s.guestSends(`R ${seq}:${seq}(0)`);
    // Where the guest has closed no window is left for it to be in.
    if (s.world.drops()['tcp-challenged'] === 1)
      s.expect(`. ${sndNxt(state)}:${sndNxt(state)}(0) ack ${rcvNxt(state)}`);
    t.equal(s.connection.state, state);
    s.owns();
  }
});

t.test('3.2: RST at the last number of the window is challenged, one beyond it dropped', async (t) => {
  const s = established(t, '<mss 1460>');
  s.guestSends('R 65535:65535(0)');
  s.expect('. 1:1(0) ack 1 win 65535');
  s.guestSends('R 65536:65536(0)');
  s.expect();
});

t.test('3.2: RST at RCV.NXT resets', async (t) => {
  for (const state of resettable) {
    const s = reach(t, state);
    s.guestSends(`R ${rcvNxt(state)}:${rcvNxt(state)}(0)`);
    s.owns('closed ECONNRESET');
  }
});

t.test('3.2: the guest whose RST was challenged sends one that fits', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  // It has sent 100 octets that were lost, then reset.
  s.guestSends('R 101:101(0)');
  s.expect('. 1:1(0) ack 1');
  s.guestSends('R 1:1(0)');
  s.owns('closed ECONNRESET');
});

t.test('4.2: SYN in a synchronized state gets a challenge ACK, wherever its number lies', async (t) => {
  for (const state of resettable)
    for (const seq of [0, 1, 2, 5000, 70_000, -70_000]) {
      const s = reach(t, state);
      s.guestSends(`S ${seq}:${seq}(0)`);
      s.expect(`. ${sndNxt(state)}:${sndNxt(state)}(0) ack ${rcvNxt(state)}`);
      t.equal(s.connection.state, state);
      s.owns();
    }
});

t.test('4.2: SYN with data, FIN or ACK is no more believed than SYN', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  for (const line of ['S. 1:11(10) ack 1', 'SF 1:1(0)', 'SP. 5:10(5) ack 1']) {
    s.guestSends(line);
    s.expect('. 1:1(0) ack 1');
  }
  s.owns();
});

t.test('5.2: data is taken only with an acknowledgement of SND.UNA - MAX.SND.WND to SND.NXT', async (t) => {
  const s = established(t, '<mss 1000>', 2000);
  s.write(2000);
  s.world.poll();
  s.guestSends('. 1:1(0) ack 2001 win 2000');
  s.world.poll();
  s.world.link.take();
  for (const ack of [2002, 2001 + 0x4000_0000, 0, 2001 - 0x4000_0000]) {
    s.guestSends(`P. 1:11(10) ack ${ack}`);
    s.owns();
    s.expect('. 2001:2001(0) ack 1');
  }
  s.guestSends('P. 1:11(10) ack 1');
  s.owns('received 10');
});

t.test('5.2: such an acknowledgement moves no window either', async (t) => {
  const s = established(t, '<mss 1000>', 2000);
  s.guestSends('. 1:1(0) ack 2 win 0');
  s.world.poll();
  s.world.link.take();
  s.write(1000);
  s.expect('P. 1:1001(1000) ack 1');
});

t.test('7: challenge ACKs are limited per connection, and allowed again later', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  for (let i = 0; i < 1000; i++) {
    s.guestSends('R 100:100(0)');
    s.world.poll();
  }
  const sent = s.world.link.take().length;
  t.equal(sent, 5);
  s.world.nowMs += 5000;
  s.guestSends('R 100:100(0)');
  s.expect('. 1:1(0) ack 1');
});

t.test('7: the limit of one connection is not that of another', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  for (let i = 0; i < 100; i++) s.guestSends('R 100:100(0)');
  s.world.poll();
  s.world.link.take();
  Object.assign(s, { guestPort: 40001 }).establish();
  s.guestSends('R 100:100(0)');
  s.expect('. 1:1(0) ack 1');
});
