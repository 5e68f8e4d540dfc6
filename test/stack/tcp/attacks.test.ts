/** Blind and other attacks: RFC 5961, RFC 9293 3.10.7.4. */

import t from 'tap';
import { TcpScript } from './tcp-script.ts';

t.test(
  'RFC 5961 3.2: RST with the exact number resets, within the window it is challenged, outside it is nothing',
  async (t) => {
    const s = new TcpScript(t);
    s.establish();
    s.guestSends('R 65537:65537(0)', 'R 0:0(0)', 'R -5:-5(0)');
    s.expect();
    s.guestSends('R 2:2(0)');
    s.expect('. 1:1(0) ack 1');
    s.guestSends('R 65535:65535(0)');
    s.expect('. 1:1(0) ack 1');
    s.owns();
    s.guestSends('R 1:1(0)');
    s.owns('closed ECONNRESET');
    t.same(s.world.drops(), { 'tcp-unacceptable': 3, 'tcp-challenged': 2 });
  },
);

t.test('RFC 5961 4.2: SYN is challenged, wherever it lies', async (t) => {
  const s = new TcpScript(t);
  s.establish();
  s.guestSends('S 1:1(0)');
  s.expect('. 1:1(0) ack 1');
  s.guestSends('S 999999:999999(0)');
  s.expect('. 1:1(0) ack 1');
  s.guestSends('S. 500:500(0) ack 1');
  s.expect('. 1:1(0) ack 1');
  s.owns();
  t.equal(s.connection.state, 'ESTABLISHED');
});

t.test('a guest that has rebooted answers the challenge with RST, and connects with its next SYN', async (t) => {
  const s = new TcpScript(t);
  s.establish();
  s.guestSends('S 70000:70000(0)');
  s.expect('. 1:1(0) ack 1');
  s.guestSends('R 1:1(0)');
  s.owns('closed ECONNRESET');
  s.guestSends('S 70000:70000(0)');
  t.equal(s.world.dialled.length, 2);
});

t.test('RFC 5961 5.2: an acknowledgement too old or too new is challenged, and its data dropped', async (t) => {
  const s = new TcpScript(t);
  s.establish('<mss 1000>', 2000);
  s.write(3000);
  s.world.poll();
  s.guestSends('. 1:1(0) ack 2001 win 2000');
  s.world.poll();
  s.world.link.take();
  s.guestSends('P. 1:11(10) ack 3002');
  s.expect('. 3001:3001(0) ack 1');
  s.guestSends('P. 1:11(10) ack -5000');
  s.expect('. 3001:3001(0) ack 1');
  s.owns();
  // An old one within the widest window is only old.
  s.guestSends('P. 1:11(10) ack 1001');
  s.owns('received 10');
});

t.test('RFC 5961 7: challenges are limited', async (t) => {
  const s = new TcpScript(t);
  s.establish();
  let answers = 0;
  for (let i = 0; i < 100; i++) {
    s.guestSends('R 100:100(0)');
    s.world.poll();
    answers += s.world.link.take().length;
  }
  t.equal(answers, 5);
  s.world.nowMs += 1001;
  s.guestSends('R 100:100(0)');
  s.expect('. 1:1(0) ack 1');
});

t.test('a segment without ACK is dropped', async (t) => {
  const s = new TcpScript(t);
  s.establish();
  s.guestSends('P 1:11(10)');
  s.expect();
  s.owns();
  t.same(s.world.drops(), { 'tcp-no-ack': 1 });
});

t.test('RFC 9293 3.8.4: a keep-alive is answered', async (t) => {
  const s = new TcpScript(t);
  s.establish();
  s.guestSends('. 0:0(0) ack 1');
  s.expect('. 1:1(0) ack 1');
  s.guestSends('. 0:1(1) ack 1');
  s.expect('. 1:1(0) ack 1');
  s.owns();
});

t.test('Christmas trees', async (t) => {
  const s = new TcpScript(t);
  s.establish();
  s.guestSends('SFRPU. 1:11(10) ack 1');
  s.owns('closed ECONNRESET');
  s.expect();
  const u = new TcpScript(t);
  u.establish();
  u.guestSends('SFPU. 1:11(10) ack 1');
  u.expect('. 1:1(0) ack 1');
  u.guestSends('FPU. 1:11(10) ack 1');
  u.owns('received 10', 'end');
});
