/**
 * Two stacks joined by a pipe, one connection, one thread. The baseline: the same octets through a loopback connection
 * of node:net in this very process.
 */

import { once } from 'node:events';
import net from 'node:net';
import { FrameMemory } from '../../src/stack/frame-memory.ts';
import { Pipe } from '../../src/stack/link/pipe.ts';
import type { LinkOffload, TcpConnection, TcpHandler } from '../../src/stack/port.ts';
import { parseAddress } from '../../src/stack/wire/address.ts';
import { type Row, report } from '../table.ts';
import { gatewayMac } from './guest.ts';
import { assertNoDrops, BUDGET_OCTETS, clock, netstackOf, sink } from './stacks.ts';

const WARM_UP_MS = 300;
const MEASURE_MS = 1000;
const chunk = Buffer.alloc(65536, 0x5a);

const ends = {
  IPv4: { network: '10.0.0.0', prefix: 8, gateway: '192.168.65.1', server: '10.0.0.1', client: '192.168.65.129' },
  IPv6: { network: '2001:db8::', prefix: 32, gateway: 'fd00::1', server: '2001:db8::1', client: 'fd00::129' },
};

function stacks(mtu: number, offload: LinkOffload, family: keyof typeof ends = 'IPv4'): number {
  let received = 0;
  const memory = new FrameMemory();
  const taker: TcpHandler = {
    ...sink,
    received: (_connection, { octets }) => {
      received += octets;
      return octets;
    },
  };
  const server = netstackOf(memory, (connection) => connection.accept(taker));
  const client = netstackOf(memory, (connection) => connection.reject('reset'), 129);
  const pipe = new Pipe({ mtu, offload, memory });
  server.attach(pipe.left);
  const { network, prefix, gateway, server: guest, client: peer } = ends[family];
  client.pinNeighbor(parseAddress(gateway)!, client.attach(pipe.right), gatewayMac);
  client.route(parseAddress(network)!, prefix, parseAddress(gateway)!);
  const fill = (connection: TcpConnection): void => {
    while (connection.reserveSend()) {
      const octets = Math.min(chunk.length, connection.sendLength);
      connection.sendArena.bytes.set(octets < chunk.length ? chunk.subarray(0, octets) : chunk, connection.sendOffset);
      connection.commitSend(octets);
    }
  };
  client.connect(
    {
      guestAddress: parseAddress(guest)!,
      guestPort: 80,
      peerAddress: parseAddress(peer)!,
      peerPort: 0,
    },
    { ...sink, established: fill, writable: fill },
  );
  const run = (ms: number): number => {
    const begin = performance.now();
    const before = received;
    let now = begin;
    while (now < begin + ms) {
      for (let i = 0; i < 8; i++) {
        client.poll(now, BUDGET_OCTETS);
        server.poll(now, BUDGET_OCTETS);
        pipe.deliver();
      }
      now = clock.nowMs();
    }
    return ((received - before) * 8) / (now - begin) / 1e6;
  };
  run(WARM_UP_MS);
  const rate = run(MEASURE_MS);
  assertNoDrops(server);
  assertNoDrops(client);
  return rate;
}

async function loopback(): Promise<number> {
  let received = 0;
  const server = net.createServer((socket) => {
    socket.on('data', (data) => {
      received += data.length;
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  await once(socket, 'connect');
  const fill = (): void => {
    while (!socket.destroyed && socket.write(chunk));
  };
  socket.on('drain', fill);
  fill();
  const after = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  await after(WARM_UP_MS);
  const begin = performance.now();
  const before = received;
  await after(MEASURE_MS);
  const rate = ((received - before) * 8) / (performance.now() - begin) / 1e6;
  socket.destroy();
  server.close();
  return rate;
}

const baseline = await loopback();
const row = (name: string, value: number): Row => ({
  name,
  value,
  unit: 'Gbit/s',
  ratio: value / baseline,
  baseline: 'node:net, loopback',
});
const whole = { checksum: true, segmentOctets: 65535 };
const none = { checksum: false, segmentOctets: 0 };
report('Two stacks and a pipe', [
  row('node:net, loopback', baseline),
  row('MTU 1500', stacks(1500, none)),
  row('MTU 1500, IPv6', stacks(1500, none, 'IPv6')),
  row('MTU 1500, segments uncut and unsummed', stacks(1500, whole)),
  row('the same, IPv6', stacks(1500, whole, 'IPv6')),
  row('MTU 65520', stacks(65520, none)),
  row('MTU 65520, unsummed', stacks(65520, { checksum: true, segmentOctets: 0 })),
]);
