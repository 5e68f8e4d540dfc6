/** RFC 1191, Path MTU Discovery. By section. */

import t, { type Test } from 'tap';
import { icmpFrame, pattern, udpFrame } from '../stack/frames.ts';
import type { TcpScript } from '../stack/tcp/tcp-script.ts';
import { World } from '../stack/world.ts';
import { replies } from './replies.ts';
import { reach } from './states.ts';

/** Established, 1460 octets in flight; what an error quotes of them. */
function inFlight(t: Test): { s: TcpScript; quote: Uint8Array } {
  const s = reach(t, 'ESTABLISHED');
  s.write(1460);
  s.world.poll();
  return { s, quote: s.world.link.take()[0]!.bytes.slice(14, 14 + 28) };
}

t.test('3: fragmentation needed makes TCP send what is in flight again, in smaller segments', async (t) => {
  const { s, quote } = inFlight(t);
  s.world.link.input([icmpFrame(3, 4, 1000, quote)]);
  s.expect('. 1:961(960) ack 1', 'P. 961:1461(500) ack 1');
  s.guestSends('. 1:1(0) ack 1461');
  s.write(1460);
  s.expect('. 1461:2421(960) ack 1', 'P. 2421:2921(500) ack 1');
});

t.test('3: the MTU never rises by a message', async (t) => {
  const { s, quote } = inFlight(t);
  s.world.link.input([icmpFrame(3, 4, 1000, quote)]);
  s.world.poll();
  s.world.link.take();
  s.world.link.input([icmpFrame(3, 4, 1400, quote)]);
  s.expect();
});

t.test('3: a message about what is not in flight is not believed', async (t) => {
  const { s, quote } = inFlight(t);
  for (const at of [24, 20, 16]) {
    const stale = quote.slice();
    stale[at]! ^= 0x40;
    s.world.link.input([icmpFrame(3, 4, 1000, stale)]);
  }
  s.expect();
  s.guestSends('. 1:1(0) ack 1461');
  s.world.link.input([icmpFrame(3, 4, 1000, quote)]);
  s.write(1460);
  s.expect('P. 1461:2921(1460) ack 1');
});

t.test('3: TCP sets DF', async (t) => {
  const s = reach(t, 'ESTABLISHED');
  s.write(10);
  t.equal(replies(s.world)[0]!.fragment & 0x4000, 0x4000);
});

t.test('4: a datagram with DF that is too large is answered with the MTU of the next hop', async (t) => {
  const flags: boolean[] = [];
  const world: World = new World({
    forwarder: {
      udp: (datagram) => {
        flags.push(datagram.dontFragment);
        if (datagram.dontFragment) world.netstack.sendUnreachable('too-big', datagram, 1280);
      },
    },
  });
  world.link.input([udpFrame(111, 222, pattern(1400), { to: '10.0.0.1', fragment: 0x4000 })]);
  const [answer] = replies(world);
  t.same([...answer!.payload.subarray(0, 2)], [3, 4]);
  t.same([...answer!.payload.subarray(4, 8)], [0, 0, 5, 0], 'unused, then the MTU');
  t.equal(answer!.payload[8 + 6]! & 0x40, 0x40, 'the datagram is quoted with its DF');
  world.link.input([udpFrame(111, 222, pattern(1400), { to: '10.0.0.1' })]);
  t.same(replies(world), []);
  t.same(flags, [true, false]);
});
