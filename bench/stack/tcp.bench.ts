/** The stack alone, one stream each way: Gbit/s, and nanoseconds a frame. `node bench/stack/tcp.bench.ts [up|down] [mtu] [seconds]` */

import { randomFillSync } from 'node:crypto';
import { FrameMemory, plainArena } from '../../src/stack/frame-memory.ts';
import { Netstack } from '../../src/stack/netstack.ts';
import type { ArenaSource, TcpConnection, TcpHandler } from '../../src/stack/port.ts';
import { parseIpv4 } from '../../src/stack/wire/address.ts';
import { Guest, gatewayMac } from './guest.ts';

const BURST_OCTETS = 256 * 1024;

let accepted: TcpConnection | undefined;
let received = 0;
const clock = { nowMs: () => performance.now() };

const handler: TcpHandler = {
  established: () => undefined,
  room: () => 4 << 20,
  received: (_connection, octets) => {
    received += octets.octets;
    return octets.octets;
  },
  receivedEnd: () => undefined,
  writable: () => undefined,
  closed: (_connection, reason) => {
    throw new Error(`the stream ended: ${reason}`);
  },
};

function connect(memory: ArenaSource, mtu: number, segmentOctets: number): { netstack: Netstack; guest: Guest } {
  const netstack = new Netstack({
    clock,
    memory,
    random: { fill: (into) => void randomFillSync(into) },
    forwarder: {
      tcp: (connection) => {
        accepted = connection;
        connection.accept(handler);
      },
      udp: () => undefined,
      echo: () => undefined,
    },
    macAddress: gatewayMac,
    gateway: parseIpv4('192.168.65.1')!,
    hostAlias: parseIpv4('192.168.65.2')!,
    prefix: 24,
  });
  const guest = new Guest(memory, mtu, BURST_OCTETS, { checksum: segmentOctets > 0, segmentOctets });
  netstack.attach(guest);
  guest.syn();
  netstack.poll(clock.nowMs(), 1 << 20);
  guest.ack();
  // The window of the handshake is not scaled.
  guest.burst(65535);
  netstack.poll(clock.nowMs(), 1 << 20);
  return { netstack, guest };
}

function fill(connection: TcpConnection): number {
  let octets = 0;
  while (connection.reserveSend()) {
    octets += connection.sendLength;
    connection.commitSend(connection.sendLength);
  }
  return octets;
}

function run(direction: string, mtu: number, memory: ArenaSource, segmentOctets: number, seconds: number): void {
  const { netstack, guest } = connect(memory, mtu, segmentOctets);
  const step =
    direction === 'up'
      ? () => {
          const octets = guest.burst();
          netstack.poll(clock.nowMs(), 1 << 20);
          return octets;
        }
      : () => {
          const octets = fill(accepted!);
          netstack.poll(clock.nowMs(), 1 << 20);
          guest.ack();
          return octets;
        };
  const measure = (ms: number): { octets: number; frames: number; ns: number } => {
    const end = performance.now() + ms;
    const framesBefore = guest.frames;
    const begin = process.cpuUsage();
    let octets = 0;
    while (performance.now() < end) for (let i = 0; i < 8; i++) octets += step();
    const { user, system } = process.cpuUsage(begin);
    const frames = direction === 'up' ? octets / (mtu - 40) : guest.frames - framesBefore;
    return { octets, frames, ns: (user + system) * 1000 };
  };
  measure(300);
  const { octets, frames, ns } = measure(seconds * 1000);
  const how = segmentOctets > 0 ? 'offload' : memory instanceof FrameMemory ? 'vectors' : 'plain';
  const label = `${direction.padEnd(5)} mtu ${String(mtu).padStart(5)} ${how}`.padEnd(26);
  const row = [
    `${((octets * 8) / ns).toFixed(1)} Gbit/s`,
    `${(ns / octets).toFixed(3)} CPU s/GB`,
    `${(ns / frames).toFixed(0)} ns/frame`,
  ];
  console.log(label, row.map((cell) => cell.padStart(16)).join(''));
  for (const [reason, count] of Object.entries(netstack.drops))
    if (count > 0) console.log(`  dropped: ${reason} ${count}`);
}

const [direction, mtu, seconds = '1'] = process.argv.slice(2);
for (const way of direction ? [direction] : ['up', 'down'])
  for (const size of mtu ? [Number(mtu)] : [1500, 65520]) {
    run(way, size, { arena: plainArena }, 0, Number(seconds));
    run(way, size, new FrameMemory(), 0, Number(seconds));
    if (way === 'down') run(way, size, new FrameMemory(), 65535, Number(seconds));
  }
if (received < 0) throw new Error('unreachable');
