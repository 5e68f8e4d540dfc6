/** RFC 9293, Transmission Control Protocol: one test per behaviour, by section. */

import t from 'tap';
import { CHECKSUM_UNKNOWN } from '../../src/stack/frame-batch.ts';
import { icmpFrame, readIp } from '../stack/frames.ts';
import { established, TcpScript } from '../stack/tcp/tcp-script.ts';
import { address } from '../stack/world.ts';
import { opening, type Reachable, rcvNxt, reach, sndNxt, synchronized } from './states.ts';

t.test('3.1: a segment whose checksum is wrong is dropped (MUST-3)', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  const frame = s.frame('P. 1:11(10) ack 1');
  frame[frame.length - 1]! ^= 1;
  s.world.link.input([frame], CHECKSUM_UNKNOWN);
  s.owns();
  s.expect();
});

t.test('3.1: reserved bits are ignored in what is received, and zero in what is sent', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  const frame = s.frame('P. 1:11(10) ack 1');
  frame[14 + 20 + 12]! |= 0x0f;
  s.world.link.input([frame], 1);
  s.owns('received 10');
  s.world.poll();
  t.equal(readIp(s.world.link.take()[0]!.bytes).payload[12]! & 0x0f, 0);
});

t.test('3.1: a data offset below the header or beyond the segment is dropped', async (t) => {
  for (const words of [0, 4, 15]) {
    const s = reach(t, 'ESTABLISHED');
    const frame = s.frame('P. 1:11(10) ack 1');
    frame[14 + 20 + 12] = words << 4;
    s.world.link.input([frame], 1);
    s.owns();
    s.expect();
  }
});

t.test('3.1: options that are unknown, cut short or of length zero do no harm (MUST-5, MUST-6, MUST-7)', async (t) => {
  const raws = ['fd06aabbccdd', 'fd00', '0200', '02ff', '0204', '02', '03', '030315', '00ffffff', '0101010101010101'];
  for (const raw of raws) {
    const s = new TcpScript(t);
    s.guestSends(`S 0:0(0) <raw:${raw}>`);
    s.connection.accept(s.owner);
    s.expect('S. 0:0(0) ack 1');
    s.guestSends(`. 1:1(0) ack 1 <raw:${raw}>`);
    s.owns('established');
    s.guestSends(`P. 1:11(10) ack 1 <raw:${raw}>`);
    s.owns('received 10');
  }
});

t.test('3.1: the MSS option stands in every SYN that is sent (SHLD-5)', async (t) => {
  const s = reach(t, 'SYN-RECEIVED');
  s.guestSends('S 0:0(0)');
  s.expect('S. 0:0(0) ack 1 <mss 1460,wscale 7>');
  const active = opening(t);
  active.advanceUntilSent();
  active.expect('S 0:0(0) <mss 1460,wscale 7,sackOK,TS val 1000 ecr 0>');
});

t.test('3.4: sequence numbers wrap, in both directions, at 2^32 and at 2^31', async (t) => {
  for (const guestIsn of [0xffff_ff00, 0x7fff_ff00]) {
    const s = reach(t, 'ESTABLISHED', { guestIsn });
    s.guestSends('. 1:1001(1000) ack 1');
    s.owns('received 1000');
    s.expect('. 1:1(0) ack 1001');
    s.guestSends('. 1:1001(1000) ack 1');
    s.owns();
    s.expect('. 1:1(0) ack 1001');
  }
});

t.test('3.5: a connection opens by three segments', async (t) => {
  const s = reach(t, 'SYN-RECEIVED');
  s.owns();
  s.guestSends('. 1:1(0) ack 1');
  s.owns('established');
  s.expect();
  const active = opening(t);
  active.guestSends('S. 0:0(0) ack 1');
  active.owns('established');
  active.expect('. 1:1(0) ack 1');
});

t.test('3.5: simultaneous open (MUST-10)', async (t) => {
  const s = opening(t);
  s.guestSends('S 0:0(0) <mss 1460,wscale 7>');
  t.equal(s.connection.state, 'SYN-RECEIVED');
  s.expect('S. 0:0(0) ack 1');
  // Theirs is not acceptable any more, and it is the acknowledgement of it that they wait for.
  s.guestSends('S. 0:0(0) ack 1');
  s.expect('. 1:1(0) ack 1 win 512');
  s.guestSends('. 1:1(0) ack 1');
  s.owns('established');
});

t.test('3.5: simultaneous open in which the other side sends no SYN-ACK (split handshake)', async (t) => {
  const s = opening(t);
  s.guestSends('S 0:0(0) <mss 1460,wscale 7>');
  s.expect('S. 0:0(0) ack 1');
  s.guestSends('. 1:1(0) ack 1');
  s.owns('established');
  s.write(10);
  s.expect('P. 1:11(10) ack 1');
});

t.test('3.5: an old duplicate SYN ends in the reset that the guest sends about it', async (t) => {
  const s = new TcpScript(t);
  s.guestSends('S 90:90(0)');
  s.connection.accept(s.owner);
  s.expect('S. 0:0(0) ack 91');
  s.guestSends('R 91:91(0)');
  s.owns('closed ECONNRESET');
  t.same(s.world.netstack.flows(), []);
  s.guestSends('S 100:100(0)');
  t.equal(s.world.dialled.length, 2);
});

t.test(
  '3.5.1: half-open, the guest has forgotten: its SYN is challenged, its RST ends it, its next SYN opens',
  async (t) => {
    const s = reach(t, 'ESTABLISHED');
    s.guestSends('S 4000:4000(0)');
    s.expect('. 1:1(0) ack 1');
    s.guestSends('R 1:1(0)');
    s.owns('closed ECONNRESET');
    s.guestSends('S 4000:4000(0)');
    t.equal(s.world.dialled.length, 2);
  },
);

t.test('3.5.1: half-open, we have forgotten: the guest is reset', async (t) => {
  const s = new TcpScript(t);
  s.ourIsn = 0;
  s.guestSends('P. 1:101(100) ack 300');
  s.expect('R 300:300(0)');
});

t.test('3.5.2: group 1, no connection: RST that the guest believes, and never for RST', async (t) => {
  const s = new TcpScript(t);
  s.ourIsn = 0;
  s.guestSends('. 5:5(0) ack 77');
  s.expect('R 77:77(0)');
  s.guestSends('FP 5:15(10)');
  s.expect('R. 0:0(0) ack 16');
  s.guestSends('R 5:5(0)', 'R. 5:5(0) ack 77');
  s.expect();
});

t.test('3.5.2: group 2, SYN-SENT and SYN-RECEIVED: an acknowledgement of what was never sent is reset', async (t) => {
  for (const state of ['SYN-SENT', 'SYN-RECEIVED'] as const) {
    const s = reach(t, state);
    const line = state === 'SYN-SENT' ? 'S. 0:0(0) ack 500' : '. 1:1(0) ack 500';
    s.guestSends(line);
    s.expect('R 500:500(0)');
    t.equal(s.connection.state, state, 'it changes nothing');
  }
});

t.test('3.5.2: group 3, synchronized: what is out of the window gets an empty acknowledgement', async (t) => {
  for (const state of synchronized) {
    const s = reach(t, state);
    s.guestSends(`. 200000:200010(10) ack ${sndNxt(state)}`);
    s.expect(`. ${sndNxt(state)}:${sndNxt(state)}(0) ack ${rcvNxt(state)}`);
    t.equal(s.connection.state, state);
    s.owns();
  }
});

t.test('3.5.3: RST is believed in SYN-SENT only if it acknowledges the SYN', async (t) => {
  const s = opening(t);
  s.guestSends('R 0:0(0)', 'R. 0:0(0) ack 0', 'R. 0:0(0) ack 2');
  s.owns();
  s.expect();
  s.guestSends('R. 0:0(0) ack 1');
  s.owns('closed ECONNREFUSED');
});

t.test('3.5.3: RST at RCV.NXT ends every synchronized state but TIME-WAIT', async (t) => {
  for (const state of synchronized) {
    const s = reach(t, state);
    s.guestSends(`R ${rcvNxt(state)}:${rcvNxt(state)}(0)`);
    s.expect();
    if (state === 'TIME-WAIT') t.equal(s.connection.state, 'TIME-WAIT', 'RFC 1337');
    else {
      s.owns('closed ECONNRESET');
      t.same(s.world.netstack.flows(), []);
    }
  }
});

t.test('3.6: case 1, our side closes first', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.connection.end();
  s.expect('F. 1:1(0) ack 1');
  t.equal(s.connection.state, 'FIN-WAIT-1');
  s.guestSends('. 1:1(0) ack 2');
  t.equal(s.connection.state, 'FIN-WAIT-2');
  s.guestSends('F. 1:1(0) ack 2');
  s.owns('end', 'closed closed');
  t.equal(s.connection.state, 'TIME-WAIT');
  s.expect('. 2:2(0) ack 2');
  s.advance(10_001);
  t.same(s.world.netstack.flows(), []);
});

t.test('3.6: case 2, the guest closes first', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.guestSends('F. 1:1(0) ack 1');
  s.owns('end');
  s.expect('. 1:1(0) ack 2');
  t.equal(s.connection.state, 'CLOSE-WAIT');
  s.connection.end();
  s.expect('F. 1:1(0) ack 2');
  t.equal(s.connection.state, 'LAST-ACK');
  s.guestSends('. 2:2(0) ack 2');
  s.owns('closed closed');
  t.same(s.world.netstack.flows(), []);
});

t.test('3.6: case 3, both at once', async (t) => {
  const s = reach(t, 'FIN-WAIT-1');
  s.guestSends('F. 1:1(0) ack 1');
  t.equal(s.connection.state, 'CLOSING');
  s.expect('. 2:2(0) ack 2');
  s.guestSends('. 2:2(0) ack 2');
  t.equal(s.connection.state, 'TIME-WAIT');
  s.owns('end', 'closed closed');
});

t.test('3.6: a FIN that acknowledges ours goes from FIN-WAIT-1 to TIME-WAIT', async (t) => {
  const s = reach(t, 'FIN-WAIT-1');
  s.guestSends('F. 1:1(0) ack 2');
  t.equal(s.connection.state, 'TIME-WAIT');
  s.owns('end', 'closed closed');
  s.expect('. 2:2(0) ack 2');
});

t.test('3.6: what was written before the close is sent before the FIN, and until it is acknowledged', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.write(2000);
  s.connection.end();
  s.expect('. 1:1461(1460) ack 1', 'FP. 1461:2001(540) ack 1');
  s.guestSends('. 1:1(0) ack 1461');
  t.equal(s.connection.state, 'FIN-WAIT-1');
  s.advanceUntilSent();
  s.expect('FP. 1461:2001(540) ack 1');
  s.guestSends('. 1:1(0) ack 2002');
  t.equal(s.connection.state, 'FIN-WAIT-2');
});

t.test('3.6.1: half-close, the guest first: it is sent data for as long as there is some', async (t) => {
  const s = reach(t, 'CLOSE-WAIT');
  s.advance(3 * 3600 * 1000);
  s.write(100);
  s.expect('P. 1:101(100) ack 2');
  s.guestSends('. 2:2(0) ack 101');
  s.connection.end();
  s.expect('F. 101:101(0) ack 2');
});

t.test('3.6.1: half-close, our side first: what the guest sends is taken', async (t) => {
  for (const state of ['FIN-WAIT-1', 'FIN-WAIT-2'] as const) {
    const s = reach(t, state);
    s.guestSends('P. 1:101(100) ack 2');
    s.owns('received 100');
    s.expect('. 2:2(0) ack 101');
  }
});

t.test('3.6.1: RST after a half-close, each side first', async (t) => {
  for (const state of ['CLOSE-WAIT', 'FIN-WAIT-2'] as const) {
    const s = reach(t, state);
    s.guestSends(`R. ${rcvNxt(state)}:${rcvNxt(state)}(0) ack ${sndNxt(state)}`);
    s.owns('closed ECONNRESET');
    t.same(s.world.netstack.flows(), []);
  }
});

t.test('3.6.1: a guest that vanishes in FIN-WAIT-2 is given up; one that is there is not', async (t) => {
  const gone = reach(t, 'FIN-WAIT-2');
  gone.advance(20 * 60_000);
  gone.owns('closed ETIMEDOUT');
  t.same(gone.world.netstack.flows(), []);
  const there = reach(t, 'FIN-WAIT-2');
  for (let minute = 0; minute < 60; minute++) {
    there.advance(60_001);
    there.expect('. 1:1(0) ack 1');
    there.guestSends('. 1:1(0) ack 2');
  }
  there.owns();
});

t.test('3.6.1: TIME-WAIT acknowledges the FIN again, and begins anew', async (t) => {
  const s = reach(t, 'TIME-WAIT');
  s.advance(9000);
  s.guestSends('F. 1:1(0) ack 2');
  s.expect('. 2:2(0) ack 2');
  s.advance(9000);
  t.equal(s.connection.state, 'TIME-WAIT');
  s.advance(1001);
  t.equal(s.connection.state, 'CLOSED');
});

t.test('3.6.1: a FIN that is not the one of before does not prolong TIME-WAIT', async (t) => {
  const s = reach(t, 'TIME-WAIT');
  for (let i = 0; i < 6; i++) {
    s.advance(2000);
    s.guestSends('F. 70000:70000(0) ack 2', 'F. 2:2(0) ack 2');
  }
  t.equal(s.connection.state, 'CLOSED');
});

t.test('3.7.1: without the option the MSS is 536, with it what it says (MUST-15, MUST-16)', async (t) => {
  for (const [options, mss] of [
    ['', 536],
    ['<mss 1000>', 1000],
    ['<mss 9000>', 1460],
  ] as const) {
    const s = established(t, options);
    s.write(2 * mss);
    s.expect(`. 1:${1 + mss}(${mss}) ack 1`, `P. ${1 + mss}:${1 + 2 * mss}(${mss}) ack 1`);
  }
});

t.test('3.7.1: an MSS option outside a SYN means nothing', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.guestSends('P. 1:2(1) ack 1 <mss 600>');
  s.write(1460);
  s.expect('P. 1:1461(1460) ack 2');
});

t.test('3.8.3: a SYN is repeated for less than R2 only, then the open fails', async (t) => {
  const s = opening(t);
  s.advance(62_000);
  t.equal(s.world.link.take().length, 5);
  s.owns();
  s.advance(2000);
  s.owns('closed ETIMEDOUT');
});

t.test('3.8.3: data is repeated for 100 s at least (R2), then the connection is closed', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.write(10);
  s.expect('P. 1:11(10) ack 1');
  s.advance(100_000);
  s.owns();
  s.advance(3_600_000);
  s.owns('closed ETIMEDOUT');
});

t.test('3.8.4: keep-alives are answered, with and without an octet', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  for (const line of ['. 0:0(0) ack 1', '. 0:1(1) ack 1']) {
    s.guestSends(line);
    s.expect('. 1:1(0) ack 1');
  }
});

t.test('3.8.4: no keep-alive is sent by itself on an established connection (MUST-25)', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.advance(48 * 3600 * 1000);
  s.expect();
  s.owns();
});

t.test('3.8.5: urgent octets of any length are ordinary octets (MUST-31)', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.guestSends('PU. 1:1001(1000) ack 1', 'U. 1001:1001(0) ack 1');
  s.owns('received 1000');
});

t.test('3.8.6: the right edge of our window never moves left (SHLD-14)', async (t) => {
  const s = established(t, '<mss 1000>');
  s.owner.mostRoom = 0;
  s.guestSends('. 1:1001(1000) ack 1');
  s.expect('. 1:1(0) ack 1001 win 64535');
  s.guestSends('. 1001:2001(1000) ack 1');
  s.owns('received 1000', 'received 1000');
});

t.test('3.8.6: a guest whose window shrinks is borne with (MUST-34, SHLD-15, SHLD-17)', async (t) => {
  const s = established(t, '<mss 1000>', 5000);
  s.write(8000);
  s.world.poll();
  t.equal(s.world.link.take().length, 5);
  s.guestSends('. 1:1(0) ack 1001 win 1000');
  s.expect();
  s.owns();
  s.guestSends('. 1:1(0) ack 5001 win 3000');
  s.expect('. 5001:6001(1000) ack 1', '. 6001:7001(1000) ack 1', 'P. 7001:8001(1000) ack 1');
});

t.test(
  '3.8.6.1: a zero window is probed for as long as the guest answers, ever more slowly (MUST-35, MUST-36)',
  async (t) => {
    const s = established(t, '<mss 1000>', 1000);
    s.write(3000);
    s.expect('. 1:1001(1000) ack 1');
    s.guestSends('. 1:1(0) ack 1001 win 0');
    const began = s.world.nowMs;
    let gap = 0;
    while (s.world.nowMs - began < 300_000) {
      const before = s.world.nowMs;
      s.advanceUntilSent();
      s.expect('. 1001:1002(1) ack 1');
      t.ok(s.world.nowMs - before >= Math.min(gap, 59_000));
      gap = s.world.nowMs - before;
      s.guestSends('. 1:1(0) ack 1001 win 0');
    }
    s.owns();
    s.guestSends('. 1:1(0) ack 1001 win 2000');
    s.expect('. 1001:2001(1000) ack 1', 'P. 2001:3001(1000) ack 1');
  },
);

t.test('3.8.6.1: probes of our zero window are answered with RCV.NXT and the window', async (t) => {
  const s = new TcpScript(t);
  s.owner.mostRoom = 1000;
  s.establish('<mss 1000>');
  s.owner.mostRoom = 0;
  s.guestSends('. 1:1001(1000) ack 1');
  s.expect('. 1:1(0) ack 1001 win 0');
  s.guestSends('. 1001:1002(1) ack 1');
  s.expect('. 1:1(0) ack 1001 win 0');
  s.guestSends('. 1000:1000(0) ack 1');
  s.expect('. 1:1(0) ack 1001 win 0');
});

t.test('3.8.6.2.1: the sender waits for a full segment, all there is, or half of the widest window', async (t) => {
  const s = established(t, '<mss 1000>', 10_000);
  s.flight(12_000);
  s.guestSends('. 1:1(0) ack 10001 win 0', '. 1:1(0) ack 10001 win 700');
  s.expect();
  s.guestSends('. 1:1(0) ack 10001 win 1700');
  s.expect('. 10001:11001(1000) ack 1');
});

t.test('3.8.6.2.1: what waits is sent after a while all the same (the override)', async (t) => {
  const s = established(t, '<mss 1000>', 10_000);
  s.flight(12_000);
  s.guestSends('. 1:1(0) ack 10001 win 700');
  s.advanceUntilSent();
  s.expect('. 10001:10701(700) ack 1');
});

t.test('3.8.6.2.2: the receiver opens its window by a segment at least, or half of its buffer (MUST-39)', async (t) => {
  const s = new TcpScript(t);
  s.owner.mostRoom = 4000;
  s.establish('<mss 1460>');
  s.owner.mostRoom = 0;
  s.guestSends('. 1:1461(1460) ack 1', '. 1461:2921(1460) ack 1', '. 2921:4001(1080) ack 1');
  s.expect('. 1:1(0) ack 4001 win 0');
  s.owner.mostRoom = 1000;
  s.connection.roomGrew();
  s.expect();
  s.owner.mostRoom = 2000;
  s.connection.roomGrew();
  s.expect('. 1:1(0) ack 4001 win 2000');
});

t.test(
  '3.8.6.3: a delayed acknowledgement comes within half a second, and for every second full segment (MUST-40)',
  async (t) => {
    const s = reach(t, 'ESTABLISHED');
    s.guestSends('P. 1:11(10) ack 1');
    s.write(5);
    s.expect('P. 1:6(5) ack 11');
    s.guestSends('P. 11:21(10) ack 6');
    s.expect();
    const before = s.world.nowMs;
    s.advanceUntilSent();
    t.ok(s.world.nowMs - before < 500);
    s.expect('. 6:6(0) ack 21');
    s.write(5);
    s.expect('P. 6:11(5) ack 21');
    s.guestSends('. 21:1481(1460) ack 11', '. 1481:2941(1460) ack 11');
    s.expect('. 11:11(0) ack 2941');
  },
);

t.test('3.9.2: SYNs to broadcast and multicast addresses are ignored (MUST-57)', async (t) => {
  for (const peer of ['255.255.255.255', '192.168.65.255', '224.0.0.1', '239.1.2.3']) {
    const s = new TcpScript(t, { peer });
    s.guestSends('S 0:0(0)');
    s.expect();
    t.equal(s.world.dialled.length, 0);
  }
});

t.test('3.9.2: SYNs from addresses that are no host are ignored (MUST-63)', async (t) => {
  for (const guest of ['0.0.0.0', '127.0.0.1', '192.168.65.255', '224.0.0.1', '255.255.255.255']) {
    const s = new TcpScript(t, { guest });
    s.guestSends('S 0:0(0)');
    s.expect();
    t.equal(s.world.dialled.length, 0);
  }
});

t.test('3.9.2.2: an ICMP error about an established connection does not end it (MUST-56)', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.write(10);
  s.world.poll();
  const quote = s.world.link.take()[0]!.bytes.slice(14, 14 + 28);
  for (const code of [0, 1, 2, 3, 5]) s.world.link.input([icmpFrame(3, code, 0, quote)]);
  // Source quench: RFC 9293 3.9.2.2, MUST-55.
  s.world.link.input([icmpFrame(4, 0, 0, quote)]);
  s.owns();
  s.expect();
});

t.test('3.9.2.2: an ICMP error about a SYN of ours fails the open', async (t) => {
  for (const [code, reason] of [
    [0, 'EHOSTUNREACH'],
    [1, 'EHOSTUNREACH'],
    [3, 'ECONNREFUSED'],
  ] as const) {
    const s = opening(t);
    s.advanceUntilSent();
    s.world.poll();
    const quote = s.world.link.take()[0]!.bytes.slice(14, 14 + 28);
    s.world.link.input([icmpFrame(3, code, 0, quote)]);
    s.owns(`closed ${reason}`);
  }
});

t.test('3.10.1: a second open of the same connection is refused', async (t) => {
  const s = opening(t);
  s.connect();
  s.owns('closed EADDRINUSE');
});

t.test('3.10.2: what is written before the handshake is through is sent after it', async (t) => {
  for (const state of ['SYN-SENT', 'SYN-RECEIVED'] as const) {
    const s = reach(t, state);
    t.equal(s.write(100), 100);
    s.expect();
    s.guestSends(state === 'SYN-SENT' ? 'S. 0:0(0) ack 1' : '. 1:1(0) ack 1');
    s.expect('P. 1:101(100) ack 1');
  }
});

t.test('3.10.2: nothing may be written after the close', async (t) => {
  for (const state of ['FIN-WAIT-1', 'FIN-WAIT-2', 'CLOSING', 'LAST-ACK', 'TIME-WAIT'] as const) {
    const s = reach(t, state);
    t.equal(s.connection.reserveSend(), false, state);
  }
});

t.test('3.10.4: a close in SYN-RECEIVED sends its FIN once the handshake is through', async (t) => {
  const s = reach(t, 'SYN-RECEIVED');
  s.connection.end();
  s.expect();
  s.guestSends('. 1:1(0) ack 1');
  s.owns('established');
  s.expect('F. 1:1(0) ack 1');
});

t.test('3.10.4: a second close changes nothing', async (t) => {
  for (const state of ['FIN-WAIT-1', 'FIN-WAIT-2', 'CLOSING', 'LAST-ACK', 'TIME-WAIT'] as const) {
    const s = reach(t, state);
    s.connection.end();
    s.expect();
    t.equal(s.connection.state, state);
  }
});

t.test('3.10.5: an abort resets the guest in every state in which it knows of the connection', async (t) => {
  for (const state of ['SYN-RECEIVED', ...synchronized] as const) {
    const s = reach(t, state);
    s.connection.abort();
    if (state === 'TIME-WAIT') s.expect();
    else {
      s.expect(`R. ${sndNxt(state)}:${sndNxt(state)}(0) ack ${rcvNxt(state)}`);
      s.owns('closed aborted');
      t.same(s.world.netstack.flows(), []);
    }
  }
  const active = opening(t);
  active.connection.abort();
  active.expect();
  active.owns('closed aborted');
});

t.test('3.10.7.2: LISTEN: RST is ignored, ACK is reset, SYN is answered', async (t) => {
  const s = new TcpScript(t, { peer: '192.168.65.1', peerPort: 53 });
  s.world.netstack.listenTcp(address('192.168.65.1'), 53, (connection) => connection.accept(s.owner));
  s.ourIsn = 0;
  s.guestSends('R 0:0(0)', 'SR 0:0(0)');
  s.expect();
  s.guestSends('. 0:0(0) ack 9', 'S. 0:0(0) ack 9');
  s.expect('R 9:9(0)', 'R 9:9(0)');
  s.guestSends('S 0:0(0)');
  s.expect('S. 0:0(0) ack 1');
});

t.test('3.10.7.3: SYN-SENT: a segment with neither SYN nor RST is dropped', async (t) => {
  const s = opening(t);
  s.guestSends('. 5:5(0) ack 1', 'P 5:15(10)', 'F. 5:5(0) ack 1');
  s.expect();
  s.owns();
  t.equal(s.connection.state, 'SYN-SENT');
});

t.test('3.10.7.4: an unacceptable segment is acknowledged, unless it is RST', async (t) => {
  for (const state of ['SYN-RECEIVED', ...synchronized] as const) {
    const s = reach(t, state);
    s.guestSends(`R 200000:200000(0)`);
    s.expect();
    s.guestSends(`P. -100:-90(10) ack ${sndNxt(state)}`);
    s.expect(`. ${sndNxt(state)}:${sndNxt(state)}(0) ack ${rcvNxt(state)}`);
    s.owns();
    t.equal(s.connection.state, state);
  }
});

t.test('3.10.7.4: an acceptable segment without ACK is dropped', async (t) => {
  for (const state of ['SYN-RECEIVED', ...synchronized.slice(0, -1)] as Reachable[]) {
    const s = reach(t, state);
    s.guestSends(`P ${rcvNxt(state)}:${rcvNxt(state) + 10}(10)`);
    s.expect();
    s.owns();
    t.equal(s.connection.state, state);
    t.equal(s.world.drops()['tcp-no-ack'], 1);
  }
});

t.test('3.10.7.4: an acknowledgement of what was not sent is answered, and its data dropped', async (t) => {
  for (const state of synchronized.slice(0, -1)) {
    const s = reach(t, state);
    s.guestSends(`P. ${rcvNxt(state)}:${rcvNxt(state) + 10}(10) ack ${sndNxt(state) + 1}`);
    s.expect(`. ${sndNxt(state)}:${sndNxt(state)}(0) ack ${rcvNxt(state)}`);
    s.owns();
    t.equal(s.connection.state, state);
  }
});

t.test('3.10.7.4: the window is taken from the newest segment only (SND.WL1, SND.WL2)', async (t) => {
  const s = established(t, '<mss 1000>', 10_000);
  // The newer one comes first.
  s.guestSends('. 101:201(100) ack 1 win 3000');
  s.guestSends('. 1:101(100) ack 1 win 0');
  s.world.poll();
  s.world.link.take();
  s.write(5000);
  s.expect('. 1:1001(1000) ack 201', '. 1001:2001(1000) ack 201', '. 2001:3001(1000) ack 201');
});

t.test('3.10.7.4: with a zero window acknowledgements and RST are heeded all the same', async (t) => {
  const s = new TcpScript(t);
  s.owner.mostRoom = 1000;
  s.establish('<mss 1000>');
  s.owner.mostRoom = 0;
  s.write(10);
  s.expect('P. 1:11(10) ack 1');
  s.guestSends('. 1:1001(1000) ack 1');
  s.world.poll();
  s.world.link.take();
  s.guestSends('. 1001:2001(1000) ack 11');
  t.equal(s.connection.sendQueueOctets, 0);
  s.owner.take();
  s.guestSends('R 1001:1001(0)');
  s.owns('closed ECONNRESET');
});

t.test('3.10.7.4: segments out of order are kept, each acknowledged at once (SHLD-31)', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.guestSends('. 101:201(100) ack 1', '. 201:301(100) ack 1');
  s.expect('. 1:1(0) ack 1', '. 1:1(0) ack 1');
  s.guestSends('. 1:101(100) ack 1');
  s.owns('received 300');
  s.expect('. 1:1(0) ack 301');
});

t.test('3.10.7.4: octets received before are cut off, octets beyond the window too', async (t) => {
  const s = new TcpScript(t);
  s.owner.mostRoom = 500;
  s.establish('<mss 1000>');
  s.guestSends('. 1:101(100) ack 1');
  s.guestSends('. 51:1051(1000) ack 1');
  s.owns('received 100', 'received 400');
});

t.test('3.10.7.4: what comes after the guest closed is ignored, and acknowledged', async (t) => {
  for (const state of ['CLOSE-WAIT', 'CLOSING', 'LAST-ACK'] as const) {
    const s = reach(t, state);
    s.guestSends(`FP. 2:12(10) ack 1`);
    s.owns();
    s.expect(`. ${sndNxt(state)}:${sndNxt(state)}(0) ack 2`);
    t.equal(s.connection.state, state);
  }
});

t.test('3.10.7.4: a FIN is taken in its turn, after every octet before it', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.guestSends('F. 101:101(0) ack 1');
  s.owns();
  t.equal(s.connection.state, 'ESTABLISHED');
  s.world.poll();
  s.world.link.take();
  s.guestSends('. 1:101(100) ack 1', 'F. 101:101(0) ack 1');
  s.owns('received 100', 'end');
  s.expect('. 1:1(0) ack 102');
});

t.test('3.10.8: the user timeout is that of retransmission: an idle connection has none', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.advance(30 * 24 * 3600 * 1000);
  s.owns();
  s.guestSends('P. 1:11(10) ack 1');
  s.owns('received 10');
});
