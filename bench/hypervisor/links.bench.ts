/**
 * The whole path guest -> link -> stack -> host's socket and back, by the CPU time of the network core, which runs as
 * `slipway net serve` in a process of its own: frames cut and summed over QEMU's stream, and whole segments over
 * vhost-user. The guest is a driver in this process, its peer a socket on loopback. `node bench/hypervisor/links.bench.ts`
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import os from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { type Row, report } from '../table.ts';
import { StreamPort, VhostUserPort } from './driver-ports.ts';
import { DriverTcp } from './driver-tcp.ts';

const main = join(import.meta.dirname, '../../src/cli/main.ts');
const WARM_UP_MS = 700;
const MEASURE_MS = Number(process.env.BENCH_MS ?? 2000);
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);

type Direction = 'up' | 'down';
type Kind = 'stream' | 'vhost-user';

function cpuSeconds({ pid }: ChildProcess): number {
  const [, rest = ''] = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ');
  const fields = rest.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Sends without end. */
function source(socket: net.Socket): void {
  const chunk = Buffer.alloc(1 << 20, 0x5a);
  const more = (): void => {
    while (!socket.destroyed && socket.write(chunk));
  };
  socket.on('error', () => undefined).on('drain', more);
  more();
}

/** The host's end. */
async function hostPort(direction: Direction): Promise<net.Server> {
  const server = net.createServer({ pauseOnConnect: true }, (accepted) => {
    if (direction === 'down') {
      accepted.resume();
      source(accepted);
      return;
    }
    const { _handle: handle } = accepted as unknown as { _handle: unknown };
    Object.assign(accepted, { _handle: null });
    const onread = { buffer: new Uint8Array(1 << 20), callback: () => true };
    new net.Socket({ handle, onread } as net.SocketConstructorOpts).on('error', () => undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

/** CPU seconds of the core per GB, and Gbit/s. */
async function measure(kind: Kind, direction: Direction, mtu: number): Promise<[cpu: number, rate: number]> {
  const directory = fs.mkdtempSync(join(os.tmpdir(), 'links-'));
  const path = join(directory, 'socket');
  const server = await hostPort(direction);
  const argv = ['net', 'serve', kind === 'stream' ? '--qemu' : '--vhost-user', path, '--mtu', String(mtu)];
  const flags = process.env.BENCH_NODE?.split(' ') ?? [];
  const core = spawn(process.execPath, [...flags, main, ...argv], { stdio: ['ignore', 'pipe', 'ignore'] });
  await once(core.stdout, 'data');
  const port = kind === 'stream' ? new StreamPort(path, mtu) : new VhostUserPort(path, mtu);
  const tcp = new DriverTcp(port, mtu, 40_000, (server.address() as AddressInfo).port);
  const established = new Promise<void>((resolve) => {
    tcp.onEstablished = resolve;
  });
  await port.open(tcp);
  await established;
  if (direction === 'up') tcp.pour();
  const moved = (): number => (direction === 'up' ? tcp.acknowledged : tcp.received);
  await pause(WARM_UP_MS);
  const [octets, cpu, at] = [moved(), cpuSeconds(core), performance.now()];
  await pause(MEASURE_MS);
  const gigabytes = (moved() - octets) / 1e9;
  const result: [number, number] = [
    (cpuSeconds(core) - cpu) / gigabytes,
    (gigabytes * 8000) / (performance.now() - at),
  ];
  port.close();
  core.kill();
  await once(core, 'exit');
  server.close();
  fs.rmSync(directory, { recursive: true });
  return result;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

const rows: Row[] = [];
for (const mtu of [1500, 65520])
  for (const direction of ['up', 'down'] as const) {
    const results: Record<Kind, [number, number][]> = { stream: [], 'vhost-user': [] };
    for (let round = 0; round < ROUNDS; round++)
      for (const kind of ['stream', 'vhost-user'] as const) results[kind].push(await measure(kind, direction, mtu));
    const cpu = (kind: Kind): number => median(results[kind].map(([value]) => value));
    const rate = (kind: Kind): number => median(results[kind].map(([, value]) => value));
    for (const kind of ['stream', 'vhost-user'] as const) {
      const name = `${direction}, MTU ${mtu}, ${kind}`;
      const baseline = 'stream';
      const ratio = (value: number, to: number) => (kind === baseline ? {} : { ratio: value / to, baseline });
      rows.push({ name, value: cpu(kind), unit: 'CPU s/GB', ...ratio(cpu(kind), cpu(baseline)) });
      rows.push({ name, value: rate(kind), unit: 'Gbit/s', ...ratio(rate(kind), rate(baseline)) });
    }
  }
report('links of a guest', rows);
process.exit(0);
