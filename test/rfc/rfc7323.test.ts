/** RFC 7323, TCP Extensions for High Performance: the window scale option. By section. */

import t from 'tap';
import { TcpScript } from '../stack/tcp/tcp-script.ts';
import { opening } from './states.ts';

t.test('2.2: the option is offered in our SYN, and in a SYN-ACK only if the SYN had it', async (t) => {
  const active = opening(t);
  active.advanceUntilSent();
  active.expect('S 0:0(0) <mss 1460,wscale 7>');
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
  const s = new TcpScript(t);
  s.establish('<mss 1000,wscale 2>', 1000);
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
  const wide = new TcpScript(t);
  wide.establish('<mss 1000,wscale 255>', 1);
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
