/**
 * Twenty thousand connections in a minute, opened and then closed, reset or abandoned in every way there is, under a fake
 * clock: flows, pooled memory and timers are back where they were, and the heap does not grow from one wave to the next.
 */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t, { type Test } from 'tap';
import { TcpScript } from './tcp/tcp-script.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const CONNECTIONS = 10_000;
const WAVE_MS = 35_000;
const MEBI = 1 << 20;

/** What becomes of a connection, once the guest's SYN has come. */
const endings: readonly ((s: TcpScript) => void)[] = [
  // Never answered by the host: the guest gives up, or does not.
  (s) => s.guestSends('R 1:1(0)'),
  (s) => s.connection.reject('silent'),
  (s) => s.connection.reject('unreachable'),
  // The SYN-ACK finds nobody.
  (s) => s.connection.accept(s.owner),
  // Reset, by either side, with octets on their way.
  (s) => {
    shake(s);
    s.write(5000);
    s.guestSends('. 101:201(100) ack 1', 'R 1:1(0)');
  },
  (s) => {
    shake(s);
    s.write(5000);
    s.guestSends('. 101:201(100) ack 1');
    s.connection.abort();
  },
  // The guest vanishes: with octets on their way, with its window closed, after our FIN, after its own.
  (s) => {
    shake(s);
    s.write(5000);
  },
  (s) => {
    shake(s);
    s.connection.end();
    s.world.poll();
    s.guestSends('. 1:1(0) ack 2');
  },
  (s) => {
    shake(s);
    s.guestSends('F. 1:1(0) ack 1');
    s.connection.end();
  },
  // Closed in good order, by either side first.
  (s) => {
    shake(s);
    s.guestSends('P. 1:101(100) ack 1', 'F. 101:101(0) ack 1');
    s.connection.end();
    s.world.poll();
    s.guestSends('. 102:102(0) ack 2');
  },
  (s) => {
    shake(s);
    s.connection.end();
    s.world.poll();
    s.guestSends('F. 1:1(0) ack 2');
  },
];

/** Accepts, and lets the guest answer our SYN-ACK. */
function shake(s: TcpScript): void {
  s.connection.accept(s.owner);
  s.world.poll();
  const { bytes } = s.world.link.take().at(-1)!;
  s.ourIsn = new DataView(bytes.buffer, bytes.byteOffset).getUint32(14 + 20 + 4);
  s.guestSends('. 1:1(0) ack 1');
}

function wave(s: TcpScript): number {
  let most = 0;
  for (let i = 0; i < CONNECTIONS; i++) {
    Object.assign(s, { guestPort: 1 + (i % 60_000), peerPort: 80 + (i % 7), written: 0 }).guestSends('S 0:0(0)');
    endings[i % endings.length]!(s);
    s.advance(WAVE_MS / CONNECTIONS);
    s.world.link.take();
    s.owner.take();
    s.owner.octets = 0;
    if (i % 500 === 0) most = Math.max(most, s.world.netstack.flows().length);
  }
  return most;
}

/** Everything that was abandoned has been given up by then. */
function settle(t: Test, s: TcpScript): number {
  s.advance(3 * 3_600_000);
  s.world.link.take();
  s.owner.take();
  s.world.dialled.length = 0;
  s.world.gone.length = 0;
  t.same(s.world.netstack.flows(), [], 'no flow is left');
  t.equal(s.world.netstack.pooledOctets, 0, 'no memory of the pool');
  t.equal(s.world.netstack.pollAt(), Number.POSITIVE_INFINITY, 'no timer');
  collect();
  return process.memoryUsage().heapUsed;
}

t.test('20 000 connections opened, closed, reset and abandoned', async (t) => {
  const s = new TcpScript(t);
  s.owner.mostRoom = 65535;
  const began = s.world.nowMs;
  const most = wave(s);
  t.ok(most > 1000, `${most} flows at a time`);
  const before = settle(t, s);
  wave(s);
  const after = settle(t, s);
  t.ok(s.world.nowMs - began >= 60_000);
  t.ok(after - before < 2 * MEBI, `the heap grew by ${after - before} octets`);
});
