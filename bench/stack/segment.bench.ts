/** Segments: 64 KiB of a stream made into frames of MTU 1500, by a connection of the stack and by joining Buffers. */

import { FrameMemory } from '../../src/stack/frame-memory.ts';
import type { TcpConnection } from '../../src/stack/port.ts';
import { suite } from '../suite.ts';
import { report } from '../table.ts';
import { Guest } from './guest.ts';
import { frameOfBuffers } from './naive.ts';
import { assertNoDrops, BUDGET_OCTETS, clock, netstackOf, sink } from './stacks.ts';

const STREAM_OCTETS = 65536;
const SEGMENT_OCTETS = 1460;

let connection: TcpConnection | undefined;
const memory = new FrameMemory();
const netstack = netstackOf(memory, (forwarded) => {
  connection = forwarded;
  forwarded.accept(sink);
});
const guest = new Guest(memory, 1500, STREAM_OCTETS, { checksum: false, segmentOctets: 0 });
const poll = (): void => netstack.poll(clock.nowMs(), BUDGET_OCTETS);
netstack.attach(guest);
guest.syn();
poll();
guest.ack();

const stream = Buffer.alloc(STREAM_OCTETS, 0x5a);
let sequence = 1;

const rows = await suite('segment 64 KiB, MTU 1500', {
  'Buffers, joined': () => {
    const frames: Buffer[] = [];
    for (let at = 0; at < STREAM_OCTETS; at += SEGMENT_OCTETS)
      frames.push(frameOfBuffers((sequence + at) >>> 0, stream.subarray(at, at + SEGMENT_OCTETS)));
    sequence = (sequence + STREAM_OCTETS) >>> 0;
    return frames;
  },
  'slipway, queued and acknowledged as well': () => {
    for (let left = STREAM_OCTETS; left > 0; ) {
      if (!connection!.reserveSend()) throw new Error('the send queue is full');
      const octets = Math.min(left, connection!.sendLength);
      connection!.sendArena.bytes.set(stream.subarray(0, octets), connection!.sendOffset);
      connection!.commitSend(octets);
      left -= octets;
    }
    do {
      poll();
      guest.ack();
    } while (connection!.sendQueueOctets > 0);
  },
});
assertNoDrops(netstack);
report('Segment', rows);
