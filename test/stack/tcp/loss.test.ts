/** Loss: RFC 6298 (timeout), RFC 5681 3 and RFC 6582 (fast retransmit, recovery), RFC 3042, RFC 1191 (path MTU). */

import t, { type Test } from 'tap';
import type { TcpLimits } from '../../../src/stack/tcp/limits.ts';
import { icmpFrame, readIp } from '../frames.ts';
import { measured, type TcpScript } from './tcp-script.ts';

const established = (t: Test, limits: Partial<TcpLimits> = {}): TcpScript =>
  measured(t, '<mss 1000,wscale 7>', 65535, { limits });

t.test('RFC 6298: a first timeout of a second, and a floor of 100 ms once the round trip is known', async (t) => {
  const s = established(t);
  s.write(100);
  s.expect('P. 1:101(100) ack 1');
  s.world.nowMs += 99;
  s.expect();
  s.world.nowMs += 2;
  s.expect('P. 1:101(100) ack 1');
  t.equal(s.world.netstack.flows()[0]?.retransmissions, 1);
});

t.test('RFC 6298 5.5: it backs off, 5.3: begins anew with each acknowledgement', async (t) => {
  const s = established(t);
  s.write(100);
  s.expect('P. 1:101(100) ack 1');
  for (const wait of [100, 200, 400, 800, 1600]) {
    s.world.nowMs += wait - 1;
    s.expect();
    s.world.nowMs += 2;
    s.expect('P. 1:101(100) ack 1');
  }
  s.guestSends('. 1:1(0) ack 51');
  s.world.nowMs += 99;
  s.expect();
  s.world.nowMs += 2;
  s.expect('P. 51:101(50) ack 1');
});

t.test('RFC 9293 3.8.3: without any answer it gives up, with RST', async (t) => {
  const s = established(t);
  s.write(100);
  s.expect('P. 1:101(100) ack 1');
  s.advance(100_000);
  s.owns();
  s.advance(1_000_000);
  s.owns('closed ETIMEDOUT');
  const last = readIp(s.world.link.take().at(-1)!.bytes).payload;
  t.equal(last[13], 0x14, 'RST and ACK');
});

t.test('after a timeout one segment goes, then what it brings', async (t) => {
  const s = established(t);
  s.flight(5000);
  s.world.nowMs += 101;
  s.expect('. 1:1001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 1001');
  s.expect('. 1001:2001(1000) ack 1', '. 2001:3001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 5001');
  s.expect();
  s.write(10);
  s.expect('P. 5001:5011(10) ack 1');
});

t.test(
  'RFC 5681 3.2: three duplicates send the segment again, at once; the acknowledgement ends recovery',
  async (t) => {
    const s = established(t);
    s.write(10_000);
    s.world.poll();
    t.equal(s.world.link.take().length, 10);
    s.guestSends('. 1:1(0) ack 1', '. 1:1(0) ack 1');
    s.expect();
    s.guestSends('. 1:1(0) ack 1');
    s.expect('. 1:1001(1000) ack 1');
    s.guestSends('. 1:1(0) ack 1', '. 1:1(0) ack 1', '. 1:1(0) ack 1');
    s.expect();
    s.guestSends('. 1:1(0) ack 10001');
    s.expect();
    t.equal(s.world.netstack.flows()[0]?.retransmissions, 1);
  },
);

t.test('RFC 6582 3.2: a partial acknowledgement sends the next hole', async (t) => {
  const s = established(t);
  s.flight(10_000);
  s.guestSends('. 1:1(0) ack 1', '. 1:1(0) ack 1', '. 1:1(0) ack 1');
  s.expect('. 1:1001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 4001');
  s.expect('. 4001:5001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 7001');
  s.expect('. 7001:8001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 10001');
  s.expect();
});

t.test('RFC 5681 2: what is not a duplicate', async (t) => {
  const s = established(t);
  s.flight(10_000);
  // With data, with another window, or with the window closed.
  s.guestSends('P. 1:11(10) ack 1', 'P. 11:21(10) ack 1', 'P. 21:31(10) ack 1', 'P. 31:41(10) ack 1');
  s.guestSends(
    '. 41:41(0) ack 1 win 100',
    '. 41:41(0) ack 1 win 101',
    '. 41:41(0) ack 1 win 102',
    '. 41:41(0) ack 1 win 103',
  );
  s.expect('. 10001:10001(0) ack 41');
  t.equal(s.world.netstack.flows()[0]?.retransmissions, 0);
});

t.test('RFC 3042: the first two duplicates let new segments out where the window allows', async (t) => {
  const s = established(t);
  s.write(200_000);
  s.world.poll();
  const first = s.world.link.take().length;
  t.equal(first, 131, 'the initial window');
  s.guestSends('. 1:1(0) ack 1');
  s.world.poll();
  t.equal(s.world.link.take().length, 1);
  s.guestSends('. 1:1(0) ack 1');
  s.world.poll();
  t.equal(s.world.link.take().length, 1);
});

t.test('RFC 5681 3.1: slow start doubles, congestion avoidance adds a segment a round trip', async (t) => {
  const s = established(t, { sendQueueOctets: 4_000_000, sendQueueMostOctets: 4_000_000 });
  let acknowledged = 1;
  const send = (): number => {
    s.write(4_000_000);
    s.world.poll();
    return s.world.link.take().reduce((sum, { bytes }) => sum + bytes.length - 54, 0);
  };
  const round = (): number => {
    const octets = send();
    acknowledged += octets;
    s.world.nowMs += 10;
    s.guestSends(`. 1:1(0) ack ${acknowledged}`);
    return octets;
  };
  t.equal(round(), 131_000);
  t.equal(round(), 262_000);
  // A loss: half.
  const flight = send();
  s.guestSends(...new Array<string>(3).fill(`. 1:1(0) ack ${acknowledged}`));
  s.world.poll();
  s.world.link.take();
  acknowledged += flight;
  s.guestSends(`. 1:1(0) ack ${acknowledged}`);
  const half = round();
  t.ok(Math.abs(half - flight / 2) <= 1000, `${half} of ${flight}`);
  t.ok(round() - half <= 1000);
});

t.test('RFC 1191, RFC 5927 7.2: a smaller path MTU is believed about a segment in flight', async (t) => {
  const s = established(t);
  s.write(900);
  s.world.poll();
  const sent = s.world.link.take()[0]!.bytes.subarray(14, 14 + 28);
  const stale = sent.slice();
  const view = new DataView(stale.buffer);
  view.setUint32(24, view.getUint32(24) - 1);
  s.world.link.input([icmpFrame(3, 4, 600, stale)]);
  s.expect();
  s.world.link.input([icmpFrame(3, 4, 600, sent.slice())]);
  s.expect('. 1:561(560) ack 1', 'P. 561:901(340) ack 1');
  // Not below what every host takes: RFC 1191 4.
  s.world.link.input([icmpFrame(3, 4, 100, sent.slice())]);
  s.expect();
});

t.test('Karn: a segment that was sent again measures nothing', async (t) => {
  const s = established(t);
  s.write(100);
  s.expect('P. 1:101(100) ack 1');
  s.world.nowMs += 101;
  s.expect('P. 1:101(100) ack 1');
  s.world.nowMs += 5000;
  s.guestSends('. 1:1(0) ack 101');
  t.equal(s.world.netstack.flows()[0]?.rttMs, 10);
});

t.test('while the link is full, silence is not loss', async (t) => {
  const s = established(t);
  s.write(100);
  s.expect('P. 1:101(100) ack 1');
  s.world.link.room = 0;
  s.write(10);
  s.world.poll();
  s.advance(24 * 3600 * 1000);
  s.owns();
  s.world.link.room = 100;
  s.world.link.writable();
  s.advance(60_000);
  s.owns();
  s.guestSends('. 1:1(0) ack 111');
  t.equal(s.connection.sendQueueOctets, 0);
});
