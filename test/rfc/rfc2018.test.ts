/** RFC 2018, TCP Selective Acknowledgment Options. By section. */

import t, { type Test } from 'tap';
import { TcpScript } from '../stack/tcp/tcp-script.ts';
import { opening } from './states.ts';

const established = (t: Test, options = '<mss 1000,wscale 7,sackOK>'): TcpScript => {
  const s = new TcpScript(t);
  s.establish(options);
  return s;
};

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
  const s = established(t);
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
  const plain = established(t);
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
  const s = established(t);
  s.guestSends(...[101, 301, 501, 701, 901].map((start) => `. ${start}:${start + 100}(100) ack 1`));
  s.expect(
    '. 1:1(0) ack 1',
    '. 1:1(0) ack 1',
    '. 1:1(0) ack 1 <sack 101:201>',
    '. 1:1(0) ack 1 <sack 901:1001 701:801 501:601 301:401>',
  );
});

t.test('4: segments with data carry none; an acknowledgement beside them does', async (t) => {
  const s = established(t);
  s.guestSends('. 101:201(100) ack 1');
  s.write(10);
  s.expect('P. 1:11(10) ack 1', '. 11:11(0) ack 1 <sack 101:201>');
});
