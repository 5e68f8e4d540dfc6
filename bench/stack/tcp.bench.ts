/**
 * The stack alone, one stream each way, by CPU time: in ordinary memory (the baseline), in memory with vector sums, and
 * towards a link that cuts and sums itself. Then connections made, used for an octet each way and closed.
 */

import { FrameMemory, plainArena } from '../../src/stack/frame-memory.ts';
import { Pipe } from '../../src/stack/link/pipe.ts';
import type { ArenaSource, TcpConnection, TcpHandler } from '../../src/stack/port.ts';
import { parseIpv4 } from '../../src/stack/wire/address.ts';
import { type Row, report } from '../table.ts';
import { Guest, gatewayMac } from './guest.ts';
import { assertNoDrops, BUDGET_OCTETS, clock, netstackOf, sink } from './stacks.ts';

const BURST_OCTETS = 256 * 1024;
const WARM_UP_MS = 300;
const MEASURE_MS = 1000;

/** Runs `step` for a while; returns what it moved per CPU nanosecond. */
function measure(step: () => number): number {
  const run = (ms: number): { moved: number; ns: number } => {
    const end = performance.now() + ms;
    const begin = process.cpuUsage();
    let moved = 0;
    while (performance.now() < end) for (let i = 0; i < 8; i++) moved += step();
    const { user, system } = process.cpuUsage(begin);
    return { moved, ns: (user + system) * 1000 };
  };
  run(WARM_UP_MS);
  const { moved, ns } = run(MEASURE_MS);
  return moved / ns;
}

/** Octets per CPU nanosecond, that is GB per CPU second. */
function stream(direction: 'up' | 'down', mtu: number, memory: ArenaSource, segmentOctets: number): number {
  let accepted: TcpConnection | undefined;
  const netstack = netstackOf(memory, (connection) => {
    accepted = connection;
    connection.accept(sink);
  });
  const guest = new Guest(memory, mtu, BURST_OCTETS, { checksum: segmentOctets > 0, segmentOctets });
  const poll = (): void => netstack.poll(clock.nowMs(), BUDGET_OCTETS);
  netstack.attach(guest);
  guest.syn();
  poll();
  guest.ack();
  // The window of the handshake is not scaled.
  guest.burst(65535);
  poll();
  const up = (): number => {
    const octets = guest.burst();
    poll();
    return octets;
  };
  const down = (): number => {
    const connection = accepted!;
    let octets = 0;
    while (connection.reserveSend()) {
      octets += connection.sendLength;
      connection.commitSend(connection.sendLength);
    }
    poll();
    guest.ack();
    return octets;
  };
  const rate = measure(direction === 'up' ? up : down);
  assertNoDrops(netstack);
  return rate;
}

function streams(): Row[] {
  const rows: Row[] = [];
  for (const direction of ['up', 'down'] as const)
    for (const mtu of [1500, 65520]) {
      const name = `${direction}, MTU ${mtu}`;
      const plain = stream(direction, mtu, { arena: plainArena }, 0);
      const baseline = 'ordinary memory';
      const row = (how: string, rate: number): Row => ({
        name: `${name}, ${how}`,
        value: 1 / rate,
        unit: 'CPU s/GB',
        ratio: plain / rate,
        baseline,
      });
      rows.push(row(baseline, plain), row('vectors', stream(direction, mtu, new FrameMemory(), 0)));
      if (direction === 'down') rows.push(row('offload', stream(direction, mtu, new FrameMemory(), 65535)));
    }
  return rows;
}

/** Both stacks' work for connections that one opens to the other, 64 at once. */
function connections(): Row {
  let closed = 0;
  const talk: TcpHandler = {
    ...sink,
    established: (connection) => {
      connection.reserveSend();
      connection.commitSend(1);
    },
    received: (connection, { octets }) => {
      connection.end();
      return octets;
    },
    closed: () => closed++,
  };
  const memory = { arena: plainArena };
  const guest = netstackOf(memory, (connection) => connection.reject('reset'), 129);
  const netstack = netstackOf(memory, (connection) => connection.accept(talk));
  const pipe = new Pipe();
  netstack.attach(pipe.left);
  const gateway = parseIpv4('192.168.65.1')!;
  guest.pinNeighbor(gateway, guest.attach(pipe.right), gatewayMac);
  guest.route(parseIpv4('10.0.0.0')!, 8, gateway);
  const to = {
    guestAddress: parseIpv4('10.0.0.1')!,
    guestPort: 80,
    peerAddress: parseIpv4('192.168.65.129')!,
    peerPort: 0,
  };
  const rate = measure(() => {
    const before = closed;
    for (let i = 0; i < 64; i++) guest.connect(to, talk);
    do {
      netstack.poll(clock.nowMs(), BUDGET_OCTETS);
      guest.poll(clock.nowMs(), BUDGET_OCTETS);
    } while (pipe.deliver() > 0);
    return (closed - before) / 2;
  });
  return { name: 'connect, an octet each way, close (both ends)', value: 1 / rate / 1000, unit: 'CPU us' };
}

report('TCP', [...streams(), connections()]);
