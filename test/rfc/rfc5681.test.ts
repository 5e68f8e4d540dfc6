/** RFC 5681, TCP Congestion Control. By section. */

import t, { type Test } from 'tap';
import { established, TcpScript } from '../stack/tcp/tcp-script.ts';

/** Established with segments of 1000 octets, and a script that sends all there is. */
function streaming(t: Test): { s: TcpScript; send: () => number } {
  const s = new TcpScript(t, { limits: { sendQueueOctets: 4_000_000, sendQueueMostOctets: 4_000_000 } });
  s.establish('<mss 1000,wscale 7>');
  const send = (): number => {
    s.write(4_000_000);
    s.world.poll();
    return s.world.link.take().reduce((octets, { bytes }) => octets + bytes.length - 54, 0);
  };
  return { s, send };
}

t.test(
  '2: an acknowledgement is a duplicate only without data, SYN, FIN or another window, with data in flight',
  async (t) => {
    const s = established(t, '<mss 1000>');
    s.guestSends('. 1:1(0) ack 1', '. 1:1(0) ack 1', '. 1:1(0) ack 1', '. 1:1(0) ack 1');
    s.expect();
    s.flight(5000);
    s.guestSends('P. 1:2(1) ack 1', 'P. 2:3(1) ack 1', 'P. 3:4(1) ack 1');
    s.expect('. 5001:5001(0) ack 4');
    s.guestSends('. 4:4(0) ack 1 win 60000', '. 4:4(0) ack 1 win 60001', '. 4:4(0) ack 1 win 60002');
    s.expect();
  },
);

t.test('3.1: slow start: the window grows by what is acknowledged', async (t) => {
  const { s, send } = streaming(t);
  const first = send();
  s.guestSends(`. 1:1(0) ack ${1 + first}`);
  t.equal(send(), 2 * first);
});

t.test('3.1: congestion avoidance: a segment a round trip', async (t) => {
  const { s, send } = streaming(t);
  let acked = 1 + send();
  s.guestSends(`. 1:1(0) ack ${acked}`);
  const flight = send();
  for (let i = 0; i < 3; i++) s.guestSends(`. 1:1(0) ack ${acked}`);
  s.world.poll();
  s.world.link.take();
  acked += flight;
  s.guestSends(`. 1:1(0) ack ${acked}`);
  let before = send();
  for (let round = 0; round < 5; round++) {
    acked += before;
    s.guestSends(`. 1:1(0) ack ${acked}`);
    const now = send();
    t.ok(now - before >= 0 && now - before <= 1000, `${now} after ${before}`);
    before = now;
  }
});

t.test(
  '3.1: after a timeout the window is one segment, and slow start begins anew up to half of the flight',
  async (t) => {
    const { s, send } = streaming(t);
    const flight = send();
    s.advanceUntilSent();
    s.expect('. 1:1001(1000) ack 1');
    s.guestSends('. 1:1(0) ack 1001');
    s.expect('. 1001:2001(1000) ack 1', '. 2001:3001(1000) ack 1');
    let acked = 1001;
    let before = 2000;
    for (let round = 0; round < 20; round++) {
      acked += before;
      if (acked >= 1 + flight) break;
      s.guestSends(`. 1:1(0) ack ${acked}`);
      const now = send();
      t.ok(now <= 2 * before && now <= flight / 2 + 1000 * round, `${now} after ${before}`);
      before = now;
    }
  },
);

t.test(
  '3.2: three duplicates send the segment again without waiting; half of the flight is the new threshold',
  async (t) => {
    const { s, send } = streaming(t);
    const flight = send();
    s.guestSends('. 1:1(0) ack 1');
    s.world.poll();
    t.equal(s.world.link.take().length, 1, 'limited transmit: new data (RFC 3042)');
    s.guestSends('. 1:1(0) ack 1', '. 1:1(0) ack 1');
    s.world.poll();
    const sent = s.world.link.take();
    t.ok(sent.length >= 1);
    t.equal(
      new DataView(sent[0]!.bytes.buffer, sent[0]!.bytes.byteOffset).getUint32(38) - s.ourIsn!,
      1,
      'SND.UNA again',
    );
    s.guestSends(`. 1:1(0) ack ${1 + flight + 2000}`);
    const after = send();
    t.ok(after <= flight / 2 + 3000, `${after} of ${flight}`);
  },
);

t.test('3.2: fewer than three are reordering', async (t) => {
  const s = established(t, '<mss 1000>');
  s.flight(5000);
  s.guestSends('. 1:1(0) ack 1', '. 1:1(0) ack 1');
  s.expect();
  s.guestSends('. 1:1(0) ack 5001');
  s.expect();
});

t.test('3.2: once recovering, more duplicates do not send it again', async (t) => {
  const s = established(t, '<mss 1000>');
  s.flight(10_000);
  s.guestSends(...new Array<string>(3).fill('. 1:1(0) ack 1'));
  s.expect('. 1:1001(1000) ack 1');
  s.guestSends(...new Array<string>(6).fill('. 1:1(0) ack 1'));
  s.expect();
});

t.test('3.2: several losses in a window: each partial acknowledgement sends the next (RFC 6582)', async (t) => {
  const s = established(t, '<mss 1000>');
  s.flight(10_000);
  s.guestSends(...new Array<string>(3).fill('. 1:1(0) ack 1'));
  s.expect('. 1:1001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 3001');
  s.expect('. 3001:4001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 8001');
  s.expect('. 8001:9001(1000) ack 1');
  s.guestSends('. 1:1(0) ack 10001');
  s.expect();
});

t.test('4.2: at least every second full segment is acknowledged, and anything within 500 ms', async (t) => {
  const s = established(t);
  s.guestSends('P. 1:11(10) ack 1');
  s.write(5);
  s.expect('P. 1:6(5) ack 11');
  s.guestSends('. 11:1471(1460) ack 6');
  s.expect();
  s.guestSends('. 1471:2931(1460) ack 6');
  s.expect('. 6:6(0) ack 2931');
  s.write(5);
  s.expect('P. 6:11(5) ack 2931');
  s.guestSends('P. 2931:2941(10) ack 11');
  s.advance(500);
  s.expect('. 11:11(0) ack 2941');
});

t.test('4.2: a segment out of order, and one that fills a gap, are acknowledged at once', async (t) => {
  const s = established(t);
  s.guestSends('P. 1:11(10) ack 1');
  s.write(5);
  s.expect('P. 1:6(5) ack 11');
  s.guestSends('. 21:31(10) ack 6');
  s.expect('. 6:6(0) ack 11');
  s.guestSends('. 11:21(10) ack 6');
  s.expect('. 6:6(0) ack 31');
});
