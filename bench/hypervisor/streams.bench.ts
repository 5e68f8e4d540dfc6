/**
 * Streams between host and guest, each lane against a plain unix socket: the guest's end runs on this machine (the vsock
 * lane's in this very process), so this is the lanes' own cost, without emulation. `node bench/hypervisor/streams.bench.ts`
 */

import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { VsockDevice } from '../../src/hypervisor/vsock/device.ts';
import { SerialMux } from '../../src/hypervisor/vsock/serial-mux.ts';
import { compileGuestProgram, SerialLine } from '../../test/hypervisor/vsock/serial-line.ts';
import { SyntheticGuest } from '../../test/hypervisor/vsock/synthetic-guest.ts';
import { type Row, report } from '../table.ts';

const bulkOctets = 128 << 20;
const chunk = Buffer.alloc(65536, 1);

interface Lane {
  readonly name: string;
  connect(port: number): Promise<Duplex>;
  listen(port: number, accept: (stream: Duplex) => void): void;
  close(): Promise<void>;
}

const sink = 1;
const source = 2;
const echo = 3;

async function pour(stream: Duplex, octets: number): Promise<void> {
  for (let left = octets; left > 0; left -= chunk.length) if (!stream.write(chunk)) await once(stream, 'drain');
  stream.end();
}

async function drain(stream: Duplex): Promise<void> {
  stream.resume();
  await once(stream, 'end');
}

function serve(lane: Lane): void {
  lane.listen(sink, (stream) => void drain(stream).then(() => stream.end()));
  lane.listen(source, (stream) => {
    stream.resume();
    void pour(stream, bulkOctets);
  });
  lane.listen(echo, (stream) => stream.pipe(stream));
}

/** Work per second, the best of three. */
async function rate(units: number, work: () => Promise<void>): Promise<number> {
  let best = 0;
  for (let round = 0; round < 3; round++) {
    const start = performance.now();
    await work();
    best = Math.max(best, (units / (performance.now() - start)) * 1000);
  }
  return best;
}

async function measure(lane: Lane): Promise<Record<string, [number, string]>> {
  serve(lane);
  const megabytes = bulkOctets / 1e6;
  const toGuest = await rate(megabytes, async () => {
    const stream = await lane.connect(sink);
    const done = drain(stream);
    await pour(stream, bulkOctets);
    await done;
  });
  const fromGuest = await rate(megabytes, async () => {
    const stream = await lane.connect(source);
    await drain(stream);
    stream.end();
  });
  const stream = await lane.connect(echo);
  const trips = await rate(5000, async () => {
    for (let trip = 0; trip < 5000; trip++) {
      stream.write('x');
      await once(stream, 'data');
    }
  });
  stream.end();
  const connections = await rate(1000, async () => {
    for (let batch = 0; batch < 50; batch++)
      await Promise.all(
        Array.from({ length: 20 }, async () => {
          const each = await lane.connect(echo);
          each.end('x');
          await drain(each);
        }),
      );
  });
  return {
    'to the guest': [toGuest, 'MB/s'],
    'from the guest': [fromGuest, 'MB/s'],
    'round trips': [trips, '/s'],
    connections: [connections, '/s'],
  };
}

async function plain(directory: string): Promise<Lane> {
  const servers: net.Server[] = [];
  return {
    name: 'unix socket',
    connect: async (port) => {
      const socket = net.connect({ path: join(directory, `plain${port}`), allowHalfOpen: true });
      await once(socket, 'connect');
      return socket;
    },
    listen: (port, accept) => {
      servers.push(net.createServer({ allowHalfOpen: true }, accept).listen(join(directory, `plain${port}`)));
    },
    close: async () => {
      for (const server of servers) server.close();
    },
  };
}

async function vsock(directory: string): Promise<Lane> {
  const device = new VsockDevice({ socketPath: join(directory, 'vhost'), directory });
  device.start();
  const guest = new SyntheticGuest(join(directory, 'vhost'));
  await guest.start();
  return {
    name: 'vsock',
    connect: (port) => device.connect(port),
    listen: (port, accept) => guest.listen(port, accept),
    close: async () => {
      guest.close();
      device.close();
    },
  };
}

async function serial(directory: string): Promise<Lane> {
  const guestDirectory = join(directory, 'guest');
  fs.mkdirSync(join(guestDirectory, 'port'), { recursive: true });
  const compiled = compileGuestProgram('slipway-mux', 'mux-frames', 'mux-streams');
  const mux = new SerialMux({ socketPath: join(directory, 'serial'), directory });
  await mux.start();
  const line = await SerialLine.open(directory);
  await line.connectHost(join(directory, 'serial'));
  await line.startGuest(compiled.program, guestDirectory);
  while (!mux.stats().running) await new Promise((resolve) => setTimeout(resolve, 5));
  const servers: net.Server[] = [];
  return {
    name: 'serial',
    connect: (port) => mux.connect(port),
    listen: (port, accept) => {
      const path = join(guestDirectory, 'port', String(port));
      servers.push(net.createServer({ allowHalfOpen: true }, accept).listen(path));
    },
    close: async () => {
      await line.close();
      for (const server of servers) server.close();
      mux.close();
      fs.rmSync(compiled.directory, { recursive: true });
    },
  };
}

const rows: Row[] = [];
let baseline: Awaited<ReturnType<typeof measure>> | undefined;
for (const make of [plain, vsock, serial]) {
  const directory = fs.mkdtempSync(join(os.tmpdir(), 'streams-'));
  const lane = await make(directory);
  const results = await measure(lane);
  baseline ??= results;
  for (const [name, [value, unit]] of Object.entries(results))
    rows.push({
      name: `${lane.name}: ${name}`,
      value,
      unit,
      ...(results === baseline ? {} : { ratio: value / baseline[name]![0], baseline: 'unix socket' }),
    });
  await lane.close();
  fs.rmSync(directory, { recursive: true });
}
report('streams between host and guest', rows);
