/** Opening: RFC 9293 3.5, 3.10.7.2, 3.10.7.3; options RFC 9293 3.7.1, RFC 7323 2; what is held while the host is dialled. */

import t from 'tap';
import { icmpFrame, readIp, word } from '../frames.ts';
import { address } from '../world.ts';
import { answered, established, TcpScript } from './tcp-script.ts';

t.test('a SYN is held until it is accepted, and its repetitions are ignored', async (t) => {
  const s = new TcpScript(t);
  s.guestSends('S 0:0(0) <mss 1460,wscale 7>');
  s.expect();
  s.guestSends('S 0:0(0) <mss 1460,wscale 7>');
  s.expect();
  t.equal(s.world.dialled.length, 1);
  t.equal(s.connection.state, 'SYN-RECEIVED');
  s.connection.accept(s.owner);
  s.expect('S. 0:0(0) ack 1 win 65535 <mss 1460,wscale 7>');
  s.owns();
  s.guestSends('. 1:1(0) ack 1');
  s.owns('established');
  t.equal(s.connection.state, 'ESTABLISHED');
  s.expect();
  t.same(s.world.drops(), {});
});

t.test(
  'RFC 7323 2.2: without the option in the SYN there is none in the SYN-ACK, and windows are not scaled',
  async (t) => {
    const s = new TcpScript(t);
    s.owner.mostRoom = 1 << 20;
    s.guestSends('S 0:0(0) <mss 1000>');
    s.connection.accept(s.owner);
    s.expect('S. 0:0(0) ack 1 win 65535 <mss 1460>');
    s.guestSends('. 1:1(0) ack 1 win 3000');
    s.write(5000);
    s.expect('. 1:1001(1000) ack 1 win 65535', '. 1001:2001(1000) ack 1', '. 2001:3001(1000) ack 1');
  },
);

t.test('RFC 9293 3.7.1: the MSS defaults to 536, is bound by the MTU, and never absurdly small', async (t) => {
  for (const [options, mss] of [
    ['', 536],
    ['<mss 9000>', 1460],
    ['<mss 1>', 88],
    ['<mss 0>', 88],
    ['<mss 1200,nop,nop,sackOK>', 1200],
  ] as const) {
    const s = established(t, options);
    s.write(3 * mss);
    s.world.poll();
    t.equal(readIp(s.world.link.take()[0]!.bytes).payload.length - 20, mss, options);
  }
});

t.test('the host refuses: RST in answer to the SYN', async (t) => {
  const s = new TcpScript(t);
  s.guestSends('S 0:0(0)');
  s.connection.reject('reset');
  s.world.poll();
  s.ourIsn = 0;
  s.expect('R. 0:0(0) ack 1 win 0');
  t.equal(s.connection.state, 'CLOSED');
  t.same(s.world.netstack.flows(), []);
  s.guestSends('S 100:100(0)');
  t.equal(s.world.dialled.length, 2, 'the tuple is free again');
});

t.test('the host is dead: nothing, and the guest times out; or ICMP, where the dial says so', async (t) => {
  const s = new TcpScript(t);
  s.guestSends('S 0:0(0)');
  s.connection.reject('silent');
  s.expect();
  for (const [how, code] of [
    ['unreachable', 1],
    ['prohibited', 13],
  ] as const) {
    s.guestSends('S 0:0(0)');
    s.connection.reject(how);
    s.world.poll();
    const packet = readIp(s.world.link.take()[0]!.bytes);
    t.equal(packet.protocol, 1);
    t.same([...packet.payload.subarray(0, 2)], [3, code], how);
    t.equal(packet.source, '192.168.65.1');
    // RFC 1122 3.2.2: the header and 8 octets, which name ports and sequence number.
    const quoted = new DataView(packet.payload.buffer, packet.payload.byteOffset + 8);
    t.equal(quoted.getInt32(12), word('192.168.65.3'));
    t.equal(quoted.getInt32(16), word('10.0.0.1'));
    t.equal(quoted.getUint16(20), 40000);
    t.equal(quoted.getUint16(22), 80);
    t.equal(quoted.getUint32(24), 0xffff_fff0);
  }
});

t.test('the guest gives up a held SYN: the forwarder is told, a late accept is closed at once', async (t) => {
  const s = new TcpScript(t);
  s.guestSends('S 0:0(0)');
  s.guestSends('R 77777:77777(0)');
  t.same(s.world.gone, [], 'not by a number that it cannot have');
  s.guestSends('R 1:1(0)');
  t.same(s.world.gone, [s.connection]);
  s.connection.accept(s.owner);
  s.owns('closed ECONNRESET');
  s.connection.reject('reset');
  s.expect();
});

t.test('held SYNs are bounded: the oldest gives way', async (t) => {
  const s = new TcpScript(t, { limits: { held: 100 } });
  for (let port = 1; port <= 10_000; port++) {
    const dead = new TcpScript(t, { guestPort: port, peer: '10.9.9.9' });
    s.world.link.input([dead.frame('S 0:0(0)')]);
    if (port > 100) continue;
  }
  t.equal(s.world.netstack.flows().length, 100);
  t.equal(s.world.gone.length, 9900);
  t.equal(s.world.drops()['tcp-half-open'], 9900);
  s.guestSends('S 0:0(0)');
  s.connection.accept(s.owner);
  s.expect('S. 0:0(0) ack 1');
  s.guestSends('. 1:1(0) ack 1');
  s.owns('established');
});

t.test('a repeated SYN is answered by the SYN-ACK again; a lost SYN-ACK is sent again by itself', async (t) => {
  const s = answered(t);
  s.guestSends('S 0:0(0)');
  s.expect('S. 0:0(0) ack 1');
  s.world.nowMs += 999;
  s.expect();
  s.world.nowMs += 2;
  s.expect('S. 0:0(0) ack 1');
  s.world.nowMs += 1999;
  s.expect();
  s.world.nowMs += 2;
  s.expect('S. 0:0(0) ack 1');
  s.advance(120_000);
  s.owns('closed ETIMEDOUT');
  t.same(s.world.netstack.flows(), []);
});

t.test(
  'RFC 9293 3.10.7.4: a wrong acknowledgement in SYN-RECEIVED is answered by RST and changes nothing',
  async (t) => {
    const s = answered(t);
    s.guestSends('. 1:1(0) ack 2');
    s.expect('R 2:2(0)');
    s.guestSends('. 1:1(0) ack 0');
    s.expect('R 0:0(0)');
    s.guestSends('. 1:1(0) ack 1');
    s.owns('established');
  },
);

t.test('a SYN again and the acknowledgement of ours, in one batch: nothing is sent again', async (t) => {
  const s = answered(t);
  s.guestSends('S 0:0(0)', '. 1:1(0) ack 1');
  s.owns('established');
  s.expect();
  s.write(10);
  s.expect('P. 1:11(10) ack 1');
});

t.test('data with the last segment of the handshake', async (t) => {
  const s = answered(t);
  s.guestSends('P. 1:11(10) ack 1');
  s.owns('established', 'received 10');
  s.expect('. 1:1(0) ack 11');
});

t.test('RFC 9293 3.10.7.1: what belongs to no connection is reset, RST itself excepted', async (t) => {
  const s = new TcpScript(t);
  s.ourIsn = 0;
  s.guestSends('. 5:5(0) ack 1234');
  s.expect('R 1234:1234(0)');
  s.guestSends('F 5:15(10)');
  s.expect('R. 0:0(0) ack 16');
  s.guestSends('SF 5:5(0)');
  s.expect('R. 0:0(0) ack 7');
  s.guestSends('R 5:5(0)');
  s.guestSends('R. 5:5(0) ack 5');
  s.guestSends('SR 5:5(0)');
  s.expect();
  t.equal(s.world.dialled.length, 0);
});

t.test('the gateway itself: a listener is asked first, and without one the guest is refused', async (t) => {
  const s = new TcpScript(t, { peer: '192.168.65.1', peerPort: 53 });
  s.ourIsn = 0;
  s.guestSends('S 0:0(0)');
  s.expect('R. 0:0(0) ack 1');
  s.world.netstack.listenTcp(address('192.168.65.1'), 53, (connection) => connection.accept(s.owner));
  t.throws(() => s.world.netstack.listenTcp(address('192.168.65.1'), 53, () => undefined), { code: 'EADDRINUSE' });
  s.guestSends('S 0:0(0)');
  s.expect('S. 0:0(0) ack 1');
  s.guestSends('. 1:1(0) ack 1');
  s.owns('established');
  s.world.netstack.unlistenTcp(address('192.168.65.1'), 53);
  t.equal(s.world.dialled.length, 0, 'the forwarder was never asked');
});

t.test('RFC 6528: initial sequence numbers differ by tuple and grow with time', async (t) => {
  const s = new TcpScript(t);
  const isnOf = (port: number): number => {
    const guest = new TcpScript(t, { guestPort: port });
    s.world.link.input([guest.frame('S 0:0(0)')]);
    s.connection.accept(s.owner);
    s.world.poll();
    const { payload } = readIp(s.world.link.take()[0]!.bytes);
    s.connection.abort();
    s.world.link.take();
    return new DataView(payload.buffer, payload.byteOffset).getUint32(4);
  };
  const first = isnOf(1000);
  const other = isnOf(1001);
  s.world.nowMs += 1000;
  t.equal((isnOf(1000) - first) >>> 0, 250_000, '4 microseconds a step');
  t.not((other - first) >>> 0, 0);
});

t.test('connect: SYN, SYN-ACK, ACK', async (t) => {
  const s = new TcpScript(t, { peer: '192.168.65.1', peerPort: 0 });
  s.world.netstack.pinNeighbor(address(s.guest), s.world.ingress, Uint8Array.of(2, 0, 0, 0, 0, 3));
  s.connect(8080);
  t.equal(s.connection.state, 'SYN-SENT');
  s.expect('S 0:0(0) win 65535 <mss 1460,wscale 7,sackOK,TS val 0 ecr 0>');
  t.ok(s.peerPort >= 49152, 'RFC 6056: a dynamic port');
  t.equal(s.connection.peerPort, s.peerPort);
  const g = Object.assign(s, { guestPort: 8080 });
  g.guestSends('S. 0:0(0) ack 1 win 1000 <mss 1460,wscale 7>');
  s.owns('established');
  s.expect('. 1:1(0) ack 1');
  s.write(10);
  s.expect('P. 1:11(10) ack 1');
});

t.test('connect: a refusal, silence, and no neighbour', async (t) => {
  const connect = (): TcpScript => {
    const s = Object.assign(new TcpScript(t, { peer: '192.168.65.1', peerPort: 5555 }), { guestPort: 8080 });
    s.world.netstack.pinNeighbor(address(s.guest), s.world.ingress, Uint8Array.of(2, 0, 0, 0, 0, 3));
    s.connect();
    s.expect('S 0:0(0)');
    return s;
  };
  const refused = connect();
  refused.guestSends('R. 0:0(0) ack 999');
  refused.owns();
  refused.guestSends('R 0:0(0)');
  refused.owns();
  refused.guestSends('R. 0:0(0) ack 1');
  refused.owns('closed ECONNREFUSED');
  const silent = connect();
  silent.advance(62_000);
  silent.owns();
  t.equal(silent.world.link.take().length, 5, 'RFC 9293 3.8.3: five more SYNs');
  silent.advance(2000);
  silent.owns('closed ETIMEDOUT');
  const unreachable = connect();
  // RFC 5927: the error must quote a segment in flight.
  const quote = new Uint8Array(28);
  const view = new DataView(quote.buffer);
  quote[0] = 0x45;
  quote[9] = 6;
  view.setInt32(12, word('192.168.65.1'));
  view.setInt32(16, word('192.168.65.3'));
  view.setUint16(20, 5555);
  view.setUint16(22, 8080);
  view.setUint32(24, (unreachable.ourIsn! + 1) >>> 0);
  unreachable.world.link.input([icmpFrame(3, 1, 0, quote)]);
  unreachable.owns();
  view.setUint32(24, unreachable.ourIsn!);
  unreachable.world.link.input([icmpFrame(3, 1, 0, quote)]);
  unreachable.owns('closed EHOSTUNREACH');

  const lonely = new TcpScript(t);
  lonely.connect();
  lonely.world.poll();
  t.equal(lonely.world.link.take().length, 1, 'an ARP request');
  lonely.advance(3001);
  lonely.owns('closed EHOSTUNREACH');
});

t.test('connect twice from one tuple: the second is refused', async (t) => {
  const s = new TcpScript(t, { peer: '192.168.65.1', peerPort: 5555 });
  s.world.netstack.pinNeighbor(address(s.guest), s.world.ingress, Uint8Array.of(2, 0, 0, 0, 0, 3));
  s.connect();
  s.connect();
  s.owns('closed EADDRINUSE');
});

t.test('the limit of flows: a SYN beyond it is dropped, and counted', async (t) => {
  const s = new TcpScript(t, { limits: { flows: 2 } });
  for (const guestPort of [1, 2, 3]) s.world.link.input([new TcpScript(t, { guestPort }).frame('S 0:0(0)')]);
  t.equal(s.world.dialled.length, 2);
  t.equal(s.world.drops()['tcp-flows'], 1);
});
