/** RFC 6691, TCP Options and Maximum Segment Size (now RFC 9293 3.7.1). By section. */

import t from 'tap';
import { established, TcpScript } from '../stack/tcp/tcp-script.ts';
import { opening } from './states.ts';

t.test('2: the option says the MTU less the fixed headers, whatever options segments carry', async (t) => {
  for (const mtu of [576, 1280, 1500, 9000, 65520]) {
    const s = new TcpScript(t, { mtu });
    s.guestSends('S 0:0(0) <mss 1460,wscale 7>');
    s.connection.accept(s.owner);
    s.expect(`S. 0:0(0) ack 1 <mss ${mtu - 40},wscale 7>`);
  }
});

t.test('2: our own SYN says the same', async (t) => {
  const s = opening(t, { mtu: 9000 });
  s.advanceUntilSent();
  s.expect('S 0:0(0) <mss 8960,wscale 7,sackOK,TS val 1000 ecr 0>');
});

t.test('2: segments never exceed what the guest said, nor the MTU', async (t) => {
  for (const [mtu, mss, most] of [
    [1500, 1460, 1460],
    [1500, 8960, 1460],
    [9000, 1460, 1460],
    [9000, 8960, 8960],
    [576, 65535, 536],
  ] as const) {
    const s = new TcpScript(t, { mtu });
    s.establish(`<mss ${mss}>`);
    s.write(2 * most);
    s.expect(`. 1:${1 + most}(${most}) ack 1`, `P. ${1 + most}:${1 + 2 * most}(${most}) ack 1`);
  }
});

t.test('2: what timestamps take is deducted from each segment', async (t) => {
  const s = established(t, '<mss 1000,wscale 7,TS val 1 ecr 0>');
  s.write(2000);
  s.expect('. 1:989(988) ack 1', '. 989:1977(988) ack 1', 'P. 1977:2001(24) ack 1');
});

t.test('2: a segment of the MSS that carries options of its own is taken', async (t) => {
  const s = established(t);
  s.guestSends('. 1:1449(1448) ack 1 <raw:0101080a0000000100000000>');
  s.owns('received 1448');
});
