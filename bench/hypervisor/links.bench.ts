/**
 * The whole path guest -> link -> stack -> host's socket and back, by the CPU time of the network core, which runs as
 * `slipway net serve` in a process of its own: frames cut and summed over QEMU's stream, and whole segments over
 * vhost-user. The guest is a driver in this process, its peer a socket on loopback. What the kernel asks for reading
 * the host's socket alone is shown beside them. `node bench/hypervisor/links.bench.ts`
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

const WARM_UP_MS = 700;
const MEASURE_MS = Number(process.env.BENCH_MS ?? 2000);
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);

type Direction = 'up' | 'down';
type Kind = 'socket alone' | 'stream' | 'vhost-user';

function cpuSeconds({ pid }: ChildProcess): number {
  const [, rest = ''] = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ');
  const fields = rest.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** The host's end: takes all, or sends without end, and counts. */
class HostEnd {
  readonly #server: net.Server;
  #octets = 0;
  #sent: net.Socket | undefined;

  constructor(direction: Direction) {
    this.#server = net.createServer({ pauseOnConnect: true }, (accepted) =>
      direction === 'down' ? this.#pour(accepted) : this.#drain(accepted),
    );
  }

  async listen(): Promise<number> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  get octets(): number {
    return this.#sent ? this.#sent.bytesWritten - this.#sent.writableLength : this.#octets;
  }

  close(): void {
    this.#server.close();
  }

  #pour(socket: net.Socket): void {
    const chunk = Buffer.alloc(1 << 20, 0x5a);
    const more = (): void => {
      while (!socket.destroyed && socket.write(chunk));
    };
    this.#sent = socket;
    socket.on('error', () => undefined).on('drain', more);
    more();
  }

  #drain(accepted: net.Socket): void {
    // A server's sockets have no `onread`; one made around the same handle has.
    const { _handle: handle } = accepted as unknown as { _handle: unknown };
    Object.assign(accepted, { _handle: null });
    const callback = (octets: number): boolean => {
      this.#octets += octets;
      return true;
    };
    const onread = { buffer: new Uint8Array(1 << 20), callback };
    new net.Socket({ handle, onread } as net.SocketConstructorOpts).on('error', () => undefined);
  }
}

/** Starts a program under measurement, as `node FILE ARGV`. */
function start(file: string, ...argv: string[]): ChildProcess {
  const flags = process.env.BENCH_NODE?.split(' ') ?? [];
  return spawn(process.execPath, [...flags, join(import.meta.dirname, file), ...argv], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
}

/** Opens the guest's connection through a core of its own; the core, and the driver's way to close. */
async function throughCore(kind: Kind, direction: Direction, mtu: number, hostPort: number, path: string) {
  const attachment = kind === 'stream' ? '--qemu' : '--vhost-user';
  const core = start('../../src/cli/main.ts', 'net', 'serve', attachment, path, '--mtu', String(mtu));
  await once(core.stdout!, 'data');
  const port = kind === 'stream' ? new StreamPort(path, mtu) : new VhostUserPort(path, mtu);
  const tcp = new DriverTcp(port, mtu, 40_000, hostPort);
  const established = new Promise<void>((resolve) => {
    tcp.onEstablished = resolve;
  });
  await port.open(tcp);
  await established;
  if (direction === 'up') tcp.pour();
  return { core, close: () => port.close() };
}

/** CPU seconds of the process under measurement per GB, and Gbit/s. */
async function measure(kind: Kind, direction: Direction, mtu: number): Promise<[cpu: number, rate: number]> {
  const directory = fs.mkdtempSync(join(os.tmpdir(), 'links-'));
  const host = new HostEnd(direction);
  const port = await host.listen();
  const { core, close } =
    kind === 'socket alone'
      ? { core: start('socket-alone.ts', String(port)), close: () => undefined }
      : await throughCore(kind, direction, mtu, port, join(directory, 'socket'));
  await pause(WARM_UP_MS);
  const [octets, cpu, at] = [host.octets, cpuSeconds(core), performance.now()];
  await pause(MEASURE_MS);
  const gigabytes = (host.octets - octets) / 1e9;
  const result: [number, number] = [
    (cpuSeconds(core) - cpu) / gigabytes,
    (gigabytes * 8000) / (performance.now() - at),
  ];
  close();
  core.kill();
  await once(core, 'exit');
  host.close();
  fs.rmSync(directory, { recursive: true });
  return result;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

const rows: Row[] = [];
for (const mtu of [1500, 65520])
  for (const direction of ['up', 'down'] as const) {
    const kinds: Kind[] = direction === 'down' ? ['socket alone', 'stream', 'vhost-user'] : ['stream', 'vhost-user'];
    const results: Record<Kind, [number, number][]> = { 'socket alone': [], stream: [], 'vhost-user': [] };
    for (let round = 0; round < ROUNDS; round++)
      for (const kind of kinds) results[kind].push(await measure(kind, direction, mtu));
    const baseline = 'stream';
    for (const [index, unit] of ['CPU s/GB', 'Gbit/s'].entries())
      for (const kind of kinds) {
        const of = (which: Kind): number => median(results[which].map((result) => result[index]!));
        const ratio = kind === 'vhost-user' ? { ratio: of(kind) / of(baseline), baseline } : {};
        rows.push({ name: `${direction}, MTU ${mtu}, ${kind}`, value: of(kind), unit, ...ratio });
      }
  }
report('links of a guest', rows);
process.exit(0);
