/**
 * What users of other network cores reported, as tests of this layer: each case has bugs of theirs behind it.
 * Numbers are those of the list that the cases were distilled to; what concerns sockets and names is tested there.
 */

import t from 'tap';
import { reach } from '../rfc/states.ts';
import { icmpFrame, ipFrame, pattern, readIp, udpBytes, udpFrame } from '../stack/frames.ts';
import { established, TcpScript } from '../stack/tcp/tcp-script.ts';
import { address, World } from '../stack/world.ts';

const PEER = '10.0.0.1';

t.test('case 1: 10 000 SYNs to a black hole, and one good connect within a round trip', async (t) => {
  const s = new TcpScript(t, { peer: '10.9.9.9' });
  for (let guestPort = 1; guestPort <= 10_000; guestPort++) Object.assign(s, { guestPort }).guestSends('S 0:0(0)');
  t.equal(s.world.dialled.length, 10_000, 'all are being dialled');
  Object.assign(s, { guestPort: 20_000, peer: PEER }).guestSends('S 0:0(0)');
  s.connection.accept(s.owner);
  s.expect('S. 0:0(0) ack 1');
  s.guestSends('. 1:1(0) ack 1', 'P. 1:11(10) ack 1');
  s.owns('established', 'received 10');
  for (const connection of s.world.dialled.slice(0, -1)) connection.reject('silent');
  t.equal(s.world.netstack.flows().length, 1);
});

t.test('case 2: SYN, SYN-ACK, RST, twenty thousand times, leaves nothing', async (t) => {
  const s = new TcpScript(t);
  for (let i = 0; i < 20_000; i++) {
    Object.assign(s, { guestPort: 1 + (i % 60_000) }).guestSends('S 0:0(0)');
    s.connection.accept(s.owner);
    s.world.poll();
    s.world.link.take();
    s.guestSends('R 1:1(0)');
  }
  t.equal(s.owner.take().filter((event) => event === 'closed ECONNRESET').length, 20_000);
  t.same(s.world.netstack.flows(), []);
  t.equal(s.world.netstack.pooledOctets, 0);
  t.equal(s.world.netstack.pollAt(), Number.POSITIVE_INFINITY);
});

t.test('case 3: a connection that idles for an hour, or a day, lives', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  for (const hours of [1, 24]) {
    s.advance(hours * 3_600_000);
    s.owns();
  }
  s.guestSends('P. 1:11(10) ack 1');
  s.owns('received 10');
});

t.test('case 4: half-close, each side first, and reset after half-close', async (t) => {
  const theirs = reach(t, 'CLOSE-WAIT');
  theirs.write(10);
  theirs.expect('P. 1:11(10) ack 2');
  theirs.guestSends('R 2:2(0)');
  theirs.owns('closed ECONNRESET');
  const ours = reach(t, 'FIN-WAIT-2');
  ours.guestSends('P. 1:11(10) ack 2');
  ours.owns('received 10');
  ours.guestSends('R 11:11(0)');
  ours.owns('closed ECONNRESET');
  t.same(ours.world.netstack.flows(), []);
});

t.test('case 5: a guest that vanishes in FIN-WAIT-2 leaves nothing', async (t) => {
  const s = reach(t, 'FIN-WAIT-2');
  s.advance(3_600_000);
  s.owns('closed ETIMEDOUT');
  t.same(s.world.netstack.flows(), []);
  t.equal(s.world.netstack.pollAt(), Number.POSITIVE_INFINITY);
});

t.test('case 6: one UDP port of the guest, a thousand peers, an answer from a third address', async (t) => {
  const world = new World();
  for (let i = 0; i < 1000; i++) world.link.input([udpFrame(500, 53, pattern(4), { to: `10.1.${i >> 8}.${i & 255}` })]);
  t.equal(new Set(world.forwarded).size, 1000);
  const to = {
    guestAddress: address('192.168.65.3'),
    guestPort: 500,
    peerAddress: address('203.0.113.9'),
    peerPort: 9,
  };
  t.ok(world.netstack.sendUdp(to, pattern(4)));
  t.equal(readIp(world.link.take()[0]!.bytes).source, '203.0.113.9');
});

t.test('case 8: a UDP datagram of 65507 octets, both ways', async (t) => {
  const world = new World();
  const whole = udpBytes(1, 2, pattern(65507), { to: PEER });
  for (let at = 0; at < whole.length; at += 1480) {
    const more = at + 1480 < whole.length ? 0x2000 : 0;
    world.link.input([ipFrame(17, whole.subarray(at, at + 1480), { to: PEER, fragment: more | (at / 8) })]);
  }
  t.ok(Buffer.from(world.payloads[0]!).equals(pattern(65507)));
  const to = { guestAddress: address('192.168.65.3'), guestPort: 1, peerAddress: address(PEER), peerPort: 2 };
  t.ok(world.netstack.sendUdp(to, pattern(65507)));
  const sent = Buffer.concat(world.link.take().map(({ bytes }) => readIp(bytes).payload));
  t.ok(sent.subarray(8).equals(pattern(65507)));
});

t.test(
  'case 21: a ping to a dead host is not answered by us, and one with few hops is answered by the gateway',
  async (t) => {
    const world = new World();
    world.link.input([icmpFrame(8, 0, 1, pattern(8), { to: PEER })]);
    world.poll();
    t.equal(world.link.take().length, 0);
    world.link.input([icmpFrame(8, 0, 1, pattern(8), { to: PEER, hopLimit: 1 })]);
    t.same([...readIp(world.link.take()[0]!.bytes).payload.subarray(0, 2)], [11, 0]);
  },
);

t.test('case 22: DF and too large for the path: fragmentation needed, with the MTU', async (t) => {
  const world: World = new World({
    forwarder: {
      udp: (datagram) => datagram.dontFragment && world.netstack.sendUnreachable('too-big', datagram, 1400),
    },
  });
  world.link.input([udpFrame(1, 2, pattern(1472), { to: PEER, fragment: 0x4000 })]);
  const { payload } = readIp(world.link.take()[0]!.bytes);
  t.same(
    [...payload.subarray(0, 8)].filter((_, i) => i < 2 || i > 5),
    [3, 4, 1400 >> 8, 1400 & 255],
  );
});

t.test('case 23: a long stream at an MTU of 65520, both ways', async (t) => {
  const s = new TcpScript(t, { mtu: 65520 });
  s.owner.mostRoom = 4 << 20;
  s.establish('<mss 65480,wscale 7>');
  for (let at = 1; at < 20_000_000; at += 65_480) {
    s.guestSends(`. ${at}:${at + 65_480}(65480) ack 1`);
    s.expect(`. 1:1(0) ack ${at + 65_480}`);
  }
  const received = s.owner.octets;
  t.ok(received >= 20_000_000);
  let acked = 1;
  while (acked < 20_000_000) {
    s.write(1 << 20);
    s.world.poll();
    for (const { bytes } of s.world.link.take()) acked += bytes.length - 54;
    s.guestSends(`. ${received + 1}:${received + 1}(0) ack ${acked}`);
  }
  s.owner.take();
  t.equal(s.world.netstack.flows()[0]?.retransmissions, 0);
});

t.test(
  'case 25: a link that is full for a while: streams wait and go on, datagrams fall and are counted',
  async (t) => {
    const s = reach(t, 'ESTABLISHED');
    s.write(10_000);
    s.world.link.room = 0;
    s.advance(3_600_000);
    s.owns();
    const to = { guestAddress: address(s.guest), guestPort: 1, peerAddress: address(PEER), peerPort: 2 };
    t.notOk(s.world.netstack.sendUdp(to, pattern(8)));
    t.equal(s.world.drops()['link-full'], 1);
    s.world.link.room = 1000;
    s.world.link.writable();
    s.advance(60_000);
    s.guestSends('. 1:1(0) ack 10001');
    t.equal(s.connection.sendQueueOctets, 0);
    s.owns();
  },
);

t.test('case 27: a scan of all 65 535 ports leaves nothing', async (t) => {
  const s = new TcpScript(t);
  for (let peerPort = 1; peerPort <= 65_535; peerPort++) {
    Object.assign(s, { peerPort }).guestSends('S 0:0(0)');
    s.connection.reject('reset');
    s.world.link.take();
    if (peerPort % 1000 === 0) s.world.dialled.length = 0;
  }
  s.world.poll();
  t.same(s.world.netstack.flows(), []);
  t.equal(s.world.netstack.pooledOctets, 0);
  t.equal(s.world.netstack.pollAt(), Number.POSITIVE_INFINITY);
});

t.test('case 28: a guest whose window is closed for five minutes, then resumes', async (t) => {
  const s = established(t, '<mss 1000>', 1000);
  s.write(3000);
  s.world.poll();
  s.guestSends('. 1:1(0) ack 1001 win 0');
  s.world.link.take();
  const until = s.world.nowMs + 300_000;
  for (;;) {
    s.advanceUntilSent();
    s.expect('. 1001:1002(1) ack 1');
    s.guestSends('. 1:1(0) ack 1001 win 0');
    if (s.world.nowMs > until) break;
  }
  s.guestSends('. 1:1(0) ack 1001 win 2000');
  s.expect('. 1001:2001(1000) ack 1', 'P. 2001:3001(1000) ack 1');
  s.owns();
});
