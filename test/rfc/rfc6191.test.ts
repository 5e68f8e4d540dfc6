/** RFC 6191, Reducing the TIME-WAIT State Using TCP Timestamps. By section. */

import t, { type Test } from 'tap';
import { established, type TcpScript } from '../stack/tcp/tcp-script.ts';

/** A tuple in TIME-WAIT: we closed first, both FINs are through. The guest's number is 2, and its clock stood at 500. */
function waiting(t: Test, stamps: boolean): TcpScript {
  const stamp = (value: number): string => (stamps ? ` <TS val ${value} ecr 0>` : '');
  const s = established(t, stamps ? '<mss 1000,wscale 7,TS val 1 ecr 0>' : '<mss 1000,wscale 7>');
  s.connection.end();
  s.world.poll();
  s.guestSends(`F. 1:1(0) ack 2${stamp(500)}`);
  s.world.poll();
  s.world.link.take();
  t.equal(s.connection.state, 'TIME-WAIT');
  return s;
}

const reopened = (s: TcpScript, line: string): boolean => {
  const before = s.world.dialled.length;
  s.guestSends(line);
  return s.world.dialled.length > before;
};

t.test('2: a SYN with a later timestamp takes over the tuple, whatever its number', async (t) => {
  t.ok(reopened(waiting(t, true), 'S -70000:-70000(0) <mss 1000,TS val 501 ecr 0>'));
  t.ok(reopened(waiting(t, true), 'S 70000:70000(0) <mss 1000,TS val 501 ecr 0>'));
});

t.test('2: with the same timestamp its number must be beyond', async (t) => {
  t.ok(reopened(waiting(t, true), 'S 3:3(0) <mss 1000,TS val 500 ecr 0>'));
  t.notOk(reopened(waiting(t, true), 'S 1:1(0) <mss 1000,TS val 500 ecr 0>'));
});

t.test('2: one with an earlier timestamp is of before', async (t) => {
  t.notOk(reopened(waiting(t, true), 'S 70000:70000(0) <mss 1000,TS val 499 ecr 0>'));
});

t.test('2: without timestamps its number must be beyond', async (t) => {
  for (const before of [true, false]) {
    t.ok(reopened(waiting(t, before), 'S 3:3(0) <mss 1000>'));
    t.notOk(reopened(waiting(t, before), 'S 1:1(0) <mss 1000>'));
  }
});

t.test('2: with timestamps, which the connection before had not, any will do', async (t) => {
  t.ok(reopened(waiting(t, false), 'S 1:1(0) <mss 1000,TS val 1 ecr 0>'));
});
