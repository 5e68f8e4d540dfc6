/** Scripts brought to a state of RFC 9293 3.3.2, the way a guest gets a connection there. */

import type { Test } from 'tap';
import type { TcpState } from '../../src/stack/port.ts';
import { type ScriptOptions, TcpScript } from '../stack/tcp/tcp-script.ts';
import { address } from '../stack/world.ts';

export type Reachable = Exclude<TcpState, 'LISTEN' | 'CLOSED'>;

/** States in which both sides' sequence numbers are known. */
export const synchronized = [
  'ESTABLISHED',
  'FIN-WAIT-1',
  'FIN-WAIT-2',
  'CLOSE-WAIT',
  'CLOSING',
  'LAST-ACK',
  'TIME-WAIT',
] as const;

/** SND.NXT and RCV.NXT, relative, in a state that `reach` brings about. */
export const sndNxt = (state: Reachable): number =>
  ['FIN-WAIT-1', 'FIN-WAIT-2', 'CLOSING', 'LAST-ACK', 'TIME-WAIT'].includes(state) ? 2 : 1;
export const rcvNxt = (state: Reachable): number =>
  ['CLOSE-WAIT', 'CLOSING', 'LAST-ACK', 'TIME-WAIT'].includes(state) ? 2 : 1;

/** We opened it: our SYN is out. */
export function opening(t: Test, options: ScriptOptions = {}): TcpScript {
  const s = new TcpScript(t, { guestPort: 8080, peer: '192.168.65.1', peerPort: 5555, ...options });
  s.world.netstack.pinNeighbor(address(s.guest), s.world.ingress, Uint8Array.of(2, 0, 0, 0, 0, 3));
  s.connect();
  s.expect('S 0:0(0)');
  return s;
}

export function reach(t: Test, state: Reachable, options: ScriptOptions = {}): TcpScript {
  if (state === 'SYN-SENT') return opening(t, options);
  const s = new TcpScript(t, options);
  if (state === 'SYN-RECEIVED') {
    s.guestSends('S 0:0(0) <mss 1460,wscale 7>');
    s.connection.accept(s.owner);
    s.expect('S. 0:0(0) ack 1');
    return s;
  }
  s.establish();
  if (state === 'CLOSE-WAIT' || state === 'LAST-ACK') s.guestSends('F. 1:1(0) ack 1');
  if (state !== 'ESTABLISHED' && state !== 'CLOSE-WAIT') s.connection.end();
  s.world.poll();
  if (state === 'CLOSING') s.guestSends('F. 1:1(0) ack 1');
  if (state === 'FIN-WAIT-2' || state === 'TIME-WAIT') s.guestSends('. 1:1(0) ack 2');
  if (state === 'TIME-WAIT') s.guestSends('F. 1:1(0) ack 2');
  s.world.poll();
  s.world.link.take();
  s.owner.take();
  t.equal(s.connection.state, state);
  return s;
}
