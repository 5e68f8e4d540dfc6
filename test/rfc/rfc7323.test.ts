/** RFC 7323, TCP Extensions for High Performance: window scale and timestamps. By section. */

import t, { type Test } from 'tap';
import { established, TcpScript } from '../stack/tcp/tcp-script.ts';
import { opening } from './states.ts';

t.test('2.2: the option is offered in our SYN, and in a SYN-ACK only if the SYN had it', async (t) => {
  const active = opening(t);
  active.advanceUntilSent();
  active.expect('S 0:0(0) <mss 1460,wscale 7,sackOK,TS val 1000 ecr 0>');
  const withOption = new TcpScript(t);
  withOption.guestSends('S 0:0(0) <mss 1460,wscale 0>');
  withOption.connection.accept(withOption.owner);
  withOption.expect('S. 0:0(0) ack 1 <mss 1460,wscale 7>');
  const without = new TcpScript(t);
  without.guestSends('S 0:0(0) <mss 1460>');
  without.connection.accept(without.owner);
  without.expect('S. 0:0(0) ack 1 <mss 1460>');
});

t.test('2.2: scaling is off in both directions unless both sides offered it', async (t) => {
  for (const active of [false, true]) {
    const s = active ? opening(t) : new TcpScript(t);
    s.owner.mostRoom = 1 << 20;
    if (active) s.guestSends('S. 0:0(0) ack 1 win 3000 <mss 1000>');
    else {
      s.guestSends('S 0:0(0) <mss 1000>');
      s.connection.accept(s.owner);
      s.expect('S. 0:0(0) ack 1 win 65535');
      s.guestSends('. 1:1(0) ack 1 win 3000');
    }
    s.world.poll();
    s.world.link.take();
    s.write(5000);
    s.expect('. 1:1001(1000) ack 1 win 65535', '. 1001:2001(1000) ack 1', '. 2001:3001(1000) ack 1');
  }
});

t.test('2.2: the window of a SYN is never scaled', async (t) => {
  const s = opening(t);
  s.guestSends('S. 0:0(0) ack 1 win 3000 <mss 1000,wscale 7>');
  s.world.poll();
  s.world.link.take();
  s.write(5000);
  s.expect('. 1:1001(1000) ack 1', '. 1001:2001(1000) ack 1', '. 2001:3001(1000) ack 1');
  const passive = new TcpScript(t);
  passive.owner.mostRoom = 1 << 20;
  passive.guestSends('S 0:0(0) <mss 1000,wscale 7>');
  passive.connection.accept(passive.owner);
  passive.expect('S. 0:0(0) ack 1 win 65535');
});

t.test('2.2: the option outside a SYN is ignored', async (t) => {
  const s = established(t, '<mss 1000,wscale 2>', 1000);
  s.guestSends('P. 1:2(1) ack 1 win 1000 <nop,wscale 7>');
  s.write(10_000);
  s.expect('. 1:1001(1000) ack 2', '. 1001:2001(1000) ack 2', '. 2001:3001(1000) ack 2', '. 3001:4001(1000) ack 2');
});

t.test('2.3: windows are shifted: theirs to the left, ours to the right', async (t) => {
  const s = new TcpScript(t);
  s.owner.mostRoom = 1 << 20;
  s.establish('<mss 1000,wscale 3>', 500);
  s.write(10_000);
  s.expect('. 1:1001(1000) ack 1', '. 1001:2001(1000) ack 1', '. 2001:3001(1000) ack 1', '. 3001:4001(1000) ack 1');
  s.guestSends('P. 1:11(10) ack 4001 win 0');
  s.expect(`. 4001:4001(0) ack 11 win ${(1 << 20) >> 7}`);
});

t.test('2.3: a shift beyond 14 counts as 14', async (t) => {
  const wide = established(t, '<mss 1000,wscale 255>', 1);
  wide.write(100_000);
  wide.world.poll();
  const octets = wide.world.link.take().reduce((sum, { bytes }) => sum + bytes.length - 54, 0);
  t.equal(octets, 16_000, '1 << 14, in whole segments');
});

t.test('2.3: our window is as wide as its owner promises, beyond 65535', async (t) => {
  const s = new TcpScript(t);
  s.owner.mostRoom = 4 << 20;
  s.establish('<mss 1460,wscale 7>');
  s.guestSends('P. 1:11(10) ack 1');
  s.expect(`. 1:1(0) ack 11 win ${(4 << 20) >> 7}`);
  s.guestSends('. 4000000:4001000(1000) ack 1');
  s.expect('. 1:1(0) ack 11');
  t.same(s.world.drops(), {}, 'what lies at its far end is kept');
});

t.test('2.4: rounding never moves the right edge to the left', async (t) => {
  const s = new TcpScript(t);
  s.owner.mostRoom = 1 << 20;
  s.establish('<mss 1460,wscale 7>');
  s.owner.mostRoom = 0;
  let edge = 0;
  s.guestSends('P. 1:11(10) ack 1');
  s.world.poll();
  s.world.link.take();
  for (let at = 11; at < 20_000; at += 37) {
    s.guestSends(`P. ${at}:${at + 37}(37) ack 1`);
    s.world.poll();
    const { bytes } = s.world.link.take()[0]!;
    const now = at + 37 + (((bytes[48]! << 8) | bytes[49]!) << 7);
    t.ok(now >= edge);
    edge = now;
  }
});

const OFFER = '<mss 1000,wscale 7,TS val 100 ecr 0>';
const DAY_MS = 24 * 3600 * 1000;

/** Established with timestamps; the guest's clock stands at 100. */
function stamped(t: Test): TcpScript {
  const s = new TcpScript(t);
  s.guestSends(`S 0:0(0) ${OFFER}`);
  s.connection.accept(s.owner);
  s.expect('S. 0:0(0) ack 1 <mss 1460,wscale 7,TS val 0 ecr 100>');
  s.guestSends('. 1:1(0) ack 1 <TS val 100 ecr 0>');
  s.owns('established');
  return s;
}

t.test('3.2: the option is in our SYN, and in a SYN-ACK only if the SYN had it', async (t) => {
  stamped(t);
  const without = new TcpScript(t);
  without.guestSends('S 0:0(0) <mss 1460,wscale 7>');
  without.connection.accept(without.owner);
  without.expect('S. 0:0(0) ack 1 <mss 1460,wscale 7>');
  const refused = opening(t);
  refused.guestSends('S. 0:0(0) ack 1 <mss 1460,wscale 7>');
  refused.expect('. 1:1(0) ack 1');
});

t.test('3.2: then it is in every segment, wherever in the header it stands', async (t) => {
  const s = stamped(t);
  s.guestSends('P. 1:11(10) ack 1 <TS val 150 ecr 0>');
  s.expect('. 1:1(0) ack 11 <TS val 0 ecr 150>');
  s.world.nowMs += 7;
  s.write(10);
  s.expect('P. 1:11(10) ack 11 <TS val 7 ecr 150>');
  s.guestSends('P. 11:21(10) ack 11 <raw:080a000000970000000701010101>');
  s.connection.end();
  s.expect('F. 11:11(0) ack 21 <TS val 7 ecr 151>');
});

t.test('3.2: a segment without it is dropped in silence, but for RST', async (t) => {
  const s = stamped(t);
  s.guestSends('P. 1:11(10) ack 1');
  s.expect();
  t.equal(s.world.drops()['tcp-timestamps'], 1);
  s.owns();
  s.guestSends('R 1:1(0)');
  s.owns('closed ECONNRESET');
});

t.test('3.2: where it was not agreed on it is ignored', async (t) => {
  const s = established(t);
  s.guestSends('P. 1:11(10) ack 1 <TS val 5 ecr 0>', 'P. 11:21(10) ack 1 <TS val 4 ecr 0>');
  s.owns('received 20');
});

t.test('4.3: what is echoed is of the earliest segment that is not acknowledged', async (t) => {
  const s = stamped(t);
  s.guestSends('. 1:11(10) ack 1 <TS val 110 ecr 0>', '. 11:21(10) ack 1 <TS val 120 ecr 0>');
  s.expect('. 1:1(0) ack 21 <TS val 0 ecr 110>');
  // One out of order does not count; the one that fills the gap does.
  s.guestSends('. 31:41(10) ack 1 <TS val 130 ecr 0>');
  s.expect('. 1:1(0) ack 21 <TS val 0 ecr 110>');
  s.guestSends('. 21:31(10) ack 1 <TS val 125 ecr 0>');
  s.expect('. 1:1(0) ack 41 <TS val 0 ecr 125>');
});

t.test('5.3: PAWS: a segment older than the last is not taken, and is acknowledged', async (t) => {
  const s = stamped(t);
  s.guestSends('P. 1:11(10) ack 1 <TS val 150 ecr 0>');
  s.owns('received 10');
  s.world.poll();
  s.world.link.take();
  s.guestSends('P. 11:21(10) ack 1 <TS val 149 ecr 0>');
  s.expect('. 1:1(0) ack 11 <TS val 0 ecr 150>');
  s.owns();
  t.equal(s.world.drops()['tcp-timestamps'], 1);
  s.guestSends('P. 11:21(10) ack 1 <TS val 150 ecr 0>');
  s.owns('received 10');
});

t.test('5.3: timestamps come round', async (t) => {
  const s = stamped(t);
  let at = 1;
  for (const value of [2_000_000_000, 4_000_000_000, 4_294_967_290, 5]) {
    s.guestSends(`P. ${at}:${at + 10}(10) ack 1 <TS val ${value} ecr 0>`);
    s.owns('received 10');
    s.world.poll();
    at += 10;
  }
  s.guestSends(`P. ${at}:${at + 10}(10) ack 1 <TS val 4294967295 ecr 0>`);
  s.owns();
});

t.test('5.3: RST is not measured by it', async (t) => {
  const s = stamped(t);
  s.guestSends('P. 1:11(10) ack 1 <TS val 150 ecr 0>');
  s.owns('received 10');
  s.guestSends('R. 11:11(0) ack 1 <TS val 3 ecr 0>');
  s.owns('closed ECONNRESET');
});

t.test('5.5: after 24 days of idleness the last timestamp says nothing', async (t) => {
  const s = stamped(t);
  s.world.nowMs += 23 * DAY_MS;
  s.guestSends('P. 1:11(10) ack 1 <TS val 99 ecr 0>');
  s.owns();
  s.world.nowMs += 1.5 * DAY_MS;
  s.guestSends('P. 1:11(10) ack 1 <TS val 98 ecr 0>');
  s.owns('received 10');
  s.world.poll();
  s.guestSends('P. 11:21(10) ack 1 <TS val 97 ecr 0>');
  s.owns();
});

t.test('5.4: clocks of two tuples begin with different numbers', async (t) => {
  const ticks = (guestPort: number): number => {
    const s = new TcpScript(t, { guestPort });
    s.guestSends(`S 0:0(0) ${OFFER}`);
    s.connection.accept(s.owner);
    s.expect('S. 0:0(0) ack 1');
    return s.ourTicks!;
  };
  t.not(ticks(40_000), ticks(40_001));
});
