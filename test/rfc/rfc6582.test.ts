/** RFC 6582, The NewReno Modification to TCP's Fast Recovery Algorithm. By section. */

import t, { type Test } from 'tap';
import { readIp } from '../stack/frames.ts';
import { established, type TcpScript } from '../stack/tcp/tcp-script.ts';

const DUPLICATE = '. 1:1(0) ack 1';

/** Ten segments of 1000 octets in flight, of which the first is lost and sent again. */
function recovering(t: Test): TcpScript {
  const s = established(t, '<mss 1000>');
  s.flight(10_000);
  s.guestSends(DUPLICATE, DUPLICATE, DUPLICATE);
  s.expect('. 1:1001(1000) ack 1');
  return s;
}

t.test('3.2: a partial acknowledgement sends the segment after it, a full one ends recovery', async (t) => {
  const s = recovering(t);
  s.guestSends('. 1:1(0) ack 2001');
  s.expect('. 2001:3001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 5001');
  s.expect('. 5001:6001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 10001');
  s.write(1000);
  s.expect('P. 10001:11001(1000) ack 1');
});

t.test('3.2: duplicates for data of before the last recovery do not start another', async (t) => {
  const s = recovering(t);
  s.guestSends('. 1:1(0) ack 10001');
  s.flight(3000);
  s.guestSends('. 1:1(0) ack 10001', '. 1:1(0) ack 10001', '. 1:1(0) ack 10001');
  s.expect();
});

t.test('4: nor do those that what was sent again after a timeout brings about', async (t) => {
  const s = established(t, '<mss 1000>');
  s.flight(10_000);
  s.advanceUntilSent();
  s.expect('. 1:1001(1000) ack 1');
  s.guestSends(DUPLICATE, DUPLICATE, DUPLICATE, DUPLICATE);
  s.world.poll();
  for (const { bytes } of s.world.link.take()) {
    const { payload } = readIp(bytes);
    const seq = new DataView(payload.buffer, payload.byteOffset).getUint32(4);
    t.not((seq - s.ourIsn!) | 0, 1, 'SND.UNA is not sent a third time');
  }
});

t.test('3.2: recovery that a timeout interrupts goes on from SND.UNA', async (t) => {
  const s = recovering(t);
  s.advanceUntilSent();
  s.expect('. 1:1001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 10001');
  t.equal(s.connection.sendQueueOctets, 0);
});
