/** Established: RFC 9293 3.8, 3.10.7.4; acknowledgements RFC 9293 3.8.6.3, RFC 5681 4.2; offload as HOUSE's decision 5. */

import t, { type Test } from 'tap';
import { CHECKSUM_PARTIAL, CHECKSUM_VERIFIED } from '../../../src/stack/frame-batch.ts';
import { readIp } from '../frames.ts';
import { established, TcpScript } from './tcp-script.ts';

t.test('one batch is one delivery and one acknowledgement', async (t) => {
  const s = established(t);
  s.guestSends('. 1:1461(1460) ack 1', '. 1461:2921(1460) ack 1', 'P. 2921:3000(79) ack 1');
  s.owns('received 2999');
  s.expect('. 1:1(0) ack 3000');
  s.expect();
});

t.test(
  'RFC 9293 3.8.6.3: a lone small segment is acknowledged at once, unless an answer usually carries it',
  async (t) => {
    const s = established(t);
    s.guestSends('P. 1:11(10) ack 1');
    s.expect('. 1:1(0) ack 11');
    s.write(5);
    s.expect('P. 1:6(5) ack 11');
    s.guestSends('P. 11:21(10) ack 6');
    s.expect();
    s.write(5);
    s.expect('P. 6:11(5) ack 21');
    s.guestSends('P. 21:31(10) ack 11');
    s.expect();
    s.world.nowMs += 19;
    s.expect();
    s.world.nowMs += 2;
    s.expect('. 11:11(0) ack 31');
    s.guestSends('P. 31:41(10) ack 11');
    s.expect('. 11:11(0) ack 41');
  },
);

t.test('RFC 9293 3.8.6.3: what an answer may carry waits for one, until nothing else comes', async (t) => {
  const s = established(t);
  const { netstack } = s.world;
  let asked = 0;
  netstack.onPutOff = () => asked++;
  s.guestSends('P. 1:11(10) ack 1');
  s.expect();
  s.guestSends('P. 11:21(10) ack 1');
  s.expect();
  t.equal(asked, 1, 'once for all that is put off');
  netstack.quiet();
  s.expect('. 1:1(0) ack 21');
  netstack.quiet();
  s.expect();
  s.guestSends('. 21:1481(1460) ack 1');
  s.expect('. 1:1(0) ack 1481');
  s.guestSends('P. 1481:1491(10) ack 1');
  s.write(5);
  s.expect('P. 1:6(5) ack 1491');
  netstack.quiet();
  s.expect();
  t.equal(asked, 2, 'a whole segment is acknowledged at once');
});

t.test('so does what answers a FIN: our own, or an acknowledgement when nothing else comes', async (t) => {
  const s = established(t);
  const { netstack } = s.world;
  netstack.onPutOff = () => undefined;
  s.guestSends('F. 1:1(0) ack 1');
  s.owns('end');
  s.expect();
  s.connection.end();
  s.expect('F. 1:1(0) ack 2');
  const other = established(t);
  other.world.netstack.onPutOff = () => undefined;
  other.guestSends('F. 1:1(0) ack 1');
  other.expect();
  other.world.netstack.quiet();
  other.expect('. 1:1(0) ack 2');
});

t.test('a connection that is gone by then is not acknowledged', async (t) => {
  const s = established(t);
  s.world.netstack.onPutOff = () => undefined;
  s.guestSends('P. 1:11(10) ack 1');
  s.guestSends('R. 11:11(0) ack 1');
  s.world.netstack.quiet();
  s.expect();
});

t.test('segments of the MSS, PSH on the last', async (t) => {
  const s = established(t);
  t.equal(s.write(4000), 4000);
  s.expect('. 1:1461(1460) ack 1', '. 1461:2921(1460) ack 1', 'P. 2921:4001(1080) ack 1');
  s.guestSends('. 1:1(0) ack 4001');
  s.expect();
  t.equal(s.connection.sendQueueOctets, 0);
  t.equal(s.world.netstack.pooledOctets, 0, 'an idle flow holds no memory');
});

t.test('segments run over the ends of chunks', async (t) => {
  const s = established(t, '<mss 1460,wscale 7>', 8000);
  s.write(200_000);
  let end = 1;
  for (let turns = 0; end < 200_001 && turns < 100; turns++) {
    s.world.poll();
    for (const { bytes } of s.world.link.take()) {
      const { payload } = readIp(bytes);
      end += payload.length - 20;
      t.same(payload.length - 20 <= 1460, true);
    }
    s.guestSends(`. 1:1(0) ack ${end} win 8000`);
  }
  t.equal(end, 200_001);
  t.equal(s.connection.sendQueueOctets, 0);
});

t.test('the queue is bounded; its owner is told when half of it is free', async (t) => {
  const s = new TcpScript(t, { limits: { sendQueueOctets: 131_072, sendQueueMostOctets: 131_072 } });
  s.establish('<mss 1460>', 65535);
  t.equal(s.write(1_000_000), 131_072);
  s.world.poll();
  s.guestSends('. 1:1(0) ack 60001');
  s.owns();
  s.world.poll();
  s.guestSends('. 1:1(0) ack 70001');
  s.owns('writable');
  t.equal(s.write(1_000_000), 70_000);
});

/** The most that a queue holds whose guest takes all, `roundTripMs` after it was sent. */
function mostQueued(t: Test, sendQueueMostOctets: number, roundTripMs: number): number {
  const s = new TcpScript(t, { limits: { sendQueueOctets: 65536, sendQueueMostOctets } });
  s.establish('<mss 1460,wscale 7>', 65535);
  let acknowledged = 1;
  let most = 0;
  for (let turns = 0; turns < 200; turns++) {
    s.write(16 << 20);
    most = Math.max(most, s.connection.sendQueueOctets);
    s.world.poll();
    s.world.link.take();
    s.world.nowMs += roundTripMs;
    acknowledged += s.connection.sendQueueOctets;
    s.guestSends(`. 1:1(0) ack ${acknowledged} win 65535`);
  }
  return most;
}

t.test('the queue grows while the guest takes all that it holds', async (t) => {
  t.equal(mostQueued(t, 1 << 20, 0.2), 1 << 20);
});

t.test('and for a guest nearby to no more than what is in flight there', async (t) => {
  t.equal(mostQueued(t, 6 << 20, 0.2), 3 << 20);
  t.equal(mostQueued(t, 6 << 20, 200), 6 << 20);
});

t.test('out of order: kept, acknowledged each time, handed over when the gap is filled', async (t) => {
  const s = established(t);
  s.guestSends('. 101:201(100) ack 1', '. 301:401(100) ack 1', '. 151:251(100) ack 1');
  s.owns();
  s.expect('. 1:1(0) ack 1', '. 1:1(0) ack 1', '. 1:1(0) ack 1');
  s.guestSends('. 1:111(110) ack 1');
  s.owns('received 250');
  s.expect('. 1:1(0) ack 251');
  s.guestSends('. 251:301(50) ack 1');
  s.owns('received 150');
  s.expect('. 1:1(0) ack 401');
  t.equal(s.world.netstack.pooledOctets, 0);
});

t.test('old and doubled octets are cut off, what is new in a segment is taken', async (t) => {
  const s = established(t);
  s.guestSends('. 1:101(100) ack 1');
  s.expect('. 1:1(0) ack 101');
  s.guestSends('. 1:101(100) ack 1');
  s.expect('. 1:1(0) ack 101');
  s.guestSends('. 51:151(100) ack 1');
  s.expect('. 1:1(0) ack 151');
  s.owns('received 100', 'received 50');
});

t.test('what the owner does not take was never received', async (t) => {
  const s = established(t);
  s.owner.takes = 60;
  s.guestSends('P. 1:101(100) ack 1');
  s.owns('received 60');
  s.expect('. 1:1(0) ack 61');
  s.owner.takes = 1000;
  s.guestSends('FP. 61:101(40) ack 1');
  s.owns('received 40', 'end');
  s.expect('. 1:1(0) ack 102');
});

t.test('a FIN behind octets that were not taken has not come either', async (t) => {
  const s = established(t);
  s.owner.takes = 60;
  s.guestSends('FP. 1:101(100) ack 1');
  s.owns('received 60');
  s.expect('. 1:1(0) ack 61');
  t.equal(s.connection.state, 'ESTABLISHED');
});

t.test('sequence numbers wrap', async (t) => {
  // The guest's initial number is 0xfffffff0: everything above passed the wrap already. This one crosses 2^31.
  const s = new TcpScript(t, { guestIsn: 0x7fff_ffff });
  s.establish();
  s.guestSends('. 1:1001(1000) ack 1', '. 2001:3001(1000) ack 1');
  s.guestSends('. 1001:2001(1000) ack 1');
  s.owns('received 1000', 'received 2000');
});

t.test('frames with payload apart from their headers, and checksums that were verified below', async (t) => {
  const s = established(t);
  s.world.link.input([s.frame('. 1:1461(1460) ack 1'), s.frame('. 1461:2921(1460) ack 1')], 0, 99);
  s.owns('received 2920');
  const broken = s.frame('. 2921:3021(100) ack 1');
  broken[50]! ^= 1;
  s.world.link.input([broken]);
  s.owns();
  t.same(s.world.drops(), { 'tcp-checksum': 1 });
  s.world.link.input([broken], CHECKSUM_PARTIAL);
  s.world.link.input([s.frame('. 3021:3121(100) ack 1')], CHECKSUM_VERIFIED, 54);
  s.owns('received 100', 'received 100');
});

t.test('octets behind the packet are padding', async (t) => {
  const s = established(t);
  const frame = s.frame('P. 1:3(2) ack 1');
  const padded = new Uint8Array(64).fill(0x77);
  padded.set(frame);
  s.world.link.input([padded]);
  s.owns('received 2');
  s.world.link.input([padded], 0, 58);
  s.owns();
});

t.test('a link that cuts: super-segments with a partial checksum', async (t) => {
  const s = new TcpScript(t, { offload: { checksum: true, segmentOctets: 65535 } });
  s.establish();
  s.write(100_000);
  s.world.poll();
  const frames = s.world.link.take();
  t.same(
    frames.map(({ bytes, segmentOctets, checksumStart, checksumOffset }) => [
      bytes.length - 54,
      segmentOctets,
      checksumStart,
      checksumOffset,
    ]),
    [
      [44 * 1460, 1460, 34, 16],
      [100_000 - 44 * 1460, 1460, 34, 16],
    ],
  );
});

t.test('a link without room: TCP waits, and goes on where it was', async (t) => {
  const s = established(t);
  s.write(5000);
  s.world.link.room = 2;
  s.expect('. 1:1461(1460) ack 1', '. 1461:2921(1460) ack 1');
  t.equal(s.world.netstack.flows()[0]?.waitsFor, 'link');
  s.expect();
  t.ok(s.world.netstack.pollAt() > s.world.nowMs, 'nothing is due while the link is full');
  s.advance(5000);
  s.expect();
  s.world.link.room = 100;
  s.world.link.writable();
  t.equal(s.world.netstack.pollAt(), 0);
  s.world.poll();
  const [first] = s.world.link.take();
  t.ok(first);
});

t.test('flows take turns at a link', async (t) => {
  const s = new TcpScript(t);
  const ports = [1001, 1002, 1003];
  for (const guestPort of ports) {
    const other = new TcpScript(t, { guestPort });
    s.world.link.input([other.frame('S 0:0(0) win 65535 <mss 1460,wscale 7>')]);
    s.connection.accept(s.owner);
    s.world.poll();
    const { payload } = readIp(s.world.link.take()[0]!.bytes);
    other.ourIsn = new DataView(payload.buffer, payload.byteOffset).getUint32(4);
    s.world.link.input([other.frame('. 1:1(0) ack 1 win 65535')]);
  }
  for (const connection of s.world.dialled) {
    while (connection.sendQueueOctets < 128 * 1024 && connection.reserveSend())
      connection.commitSend(connection.sendLength);
  }
  s.world.netstack.poll(s.world.nowMs, 200_000);
  const turns: number[] = [];
  for (const { bytes } of s.world.link.take()) {
    const { payload } = readIp(bytes);
    const port = new DataView(payload.buffer, payload.byteOffset).getUint16(2);
    if (turns.at(-1) !== port) turns.push(port);
  }
  t.same(turns, [1001, 1002, 1003, 1001]);
  t.equal(s.world.netstack.pollAt(), 0, 'there is more');
});

t.test('records of flows', async (t) => {
  const s = established(t);
  s.guestSends('P. 1:101(100) ack 1');
  s.write(50);
  s.world.poll();
  s.world.nowMs += 3;
  s.guestSends('. 101:101(0) ack 51');
  const [flow] = s.world.netstack.flows();
  t.match(flow, {
    protocol: 'tcp',
    guest: '192.168.65.3:40000',
    peer: '10.0.0.1:80',
    state: 'ESTABLISHED',
    octetsToGuest: 50,
    octetsToHost: 100,
    retransmissions: 0,
    waitsFor: 'nothing',
  });
  t.ok(flow!.rttMs! > 0);
});

t.test('an owner that aborts from within any event', async (t) => {
  for (const event of ['established', 'received 10', 'end', 'writable'])
    for (const answer of ['abort', 'end'] as const) {
      const s = new TcpScript(t, { limits: { sendQueueOctets: 65536, sendQueueMostOctets: 65536 } });
      s.owner.onEvent = (happened) => {
        if (happened === event) s.connection[answer]();
      };
      s.guestSends('S 0:0(0)');
      s.connection.accept(s.owner);
      s.expect('S. 0:0(0) ack 1');
      s.guestSends('. 1:1(0) ack 1');
      s.flight(1_000_000);
      s.guestSends('P. 1:11(10) ack 40001', 'F. 11:11(0) ack 60001');
      s.advance(1000);
      s.guestSends('R 12:12(0)');
      s.advance(3_600_000);
      t.same(s.world.netstack.flows(), [], `${answer} at ${event}`);
      t.equal(s.world.netstack.pooledOctets, 0);
      t.equal(s.owner.log.filter((entry) => entry.startsWith('closed')).length, 1);
    }
});
