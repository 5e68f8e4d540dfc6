/** Windows: RFC 9293 3.8.6 (management, silly windows, probes), RFC 7323 2 (scale). */

import t from 'tap';
import type { TcpConnection } from '../../../src/stack/port.ts';
import { established, TcpScript } from './tcp-script.ts';

t.test('the window is what the owner promises, scaled', async (t) => {
  const s = new TcpScript(t);
  s.owner.mostRoom = 1 << 20;
  s.establish();
  s.guestSends('P. 1:11(10) ack 1');
  s.expect(`. 1:1(0) ack 11 win ${(1 << 20) >> 7}`);
});

t.test('never wider than the limit', async (t) => {
  const s = new TcpScript(t);
  s.owner.mostRoom = 1 << 30;
  s.establish();
  s.guestSends('P. 1:11(10) ack 1');
  s.expect(`. 1:1(0) ack 11 win ${(4 << 20) >> 7}`);
});

t.test('RFC 9293 3.8.6 (SHLD-14): the right edge never moves left', async (t) => {
  const s = established(t, '<mss 1000>');
  s.guestSends('. 1:1001(1000) ack 1');
  s.expect('. 1:1(0) ack 1001 win 64535');
  s.owner.mostRoom = 0;
  s.guestSends('. 1001:2001(1000) ack 1');
  s.expect('. 1:1(0) ack 2001 win 63535');
  s.owner.mostRoom = 10_000;
  s.guestSends('. 2001:3001(1000) ack 1');
  s.expect('. 1:1(0) ack 3001 win 62535');
});

t.test('with a scale the edge is rounded up, not down', async (t) => {
  const s = established(t);
  s.guestSends('. 1:1001(1000) ack 1');
  // 65535 - 1000 = 64535, that is 504.2 units of 128.
  s.expect('. 1:1(0) ack 1001 win 505');
  s.owner.mostRoom = 0;
  s.guestSends('. 1001:1002(1) ack 1');
  s.expect('. 1:1(0) ack 1002 win 505');
});

t.test('RFC 9293 3.8.6.2.2: the window opens by steps worth a segment', async (t) => {
  const s = new TcpScript(t);
  s.owner.mostRoom = 10_000;
  s.establish('<mss 1000>');
  s.owner.mostRoom = 0;
  for (let at = 1; at < 10_001; at += 1000) s.guestSends(`. ${at}:${at + 1000}(1000) ack 1`);
  s.expect('. 1:1(0) ack 10001 win 0');
  s.owner.mostRoom = 500;
  s.connection.roomGrew();
  s.expect();
  s.owner.mostRoom = 2000;
  s.connection.roomGrew();
  s.expect();
  s.owner.mostRoom = 3000;
  s.connection.roomGrew();
  s.expect('. 1:1(0) ack 10001 win 3000');
  s.owner.mostRoom = 3500;
  s.connection.roomGrew();
  s.expect();
});

t.test('a closed window: probes are answered, and taken when there is room again', async (t) => {
  const s = new TcpScript(t);
  s.owner.mostRoom = 1000;
  s.establish('<mss 1000>');
  s.owner.mostRoom = 0;
  s.guestSends('. 1:1001(1000) ack 1');
  s.owns('received 1000');
  s.expect('. 1:1(0) ack 1001 win 0');
  for (let probe = 0; probe < 20; probe++) {
    s.guestSends('. 1001:1002(1) ack 1');
    s.owns();
    s.expect('. 1:1(0) ack 1001 win 0');
  }
  s.owner.mostRoom = 1000;
  s.guestSends('. 1001:1002(1) ack 1');
  s.expect('. 1:1(0) ack 1001 win 1000');
  s.guestSends('. 1001:2001(1000) ack 1');
  s.owns('received 1000');
});

t.test('what lies beyond the window is cut off', async (t) => {
  const s = new TcpScript(t);
  s.owner.mostRoom = 1000;
  s.establish('<mss 1460>');
  s.guestSends('F. 1:1461(1460) ack 1');
  s.owns('received 1000');
  t.equal(s.connection.state, 'ESTABLISHED', 'and the FIN with it');
  s.expect('. 1:1(0) ack 1001 win 1000');
  s.guestSends('. 3000:3100(100) ack 1');
  s.owns();
  s.expect('. 1:1(0) ack 1001');
});

t.test('we send what the window takes, and no more', async (t) => {
  const s = established(t, '<mss 1000,wscale 7>', 20);
  // 20 << 7 = 2560.
  s.write(10_000);
  s.expect('. 1:1001(1000) ack 1', '. 1001:2001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 2001 win 20');
  s.expect('. 2001:3001(1000) ack 1', '. 3001:4001(1000) ack 1');
});

t.test('RFC 9293 3.8.6.2.1: no silly segments into a slowly opening window', async (t) => {
  const s = established(t, '<mss 1000>', 10_000);
  s.flight(20_000);
  s.guestSends('. 1:1(0) ack 10001 win 0');
  s.expect();
  s.guestSends('. 1:1(0) ack 10001 win 100');
  s.expect();
  s.guestSends('. 1:1(0) ack 10001 win 999');
  s.expect();
  // The override: what fits goes after a while.
  s.advance(101);
  s.expect('. 10001:11000(999) ack 1');
});

t.test('a small receiver: half of the most it ever offered is enough', async (t) => {
  const s = established(t, '<mss 1000>', 400);
  s.write(1000);
  s.expect('. 1:401(400) ack 1');
  s.guestSends('. 1:1(0) ack 401 win 200');
  s.expect('. 401:601(200) ack 1');
});

t.test('a probe whose octet was taken', async (t) => {
  const s = established(t, '<mss 1000>', 1000);
  s.write(3000);
  s.expect('. 1:1001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 1001 win 0');
  s.advance(101);
  s.expect('. 1001:1002(1) ack 1');
  s.guestSends('. 1:1(0) ack 1002 win 0');
  s.expect();
  s.guestSends('. 1:1(0) ack 1002 win 5000');
  s.expect('. 1002:2002(1000) ack 1', 'P. 2002:3001(999) ack 1');
});

t.test('a window that shrinks under what is in flight', async (t) => {
  const s = established(t, '<mss 1000>', 5000);
  s.flight(5000);
  s.guestSends('. 1:1(0) ack 1001 win 0');
  s.expect();
  s.advance(101);
  s.expect('. 1001:1002(1) ack 1');
  s.guestSends('. 1:1(0) ack 1001 win 0');
  s.advance(100_000);
  s.owns();
  s.world.link.take();
  s.guestSends('. 1:1(0) ack 1001 win 4000');
  s.world.poll();
  t.equal(s.world.link.take().length, 4);
});

t.test('an idle connection costs nothing and lives', async (t) => {
  const s = established(t);
  // The timer of the handshake looks once more, and finds nothing.
  s.advance(2000);
  t.equal(s.world.netstack.pollAt(), Number.POSITIVE_INFINITY);
  s.advance(30 * 24 * 3600 * 1000);
  s.expect();
  s.owns();
  s.guestSends('P. 1:11(10) ack 1');
  s.owns('received 10');
});

t.test('memory is shared: who is stalled for long gives way when others have none', async (t) => {
  const s = new TcpScript(t, { limits: { poolOctets: 4 * 65536 } });
  const connections: TcpConnection[] = [];
  for (let guestPort = 1; guestPort <= 6; guestPort++) {
    Object.assign(s, { guestPort, written: 0 }).establish('<mss 1000>', 0);
    connections.push(s.connection);
    s.write(100);
    if (guestPort !== 1) continue;
    s.advance(1000);
    s.world.link.take();
  }
  t.same(
    connections.map(({ sendQueueOctets }) => sendQueueOctets),
    [100, 100, 100, 100, 0, 0],
    'the last two are refused',
  );
  s.advance(50_000);
  t.notOk(connections[5]!.reserveSend());
  s.owns();
  s.advance(9500);
  t.notOk(connections[5]!.reserveSend());
  s.owns('writable', 'closed ETIMEDOUT');
  t.equal(connections[0]!.state, 'CLOSED', 'the one that stalled first');
  t.equal(s.world.drops()['tcp-evicted'], 1);
  t.ok(connections[4]!.reserveSend());
  connections[4]!.commitSend(10);
});
