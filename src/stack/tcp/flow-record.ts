/** A connection's record for pages, metrics and tests. */

import type { FlowRecord } from '../port.ts';
import { formatEndpoint } from '../wire/address.ts';
import type { Connection } from './connection.ts';
import { offered } from './receive-window.ts';
import { seqSub } from './seq.ts';

function waitsFor(c: Connection): NonNullable<FlowRecord['waitsFor']> {
  if (c.port === undefined) return 'neighbour';
  if (c.held) return 'host socket';
  if (c.isReady && c.port.blocked) return 'link';
  if (c.queue.octets > 0 && seqSub(c.sndNxt, c.sndUna) >= c.sndWnd) return 'guest window';
  if (c.state === 'ESTABLISHED' && offered(c) < c.rcvMss) return 'host socket';
  return 'nothing';
}

export function flowRecord(c: Connection): FlowRecord {
  return {
    protocol: 'tcp',
    guest: formatEndpoint(c.guestAddress, c.guestPort),
    peer: formatEndpoint(c.peerAddress, c.peerPort),
    state: c.state,
    octetsToGuest: c.octetsToGuest,
    octetsToHost: c.octetsToHost,
    ...(c.srttMs >= 0 && { rttMs: c.srttMs }),
    retransmissions: c.retransmissions,
    waitsFor: waitsFor(c),
  };
}
