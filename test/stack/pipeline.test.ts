/** The edge: when it polls, what taps see, and the pipe that joins two stacks. */

import { config } from 'rxjs';
import t from 'tap';
import { FrameMemory, plainArena } from '../../src/stack/frame-memory.ts';
import { Pipe } from '../../src/stack/link/pipe.ts';
import { Netstack } from '../../src/stack/netstack.ts';
import { Pipeline } from '../../src/stack/pipeline.ts';
import type { ArenaSource, TcpConnection, TcpHandler } from '../../src/stack/port.ts';
import { macToBytes } from '../../src/stack/wire/ethernet.ts';
import { FakeLink } from './fake-link.ts';
import { icmpFrame, pattern } from './frames.ts';
import { address, GATEWAY_MAC, seededRandom, World } from './world.ts';

/** A schedule that the test works off by hand. */
class Edge {
  nowMs = 1000;
  readonly soon: (() => void)[] = [];
  at: { ms: number; run: () => void } | undefined;
  readonly clock = { nowMs: () => this.nowMs };
  readonly schedule = (at: number | 'soon', run: () => void): void => {
    if (at === 'soon') this.soon.push(run);
    else this.at = { ms: at, run };
  };

  turn(): void {
    for (const run of this.soon.splice(0)) run();
  }
}

const stackOf = (edge: Edge, accept?: TcpHandler, host = 1, memory?: ArenaSource): Netstack => {
  const random = seededRandom(host);
  return new Netstack({
    clock: edge.clock,
    ...(memory && { memory }),
    random: {
      fill: (into) => {
        for (let i = 0; i < into.length; i++) into[i] = random() * 256;
      },
    },
    forwarder: {
      tcp: (connection) => (accept ? connection.accept(accept) : connection.reject('reset')),
      udp: () => undefined,
      echo: () => undefined,
    },
    macAddress: macToBytes(GATEWAY_MAC + host - 1),
    gateway: address(`192.168.65.${host}`),
    hostAlias: address(`192.168.65.${host + 1}`),
    prefix: 24,
  });
};

const quiet: TcpHandler = {
  established: () => undefined,
  room: () => 65535,
  received: (_connection, { octets }) => octets,
  receivedEnd: () => undefined,
  writable: () => undefined,
  closed: () => undefined,
};

t.test('a batch is answered at once, in one flush', async (t) => {
  const edge = new Edge();
  const link = new FakeLink();
  const pipeline = new Pipeline({ netstack: stackOf(edge), clock: edge.clock, schedule: edge.schedule });
  pipeline.attach(link);
  const ping = icmpFrame(8, 0, 1, pattern(10));
  link.input([ping, ping, ping]);
  t.equal(link.sent.length, 3);
  t.equal(link.flushes, 1);
  t.equal(edge.soon.length, 0);
});

t.test('work from elsewhere wakes it once; deadlines are scheduled', async (t) => {
  const edge = new Edge();
  const link = new FakeLink();
  const netstack = stackOf(edge);
  const pipeline = new Pipeline({ netstack, clock: edge.clock, schedule: edge.schedule });
  const ingress = pipeline.attach(link);
  netstack.pinNeighbor(address('192.168.65.3'), ingress, macToBytes(3));
  const to = {
    guestAddress: address('192.168.65.3'),
    guestPort: 80,
    peerAddress: address('192.168.65.1'),
    peerPort: 0,
  };
  netstack.connect(to, quiet);
  netstack.connect(to, quiet);
  pipeline.wake();
  t.equal(edge.soon.length, 1);
  t.equal(link.sent.length, 0);
  edge.turn();
  t.equal(link.sent.length, 2);
  t.ok(edge.at && edge.at.ms > edge.nowMs && edge.at.ms <= edge.nowMs + 1001, 'the retransmission');
  link.take();
  while (link.sent.length === 0) {
    edge.nowMs = edge.at!.ms;
    edge.at!.run();
  }
  t.equal(link.sent.length, 2);
});

t.test('services are polled along with the stack', async (t) => {
  const edge = new Edge();
  const polls: number[] = [];
  let due = 1500;
  const service = { pollAt: () => due, poll: (nowMs: number) => polls.push(nowMs) };
  const pipeline = new Pipeline({
    netstack: stackOf(edge),
    services: [service],
    clock: edge.clock,
    schedule: edge.schedule,
  });
  pipeline.run();
  t.equal(edge.at?.ms, 1500);
  due = Number.POSITIVE_INFINITY;
  edge.nowMs = 1500;
  edge.at!.run();
  t.same(polls, [1000, 1500]);
});

t.test('taps see every batch, both ways; one that throws stops nothing', async (t) => {
  const edge = new Edge();
  const link = new FakeLink();
  const pipeline = new Pipeline({ netstack: stackOf(edge), clock: edge.clock, schedule: edge.schedule });
  const ingress = pipeline.attach(link);
  const ping = icmpFrame(8, 0, 1, pattern(10));
  link.input([ping]);
  const seen: unknown[] = [];
  const subscription = pipeline.batches.subscribe(({ batch, nowMs, ...tapped }) => {
    const frames = Array.from({ length: batch.count }, (_, i) => {
      const at = batch.offset[batch.first[i]!]!;
      return [...batch.arena[batch.first[i]!]!.bytes.subarray(at + 23, at + 24), batch.octets[i]];
    });
    seen.push({ ...tapped, nowMs, frames });
  });
  link.input([ping, ping]);
  const frame = [1, 52];
  const tapped = { link: 'fake', ingress, mtu: 1500, nowMs: 1000 };
  // Each answer is shown as it is committed: the link has one buffer for all of them.
  t.same(seen, [
    { ...tapped, direction: 'from-guest', frames: [frame, frame] },
    { ...tapped, direction: 'to-guest', frames: [frame] },
    { ...tapped, direction: 'to-guest', frames: [frame] },
  ]);
  subscription.unsubscribe();
  link.input([ping]);
  t.equal(seen.length, 3);
  const errors: unknown[] = [];
  config.onUnhandledError = (error) => errors.push(error);
  pipeline.batches.subscribe(() => {
    throw new Error('a tap');
  });
  link.take();
  link.input([ping]);
  t.equal(link.take().length, 1);
  await new Promise((resolve) => setTimeout(resolve));
  t.equal(errors.length, 2);
  config.onUnhandledError = null;
});

t.test('a tap sees what was sent, though the link writes it all in one place', async (t) => {
  const edge = new Edge();
  const link = new FakeLink();
  const pipeline = new Pipeline({ netstack: stackOf(edge), clock: edge.clock, schedule: edge.schedule });
  pipeline.attach(link);
  const shown: Uint8Array[] = [];
  pipeline.batches.subscribe(({ batch, direction }) => {
    if (direction === 'to-guest')
      shown.push(batch.arena[0]!.bytes.slice(batch.offset[0], batch.offset[0]! + batch.length[0]!));
  });
  link.input([icmpFrame(8, 0, 1, pattern(10)), icmpFrame(8, 0, 2, pattern(90))]);
  t.same(
    shown,
    link.take().map(({ bytes }) => bytes),
  );
  t.equal(shown.length, 2);
});

t.test('a link with room again, and one that is gone', async (t) => {
  const edge = new Edge();
  const link = new FakeLink();
  const netstack = stackOf(edge);
  const pipeline = new Pipeline({ netstack, clock: edge.clock, schedule: edge.schedule });
  const ingress = pipeline.attach(link);
  netstack.pinNeighbor(address('192.168.65.3'), ingress, macToBytes(3));
  link.room = 0;
  const to = {
    guestAddress: address('192.168.65.3'),
    guestPort: 80,
    peerAddress: address('192.168.65.1'),
    peerPort: 0,
  };
  const connection = netstack.connect(to, quiet);
  edge.turn();
  t.equal(edge.soon.length, 0, 'it does not spin');
  link.room = 1;
  link.writable();
  edge.turn();
  t.equal(link.sent.length, 1);
  link.gone();
  t.equal(connection.state, 'CLOSED');
});

const cuts = { checksum: false, segmentOctets: 0 };
for (const [how, memory, offload] of [
  ['in ordinary memory', { arena: plainArena }, cuts],
  ['in memory with vectors', new FrameMemory(), cuts],
  ['with too little of it', new FrameMemory(300_000), cuts],
  ['with offload', new FrameMemory(), { checksum: true, segmentOctets: 65535 }],
] as const)
  t.test(`two stacks on a pipe, ${how}`, async (t) => {
    const edge = new Edge();
    let received = 0;
    const sink: TcpHandler = {
      ...quiet,
      room: () => 1 << 20,
      received: (_connection, { octets }) => {
        received += octets;
        return octets;
      },
      receivedEnd: (connection) => connection.end(),
    };
    const left = stackOf(edge, sink, 1, memory);
    const right = stackOf(edge, undefined, 129, memory);
    const pipe = new Pipe({
      offload,
      memory,
      slabOctets: 200_000,
      frames: 64,
      flushed: (each) => edge.schedule('soon', () => each.deliver()),
    });
    new Pipeline({ netstack: left, clock: edge.clock, schedule: edge.schedule }).attach(pipe.left);
    const ingress = new Pipeline({ netstack: right, clock: edge.clock, schedule: edge.schedule }).attach(pipe.right);
    right.pinNeighbor(address('192.168.65.1'), ingress, macToBytes(GATEWAY_MAC));
    right.route(address('10.0.0.0'), 8, address('192.168.65.1'));
    let sent = 0;
    const reasons: string[] = [];
    const fill = (connection: TcpConnection): void => {
      while (sent < 3_000_000 && connection.reserveSend()) {
        const octets = Math.min(connection.sendLength, 3_000_000 - sent);
        connection.commitSend(octets);
        sent += octets;
      }
      if (sent === 3_000_000) connection.end();
    };
    right.connect(
      { guestAddress: address('10.0.0.1'), guestPort: 80, peerAddress: address('192.168.65.129'), peerPort: 0 },
      { ...quiet, established: fill, writable: fill, closed: (_connection, reason) => reasons.push(reason) },
    );
    for (let turns = 0; turns < 100_000 && reasons.length === 0; turns++) {
      edge.nowMs += 0.05;
      edge.turn();
    }
    t.equal(received, 3_000_000);
    t.same(reasons, ['closed']);
    pipe.left.close();
    t.same(right.flows(), []);
    t.equal(pipe.right.reserve(100), false);
  });

t.test('several links, each with its own ingress', async (t) => {
  const world = new World();
  const second = new FakeLink();
  const ingress = world.netstack.attach(second);
  t.not(ingress, world.ingress);
  second.input([icmpFrame(8, 0, 1, pattern(3))]);
  world.poll();
  t.equal(second.take().length, 1);
  t.equal(world.link.take().length, 0);
  world.netstack.detach(ingress);
  second.input([icmpFrame(8, 0, 1, pattern(3))]);
  world.netstack.detach(ingress);
  t.equal(second.take().length, 0);
});
