/** Behaviours of TCP, each by its RFC and section, as anyone's network core can be asked for them through its link. */

import { pattern } from '../stack/frames.ts';
import { type HostSide, NOBODY, type Stage } from './stage.ts';
import { isSynAck, Otherwise, WireScript } from './wire-script.ts';

export interface Case {
  readonly rfc: number;
  readonly section: string;
  readonly behaviour: string;
  /** Throws an `Otherwise` where the behaviour is another. */
  readonly play: (stage: Stage) => Promise<void>;
}

const at = (rfc: number, section: string, behaviour: string, play: Case['play']): Case => ({
  rfc,
  section,
  behaviour,
  play,
});

function must(condition: boolean, otherwise: string): void {
  if (!condition) throw new Otherwise(otherwise);
}

async function hostMustHear(side: HostSide, octets: number): Promise<void> {
  await side.comesTo(() => side.received.length >= octets);
  must(side.received.length === octets, `the host has ${side.received.length} octets of ${octets}`);
  must(side.received.equals(pattern(octets, 1)), 'the octets are others');
}

/** The host writes; what comes is acknowledged until all has come. */
async function guestMustHear(s: WireScript, octets: number, ack = 1): Promise<void> {
  let next = ack;
  while (next < ack + octets) {
    const heard = await s.must(`octet ${next}`, ({ seq, octets }) => seq === next && octets > 0);
    next += heard.octets;
    s.guestSends(`. 1:1(0) ack ${next}`);
  }
}

export const tcpCases: readonly Case[] = [
  at(9293, '3.1', 'a segment whose checksum is wrong is dropped (MUST-3)', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    stage.guest.send(s.frame('P. 1:11(10) ack 1', { spoil: true }));
    must(!(await side.comesTo(() => side.received.length > 0, 300)), 'it reaches the host');
    s.guestSends('P. 1:11(10) ack 1');
    await hostMustHear(side, 10);
  }),
  at(
    9293,
    '3.1',
    'options that are unknown, cut short or of length zero do no harm (MUST-6, MUST-7)',
    async (stage) => {
      for (const raw of ['fd06aabbccdd', 'fd00', '02040101', '0101010101010101']) {
        const [s, side] = await WireScript.open(stage, `<raw:${raw}>`);
        s.guestSends(`P. 1:11(10) ack 1 <raw:${raw}>`);
        await hostMustHear(side, 10);
      }
    },
  ),
  at(9293, '3.1', 'the MSS option stands in the SYN-ACK (SHLD-5)', async (stage) => {
    const s = new WireScript(stage);
    s.guestSends('S 0:0(0) <mss 1460>');
    const { options } = await s.must('SYN-ACK', isSynAck);
    must(options.maximumSegmentSize > 0, 'no MSS');
  }),
  at(9293, '3.5', 'a connection that the host refuses is reset', async (stage) => {
    const s = new WireScript(stage, { port: 9 });
    s.guestSends('S 0:0(0)');
    const { ack } = await s.must('RST', ({ flags }) => flags.includes('R'));
    must(ack === 1, 'RST that acknowledges something else');
  }),
  at(9293, '3.5', 'a SYN that comes twice opens one connection', async (stage) => {
    const s = new WireScript(stage);
    s.guestSends('S 0:0(0)', 'S 0:0(0)');
    await s.must('SYN-ACK', isSynAck);
    s.guestSends('. 1:1(0) ack 1');
    must((await stage.arrival()) !== undefined, 'the host sees no connection');
    must((await stage.arrival(300)) === undefined, 'the host sees two');
  }),
  at(
    9293,
    '3.5.1',
    'half-open, the core has forgotten: the guest is reset with the number that it acknowledged',
    async (stage) => {
      const s = new WireScript(stage);
      s.guestSends('. 100:100(0) ack 5000');
      const { seq } = await s.must('RST', ({ flags }) => flags.includes('R'));
      must(seq === 5000, `RST at ${seq}`);
    },
  ),
  at(9293, '3.5.2', 'RST to no connection is not answered', async (stage) => {
    const s = new WireScript(stage);
    s.guestSends('R 100:100(0)');
    await s.mustNot('an answer');
  }),
  at(9293, '3.5.3', 'RST at RCV.NXT ends the connection, and the host sees a reset, not an end', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    s.guestSends('R 1:1(0)');
    await side.comesTo(() => side.closed || side.ended);
    must(side.error === 'ECONNRESET', side.ended ? 'the host sees an orderly end' : 'the host sees nothing');
  }),
  at(9293, '3.6', 'both sides close at once (CLOSING)', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    side.socket.end();
    const fin = await s.must('FIN', ({ flags }) => flags.includes('F'));
    must(fin.seq === 1, `FIN at ${fin.seq}`);
    s.guestSends('F. 1:1(0) ack 1');
    await s.must('acknowledgement of the FIN', ({ ack, flags }) => ack === 2 && !flags.includes('R'));
    s.guestSends('. 2:2(0) ack 2');
    must(await side.comesTo(() => side.ended), 'the host sees no end');
    must(side.error === undefined, `the host sees ${side.error}`);
  }),
  at(9293, '3.6.1', 'half-close, the guest first: it is sent data for as long as there is some', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    s.guestSends('P. 1:11(10) ack 1', 'F. 11:11(0) ack 1');
    must(await side.comesTo(() => side.ended), 'the host sees no end');
    await s.must('acknowledgement of the FIN', ({ ack }) => ack === 12);
    await s.mustNot('FIN before the host has closed', ({ flags }) => /[FR]/.test(flags), 300);
    side.socket.end(pattern(100, 1));
    await s.must('data', ({ seq, octets }) => seq === 1 && octets === 100);
  }),
  at(9293, '3.6.1', 'half-close, the host first: what the guest sends is taken', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    side.socket.end();
    await s.must('FIN', ({ flags }) => flags.includes('F'));
    s.guestSends('. 1:1(0) ack 2', 'P. 1:11(10) ack 2');
    await hostMustHear(side, 10);
  }),
  at(9293, '3.6', 'what the host wrote before its close is sent before the FIN', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    side.socket.end(pattern(20_000, 1));
    await guestMustHear(s, 20_000);
    await s.must('FIN', ({ flags, seq, octets }) => flags.includes('F') && seq + octets === 20_001);
  }),
  at(9293, '3.10.5', 'a reset by the host is a reset for the guest', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    side.socket.resetAndDestroy();
    await s.must('RST', ({ flags }) => flags.includes('R'));
  }),
  at(9293, '3.10.4', 'what the guest sends to a host that has gone is reset', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    side.socket.destroy();
    await s.must('FIN', ({ flags }) => /[FR]/.test(flags));
    s.guestSends('. 1:1(0) ack 2', 'P. 1:11(10) ack 2', 'P. 11:21(10) ack 2');
    await s.must('RST', ({ flags }) => flags.includes('R'));
  }),
  at(9293, '3.7.1', 'without an MSS option segments carry 536 octets at most (MUST-15)', async (stage) => {
    const [s, side] = await WireScript.open(stage, '');
    side.socket.write(pattern(4000, 1));
    const { octets } = await s.must('data', ({ octets }) => octets > 0);
    must(octets <= 536, `${octets} octets`);
  }),
  at(9293, '3.7.1', 'segments are no larger than the MSS that the guest said (MUST-16)', async (stage) => {
    const [s, side] = await WireScript.open(stage, '<mss 700>');
    side.socket.write(pattern(8000, 1));
    const { octets } = await s.must('data', ({ octets }) => octets > 0);
    must(octets <= 700, `${octets} octets`);
    await s.mustNot('a larger one', ({ octets }) => octets > 700, 200);
  }),
  at(9293, '3.8.1', 'what is not acknowledged is sent again', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    side.socket.write(pattern(100, 1));
    const first = await s.must('data', ({ octets }) => octets > 0);
    await s.must('the same again', ({ seq, octets }) => seq === first.seq && octets > 0, 3500);
  }),
  at(9293, '3.8.4', 'a keep-alive of the guest’s is answered', async (stage) => {
    const [s] = await WireScript.open(stage);
    await s.next(undefined, 200);
    s.guestSends('. 0:0(0) ack 1');
    await s.must('acknowledgement', ({ ack, octets }) => ack === 1 && octets === 0);
  }),
  at(9293, '3.8.5', 'urgent octets are octets of the stream (MUST-31)', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    stage.guest.send(s.frame('PU. 1:11(10) ack 1', { urgent: 5 }));
    await hostMustHear(side, 10);
  }),
  at(
    9293,
    '3.8.6',
    'the right edge of the window never moves left (SHLD-14), and reaches zero with a host that does not read',
    async (stage) => {
      const [s, side] = await WireScript.open(stage);
      side.socket.pause();
      let [edge, seq] = [1 + 65_535, 1];
      const sends = (): void => {
        const octets = Math.min(1460, edge - seq);
        s.guestSends(`. ${seq}:${seq + octets}(${octets}) ack 1`);
        seq += octets;
      };
      for (let segments = 0; segments < 30_000; segments++) {
        while (seq === edge || segments % 32 === 31) {
          const heard = await s.next(({ ack }) => ack !== undefined, seq === edge ? 1500 : 0);
          if (!heard) break;
          const right = heard.ack! + (heard.window << s.theirScale);
          must(right >= edge || edge === 65_536, `it moved left by ${edge - right}`);
          edge = right;
        }
        if (seq === edge) break;
        sends();
      }
      must(seq === edge, `${seq} octets went in`);
      side.socket.resume();
      s.guestSends(`R ${seq}:${seq}(0)`);
    },
  ),
  at(9293, '3.8.6.1', 'a zero window is probed (MUST-36), and data goes on when it opens', async (stage) => {
    const [s, side] = await WireScript.open(stage, '<mss 1000>', 1000);
    side.socket.write(pattern(5000, 1));
    let next = 1;
    for (;;) {
      const heard = await s.next(({ seq, octets }) => seq === next && octets > 0, 500);
      if (!heard) break;
      next += heard.octets;
      if (next >= 1001) break;
    }
    s.guestSends(`. 1:1(0) ack ${next} win 0`);
    await s.must('probe', ({ seq, octets }) => seq <= next && seq >= next - 1 && octets <= 1, 4000);
    s.guestSends(`. 1:1(0) ack ${next} win 4000`);
    await s.must('data', ({ seq, octets }) => seq <= next + 1 && octets > 1, 4000);
  }),
  at(9293, '3.10.7.4', 'segments out of order are put in order', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    s.guestSends('. 21:31(10) ack 1', '. 11:21(10) ack 1');
    must(!(await side.comesTo(() => side.received.length > 0, 200)), 'they reach the host at once');
    s.guestSends('. 1:11(10) ack 1');
    await hostMustHear(side, 30);
  }),
  at(9293, '3.10.7.4', 'octets received before are cut off', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    s.guestSends('. 1:11(10) ack 1', '. 1:11(10) ack 1', 'P. 6:26(20) ack 1');
    await hostMustHear(side, 25);
  }),
  at(9293, '3.10.7.4', 'an unacceptable segment is acknowledged', async (stage) => {
    const [s] = await WireScript.open(stage);
    await s.next(undefined, 200);
    s.guestSends('. -1000:-990(10) ack 1');
    await s.must('acknowledgement', ({ ack, octets }) => ack === 1 && octets === 0);
  }),
  at(5681, '3.2', 'three duplicates send the segment again without waiting', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    side.socket.write(pattern(14_600, 1));
    const first = await s.must('data', ({ seq, octets }) => seq === 1 && octets > 0);
    await s.must('more', ({ seq, octets }) => seq > 1 && octets > 0);
    await s.next(({ seq }) => seq > 8000, 100);
    s.guestSends('. 1:1(0) ack 1', '. 1:1(0) ack 1', '. 1:1(0) ack 1');
    await s.must('the first again', ({ seq, octets }) => seq === first.seq && octets > 0, 150);
  }),
  at(5961, '3.2', 'RST inside the window, not at RCV.NXT, gets a challenge ACK and resets nothing', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    await s.next(undefined, 200);
    s.guestSends('R 100:100(0)');
    const heard = await s.next(({ flags }) => /^P?\.$/.test(flags), 500);
    await s.mustLive(side);
    must(heard !== undefined, 'no challenge, but it lives');
  }),
  at(5961, '3.2', 'RST outside the window is dropped silently', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    await s.next(undefined, 200);
    s.guestSends('R -100:-100(0)');
    await s.mustNot('an answer');
    await s.mustLive(side);
  }),
  at(5961, '4.2', 'SYN in a synchronized state gets a challenge ACK', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    await s.next(undefined, 200);
    s.guestSends('S 100:100(0)');
    const heard = await s.next(({ flags, ack }) => /^P?\.$/.test(flags) && ack === 1, 500);
    await s.mustLive(side);
    must(heard !== undefined, 'no challenge, but it lives');
  }),
  at(5961, '5.2', 'data that acknowledges what was never sent is not taken', async (stage) => {
    const [s, side] = await WireScript.open(stage);
    s.guestSends('P. 1:11(10) ack 100000');
    must(!(await side.comesTo(() => side.received.length > 0, 300)), 'it reaches the host');
    await s.mustLive(side);
  }),
  at(7323, '2.2', 'window scaling is answered only where it was offered', async (stage) => {
    for (const [offer, answer] of [
      ['<mss 1460,wscale 7>', true],
      ['<mss 1460>', false],
    ] as const) {
      const s = new WireScript(stage);
      s.guestSends(`S 0:0(0) ${offer}`);
      const { options } = await s.must('SYN-ACK', isSynAck);
      must(options.windowScale >= 0 === answer, answer ? 'no window scale' : 'window scale that was not offered');
    }
  }),
  at(7323, '3.2', 'timestamps are answered where they were offered', async (stage) => {
    const s = new WireScript(stage);
    s.guestSends('S 0:0(0) <mss 1460,TS val 1000 ecr 0>');
    const { options } = await s.must('SYN-ACK', isSynAck);
    must(options.hasTimestamps && options.timestampEcho === 1000, 'no timestamps');
  }),
  at(2018, '4', 'what came out of order is reported by selective acknowledgements', async (stage) => {
    const s = new WireScript(stage);
    s.guestSends('S 0:0(0) <mss 1460,sackOK>');
    const { options } = await s.must('SYN-ACK', isSynAck);
    must(options.sackPermitted, 'not permitted');
    s.guestSends('. 1:1(0) ack 1', '. 11:21(10) ack 1');
    await s.must('SACK', ({ options }) => options.sackBlocks > 0);
  }),
  at(5382, 'REQ-4', 'a thousand SYNs to a host that never answers hold up no other connection', async (stage) => {
    for (let i = 0; i < 1000; i++) new WireScript(stage, { port: 80, host: NOBODY }).guestSends('S 0:0(0)');
    const [s, side] = await WireScript.open(stage);
    await s.mustLive(side);
  }),
  at(1122, '3.2.1.3', 'the host’s loopback is not reached by its own address', async (stage) => {
    for (const host of ['127.0.0.1', '0.0.0.0']) {
      new WireScript(stage, { host }).guestSends('S 0:0(0)');
      must((await stage.arrival(500)) === undefined, `${host} reaches it`);
    }
  }),
  at(1122, '3.2.1.3', 'sources that are no host open no connection', async (stage) => {
    for (const from of ['127.0.0.1', '224.0.0.1', '255.255.255.255', stage.guest.gateway]) {
      const s = new WireScript(stage);
      stage.guest.send(s.frame('S 0:0(0)', { from }));
      must((await stage.arrival(300)) === undefined, `one comes from ${from}`);
    }
  }),
];
