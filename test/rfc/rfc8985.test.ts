/** RFC 8985, The RACK-TLP Loss Detection Algorithm for TCP. By section. */

import t, { type Test } from 'tap';
import { answered, measured, type TcpScript } from '../stack/tcp/tcp-script.ts';

const established = (t: Test, window?: number): TcpScript => measured(t, '<mss 1000,wscale 7,sackOK>', window);

/** Writes `octets`, which go out at once; their answer comes 10 ms later. */
function flight(s: TcpScript, octets: number): number {
  const segments = s.flight(octets);
  s.world.nowMs += 10;
  return segments;
}

t.test('6.2: once three segments that were sent later have arrived, the one before is lost, at once', async (t) => {
  const s = established(t);
  flight(s, 10_000);
  s.guestSends('. 1:1(0) ack 1 <sack 1001:2001>', '. 1:1(0) ack 1 <sack 1001:3001>');
  s.expect();
  s.guestSends('. 1:1(0) ack 1 <sack 1001:4001>');
  s.expect('. 1:1001(1000) ack 1');
});

t.test('6.2: with fewer it is after a quarter of the least round trip', async (t) => {
  const s = established(t);
  flight(s, 10_000);
  s.guestSends('. 1:1(0) ack 1 <sack 1001:2001>');
  s.advance(2);
  s.expect();
  s.advance(2);
  s.expect('. 1:1001(1000) ack 1');
});

/** Has seen a segment overtaken, and that it was not lost. */
function reordering(t: Test): TcpScript {
  const s = established(t);
  flight(s, 3000);
  s.guestSends('. 1:1(0) ack 1 <sack 1001:2001>', '. 1:1(0) ack 3001');
  s.expect();
  return s;
}

t.test('6.2: where segments overtake each other, none is lost without that time', async (t) => {
  const s = reordering(t);
  flight(s, 10_000);
  s.guestSends('. 1:1(0) ack 3001 <sack 4001:13001>');
  s.advance(2);
  s.expect();
  s.advance(2);
  s.expect('. 3001:4001(1000) ack 1');
});

t.test('6.2: each round in which octets came twice widens it', async (t) => {
  const s = reordering(t);
  flight(s, 10_000);
  s.guestSends('. 1:1(0) ack 3001 <sack 4001:13001>');
  s.advance(4);
  s.expect('. 3001:4001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 13001', '. 1:1(0) ack 13001 <sack 3001:4001>');
  flight(s, 10_000);
  s.guestSends('. 1:1(0) ack 13001 <sack 14001:23001>');
  s.advance(4);
  s.expect();
  s.advance(3);
  s.expect('. 13001:14001(1000) ack 1');
});

t.test('6.2: a segment that was lost again is found by what was sent after it', async (t) => {
  const s = established(t);
  flight(s, 10_000);
  s.guestSends('. 1:1(0) ack 1 <sack 1001:10001>');
  s.expect('. 1:1001(1000) ack 1');
  s.world.nowMs += 1;
  s.write(1000);
  s.expect('P. 10001:11001(1000) ack 1');
  s.world.nowMs += 10;
  s.guestSends('. 1:1(0) ack 1 <sack 1001:11001>');
  s.expect('. 1:1001(1000) ack 1');
});

t.test('7.2, 7.3: when nothing is heard for two round trips, the last segment goes again', async (t) => {
  const s = established(t);
  s.write(3000);
  s.expect('. 1:1001(1000) ack 1', '. 1001:2001(1000) ack 1', 'P. 2001:3001(1000) ack 1');
  s.advance(19);
  s.expect();
  s.advance(2);
  s.expect('P. 2001:3001(1000) ack 1');
  s.advance(50);
  s.expect();
  // It tells of the others: all are sent without a timeout.
  s.guestSends('. 1:1(0) ack 1 <sack 2001:3001>');
  s.advance(4);
  s.expect('. 1:1001(1000) ack 1', '. 1001:2001(1000) ack 1');
});

t.test('7.2: a lone segment is given the time of a delayed acknowledgement, too', async (t) => {
  const s = established(t);
  s.write(100);
  s.expect('P. 1:101(100) ack 1');
  s.advance(69);
  s.expect();
  s.advance(2);
  s.expect('P. 1:101(100) ack 1');
});

t.test('7.3: something new goes where there is any, though the congestion window be full', async (t) => {
  const s = established(t);
  s.write(200_000);
  s.world.poll();
  t.equal(s.world.link.take().length, 131);
  s.advance(21);
  s.expect('. 131001:132001(1000) ack 1');
});

t.test('7.1: there is one probe, then the timeout', async (t) => {
  const s = established(t);
  s.flight(3000);
  s.advance(21);
  s.expect('P. 2001:3001(1000) ack 1');
  s.advance(98);
  s.expect();
  s.advance(3);
  s.expect('. 1:1001(1000) ack 1');
});

/** What goes out of a lot, after a probe. */
function after(s: TcpScript, ...lines: string[]): number {
  flight(s, 3000);
  s.advance(11);
  s.expect('P. 2001:3001(1000) ack 1');
  s.guestSends(...lines);
  return flight(s, 200_000);
}

t.test('7.4: a probe that mended a loss is answered as any loss; one that came twice is not', async (t) => {
  const twice = after(established(t), '. 1:1(0) ack 3001', '. 1:1(0) ack 3001 <sack 2001:3001>');
  t.equal(twice, 131, 'what was so before');
  const mended = established(t);
  t.equal(after(mended, '. 1:1(0) ack 3001'), 131, 'not known yet');
  mended.guestSends('. 1:1(0) ack 4001');
  mended.expect();
  t.match(mended.world.netstack.flows()[0], { retransmissions: 1 });
  mended.guestSends('. 1:1(0) ack 134001');
  t.ok(flight(mended, 200_000) < 80, 'half of it');
});

t.test('7.4: nor is one whose first transmission the timestamps echo', async (t) => {
  const s = answered(t, '<mss 1000,wscale 7,sackOK,TS val 1 ecr 0>');
  s.world.nowMs += 10;
  s.guestSends('. 1:1(0) ack 1 <TS val 2 ecr 0>');
  flight(s, 988);
  s.advance(61);
  s.expect('P. 1:989(988) ack 1 <TS val 80 ecr 2>');
  s.guestSends('. 1:1(0) ack 989 <TS val 3 ecr 10>');
  const before = flight(s, 131_000);
  s.guestSends(`. 1:1(0) ack ${989 + 131_000} <TS val 4 ecr 81>`);
  t.ok(flight(s, 250_000) > 1.5 * before, 'the window goes on growing');
});
