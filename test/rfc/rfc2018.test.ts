/** RFC 2018, TCP Selective Acknowledgment Options. By section. */

import t, { type Test } from 'tap';
import { established, measured, TcpScript } from '../stack/tcp/tcp-script.ts';
import { opening } from './states.ts';

const PERMITTED = '<mss 1000,wscale 7,sackOK>';

t.test('2: the permission is in our SYN, and in a SYN-ACK only if the SYN had it', async (t) => {
  const active = opening(t);
  active.advanceUntilSent();
  active.expect('S 0:0(0) <mss 1460,wscale 7,sackOK,TS val 1000 ecr 0>');
  const s = new TcpScript(t);
  s.guestSends('S 0:0(0) <mss 1460,sackOK>');
  s.connection.accept(s.owner);
  s.expect('S. 0:0(0) ack 1 <mss 1460,sackOK>');
});

t.test('3: no blocks without permission', async (t) => {
  const s = established(t, '<mss 1000,wscale 7>');
  s.guestSends('. 101:201(100) ack 1');
  s.expect('. 1:1(0) ack 1');
});

t.test('4: the first block is the one that the last segment belongs to, then the others by their news', async (t) => {
  const s = established(t, PERMITTED);
  s.guestSends('. 101:201(100) ack 1');
  s.expect('. 1:1(0) ack 1 <sack 101:201>');
  s.guestSends('. 301:401(100) ack 1');
  s.expect('. 1:1(0) ack 1 <sack 301:401 101:201>');
  s.guestSends('. 501:601(100) ack 1');
  s.expect('. 1:1(0) ack 1 <sack 501:601 301:401 101:201>');
  s.guestSends('. 201:251(50) ack 1');
  s.expect('. 1:1(0) ack 1 <sack 101:251 501:601 301:401>');
  s.guestSends('. 251:301(50) ack 1');
  s.expect('. 1:1(0) ack 1 <sack 101:401 501:601>');
  s.guestSends('. 1:101(100) ack 1');
  s.expect('. 1:1(0) ack 401 <sack 501:601>');
  s.guestSends('. 401:501(100) ack 1');
  s.expect('. 1:1(0) ack 601');
});

t.test('3: four blocks, three beside timestamps', async (t) => {
  const plain = established(t, PERMITTED);
  const stamped = established(t, '<mss 1000,wscale 7,sackOK,TS val 1 ecr 0>');
  for (const start of [101, 301, 501, 701, 901]) {
    plain.guestSends(`. ${start}:${start + 100}(100) ack 1`);
    stamped.guestSends(`. ${start}:${start + 100}(100) ack 1 <TS val 1 ecr 0>`);
    for (const s of [plain, stamped]) {
      s.world.poll();
      if (start < 901) s.world.link.take();
    }
  }
  plain.expect('. 1:1(0) ack 1 <sack 901:1001 701:801 501:601 301:401>');
  stamped.expect('. 1:1(0) ack 1 <TS val 0 ecr 1,sack 901:1001 701:801 501:601>');
});

t.test('4: when segments come at once, acknowledgements share the blocks, the last with the newest', async (t) => {
  const s = established(t, PERMITTED);
  s.guestSends(...[101, 301, 501, 701, 901].map((start) => `. ${start}:${start + 100}(100) ack 1`));
  s.expect(
    '. 1:1(0) ack 1',
    '. 1:1(0) ack 1',
    '. 1:1(0) ack 1 <sack 101:201>',
    '. 1:1(0) ack 1 <sack 901:1001 701:801 501:601 301:401>',
  );
});

t.test('4: segments with data carry none; an acknowledgement beside them does', async (t) => {
  const s = established(t, PERMITTED);
  s.guestSends('. 101:201(100) ack 1');
  s.write(10);
  s.expect('P. 1:11(10) ack 1', '. 11:11(0) ack 1 <sack 101:201>');
});

/** Ten segments of 1000 octets are in flight, for 10 ms. */
function flight(t: Test): TcpScript {
  const s = measured(t, PERMITTED);
  s.flight(10_000);
  s.world.nowMs += 10;
  return s;
}

t.test('5: what the guest has is not sent again; every hole is, in one round trip', async (t) => {
  const s = flight(t);
  s.guestSends('. 1:1(0) ack 1 <sack 1001:2001 3001:4001 5001:8001>');
  s.expect('. 1:1001(1000) ack 1', '. 2001:3001(1000) ack 1', '. 4001:5001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 8001');
  s.expect();
  s.guestSends('. 1:1(0) ack 10001');
  t.equal(s.connection.sendQueueOctets, 0);
});

t.test('5: blocks that cannot be, change nothing', async (t) => {
  const s = flight(t);
  for (const block of ['4001:1001', '9001:10002', '-5000:-1', '1:0', '20000:30000', '2001:2001'])
    s.guestSends(`. 1:1(0) ack 1 <sack ${block}>`);
  s.expect();
  s.guestSends('. 1:1(0) ack 10001');
  t.equal(s.connection.sendQueueOctets, 0);
});

t.test('5: blocks of an acknowledgement that later ones have overtaken count', async (t) => {
  const s = flight(t);
  s.guestSends('. 1:1(0) ack 2001');
  s.guestSends('. 1:1(0) ack 1001 <sack 3001:10001>');
  s.expect('. 2001:3001(1000) ack 1');
});

t.test('8: nor is it after a timeout', async (t) => {
  const s = flight(t);
  s.guestSends('. 1:1(0) ack 1 <sack 2001:7001>');
  s.expect('. 1:1001(1000) ack 1', '. 1001:2001(1000) ack 1');
  s.advanceUntilSent();
  s.expect('. 1:1001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 1001');
  s.expect('. 1001:2001(1000) ack 1', '. 7001:8001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 8001');
  s.expect('. 8001:9001(1000) ack 1', 'P. 9001:10001(1000) ack 1');
});

t.test(
  '8: a timeout with the first octet reported and not acknowledged: the guest threw away what it had',
  async (t) => {
    const s = flight(t);
    s.guestSends('. 1:1(0) ack 1 <sack 1001:10001>');
    s.expect('. 1:1001(1000) ack 1');
    s.guestSends('. 1:1(0) ack 1001');
    s.expect();
    s.advanceUntilSent();
    s.expect('. 1001:2001(1000) ack 1');
    s.guestSends('. 1:1(0) ack 2001');
    s.expect('. 2001:3001(1000) ack 1', '. 3001:4001(1000) ack 1');
  },
);
