/** RFC 6056, Recommendations for Transport-Protocol Port Randomization. By section. */

import t, { type Test } from 'tap';
import { TcpScript } from '../stack/tcp/tcp-script.ts';
import { address } from '../stack/world.ts';

/** A script whose guest is known, and a function that opens from port 0 and tells the port. */
function opener(t: Test, seed = 1): { s: TcpScript; open: () => number } {
  const s = new TcpScript(t, { peer: '192.168.65.1', peerPort: 0, guestPort: 8080, seed });
  s.world.netstack.pinNeighbor(address(s.guest), s.world.ingress, Uint8Array.of(2, 0, 0, 0, 0, 3));
  const open = (): number => {
    s.peerPort = 0;
    s.connect();
    return s.connection.peerPort;
  };
  return { s, open };
}

t.test('3.2: ports are of the dynamic range', async (t) => {
  const { open } = opener(t);
  for (let i = 0; i < 500; i++) {
    const port = open();
    t.ok(port >= 49152 && port <= 65535);
  }
});

t.test('3.3: they cannot be foretold from those before, and differ between netstacks', async (t) => {
  const { open } = opener(t);
  const ports = Array.from({ length: 200 }, open);
  const steps = new Set(ports.slice(1).map((port, i) => port - ports[i]!));
  t.ok(steps.size > 150, `${steps.size} different steps`);
  t.notSame(Array.from({ length: 20 }, opener(t, 99).open), ports.slice(0, 20));
});

t.test('3.1: no port is given to two connections with one guest port', async (t) => {
  const { open } = opener(t);
  const ports = Array.from({ length: 4000 }, open);
  t.equal(new Set(ports).size, 4000);
});

t.test('3.3.1: when all are taken the open fails, at once', async (t) => {
  const { s, open } = opener(t);
  for (let i = 0; i < 16_384; i++) open();
  s.owns();
  open();
  s.owns('closed EADDRINUSE');
});
