/** Closing: RFC 9293 3.6, 3.10.4, 3.10.7.4; TIME-WAIT; RFC 1122 4.2.2.13 (reopening), RFC 1337. By section: test/rfc. */

import t from 'tap';
import { established, TcpScript } from './tcp-script.ts';

t.test('the guest closes first, then we', async (t) => {
  const s = established(t);
  s.guestSends('F. 1:1(0) ack 1');
  s.owns('end');
  t.equal(s.connection.state, 'CLOSE-WAIT');
  s.expect('. 1:1(0) ack 2');
  s.write(100);
  s.connection.end();
  s.expect('FP. 1:101(100) ack 2');
  t.equal(s.connection.state, 'LAST-ACK');
  s.guestSends('. 2:2(0) ack 101');
  s.owns();
  s.guestSends('. 2:2(0) ack 102');
  s.owns('closed closed');
  t.same(s.world.netstack.flows(), []);
});

t.test('we close first, then the guest: TIME-WAIT', async (t) => {
  const s = established(t);
  s.connection.end();
  s.expect('F. 1:1(0) ack 1');
  t.equal(s.connection.state, 'FIN-WAIT-1');
  s.guestSends('. 1:1(0) ack 2');
  t.equal(s.connection.state, 'FIN-WAIT-2');
  s.guestSends('P. 1:101(100) ack 2');
  s.owns('received 100');
  s.expect('. 2:2(0) ack 101');
  s.guestSends('F. 101:101(0) ack 2');
  s.owns('end', 'closed closed');
  t.equal(s.connection.state, 'TIME-WAIT');
  s.expect('. 2:2(0) ack 102');
  // The acknowledgement was lost: the FIN comes again, and is answered again.
  s.guestSends('F. 101:101(0) ack 2');
  s.expect('. 2:2(0) ack 102');
  // RFC 1337: RST does not end TIME-WAIT.
  s.guestSends('R 102:102(0)');
  t.equal(s.connection.state, 'TIME-WAIT');
  s.advance(9000);
  t.equal(s.connection.state, 'TIME-WAIT');
  s.advance(1001);
  t.same(s.world.netstack.flows(), []);
  s.owns();
});

t.test('a lost FIN is sent again', async (t) => {
  const s = established(t);
  s.write(10);
  s.connection.end();
  s.expect('FP. 1:11(10) ack 1');
  s.advance(101);
  s.expect('FP. 1:11(10) ack 1');
  s.guestSends('. 1:1(0) ack 11');
  s.expect();
  s.advance(101);
  s.expect('F. 11:11(0) ack 1');
  s.guestSends('. 1:1(0) ack 12');
  t.equal(s.connection.state, 'FIN-WAIT-2');
});

t.test('a FIN out of order waits for what is before it', async (t) => {
  const s = established(t);
  s.guestSends('FP. 101:201(100) ack 1');
  s.owns();
  s.expect('. 1:1(0) ack 1');
  s.guestSends('. 1:101(100) ack 1');
  s.owns('received 200');
  s.expect('. 1:1(0) ack 201');
  s.guestSends('FP. 101:201(100) ack 1');
  s.owns('end');
  s.expect('. 1:1(0) ack 202');
});

t.test('abort: RST that the guest will believe, and the tuple is free', async (t) => {
  const s = established(t);
  s.write(10);
  s.expect('P. 1:11(10) ack 1');
  s.connection.abort();
  s.owns('closed aborted');
  s.expect('R. 11:11(0) ack 1');
  s.connection.abort();
  s.owns();
  s.guestSends('P. 1:11(10) ack 1');
  s.expect('R 1:1(0)');
});

t.test('the guest resets', async (t) => {
  const s = established(t);
  s.guestSends('P. 1:11(10) ack 1', 'R. 11:11(0) ack 1');
  s.owns('received 10', 'closed ECONNRESET');
  s.expect();
  t.same(s.world.netstack.flows(), []);
});

t.test('RFC 1122 4.2.2.13: a later SYN takes over the tuple of TIME-WAIT, an earlier one does not', async (t) => {
  const s = established(t);
  s.connection.end();
  s.expect('F. 1:1(0) ack 1');
  s.guestSends('F. 1:1(0) ack 2');
  s.expect('. 2:2(0) ack 2');
  s.owner.take();
  s.guestSends('S -100:-100(0)');
  s.expect('. 2:2(0) ack 2');
  t.equal(s.world.dialled.length, 1);
  s.guestSends('S 5000:5000(0)');
  t.equal(s.world.dialled.length, 2);
  const before = s.ourIsn!;
  s.connection.accept(s.owner);
  s.expect('S. 0:0(0) ack 5001');
  t.ok(((s.ourIsn! - before) | 0) > 2, 'beyond what the old connection sent');
});

t.test('TIME-WAIT is bounded: the oldest goes first', async (t) => {
  const s = new TcpScript(t, { limits: { timeWait: 10 } });
  for (let port = 1; port <= 30; port++) {
    const g = Object.assign(s, { guestPort: port });
    g.establish();
    g.connection.end();
    s.world.poll();
    s.guestSends('F. 1:1(0) ack 2');
    s.world.poll();
    s.world.link.take();
  }
  const flows = s.world.netstack.flows();
  t.equal(flows.length, 10);
  t.notOk(flows.some(({ guest }) => guest.endsWith(':1')));
});

t.test('the link goes: everything behind it ends', async (t) => {
  const s = established(t);
  s.world.link.gone();
  s.owns('closed EHOSTUNREACH');
  t.same(s.world.netstack.flows(), []);
  s.advance(1000);
});

t.test('Christmas trees', async (t) => {
  const s = established(t);
  s.guestSends('SFRPU. 1:11(10) ack 1');
  s.owns('closed ECONNRESET');
  s.expect();
  const u = established(t);
  u.guestSends('SFPU. 1:11(10) ack 1');
  u.expect('. 1:1(0) ack 1');
  u.guestSends('FPU. 1:11(10) ack 1');
  u.owns('received 10', 'end');
});
