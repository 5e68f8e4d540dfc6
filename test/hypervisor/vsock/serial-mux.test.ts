import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import t from 'tap';
import { SerialMux } from '../../../src/hypervisor/vsock/serial-mux.ts';
import { channelConformance, type Lane } from '../channel-conformance.ts';

const guestSources = new URL('../../../vm/guest/', import.meta.url).pathname;
const build = fs.mkdtempSync(join(os.tmpdir(), 'mux-build-'));
const program = join(build, 'slipway-mux');
execFileSync('gcc', [
  '-static',
  '-O2',
  '-Wall',
  '-Wextra',
  '-Werror',
  '-o',
  program,
  join(guestSources, 'slipway-mux.c'),
]);
t.teardown(() => fs.rmSync(build, { recursive: true }));

/** The real guest end; a socket to the lane stands for its virtio-serial port. */
async function startGuest(socketPath: string, directory: string): Promise<ChildProcess> {
  const port = net.connect(socketPath);
  await once(port, 'connect');
  const guest = spawn(program, ['--device', 'fd:3', '--directory', directory], {
    stdio: ['ignore', 'inherit', 'inherit', port],
  });
  port.destroy();
  return guest;
}

async function muxLane(): Promise<Lane> {
  const directory = fs.mkdtempSync(join(os.tmpdir(), 'mux-'));
  const guestDirectory = join(directory, 'guest');
  fs.mkdirSync(join(guestDirectory, 'port'), { recursive: true });
  const socketPath = join(directory, 'serial');
  const forwardPath = join(directory, 'docker.sock');
  const umask = process.umask(0);
  const mux = new SerialMux({ socketPath, directory, forwards: [{ path: forwardPath, port: 2376 }] });
  await mux.start();
  process.umask(umask);
  const guest = await startGuest(socketPath, guestDirectory);
  while (!mux.stats().running) await new Promise((resolve) => setTimeout(resolve, 5));
  const servers = new Map<number, net.Server>();
  return {
    directory,
    forwardPath,
    forwardPort: 2376,
    heldOctets: 4 << 20,
    connect: (port) => mux.connect(port),
    guestListen: async (port, accept) => {
      const server = net.createServer({ allowHalfOpen: true }, accept);
      server.listen(join(guestDirectory, 'port', String(port)));
      await once(server, 'listening');
      servers.set(port, server);
    },
    guestUnlisten: async (port) => {
      servers.get(port)?.close();
    },
    guestConnect: (port) => guestConnect(guestDirectory, port),
    guestAbort: (stream) => stream.destroy(),
    stats: () => mux.stats(),
    close: async () => {
      guest.kill();
      await once(guest, 'close');
      for (const server of servers.values()) server.close();
      mux.close();
      fs.rmSync(directory, { recursive: true });
    },
  };
}

/** As channel.c does it. */
function guestConnect(directory: string, port: number): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ path: join(directory, 'connect'), allowHalfOpen: true });
    const refused = () => reject(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }));
    socket.on('error', refused);
    socket.once('end', refused);
    socket.write(`00000002.${port.toString(16).padStart(8, '0')}\n`);
    const readable = () => {
      const answer = socket.read(3) as Buffer | null;
      if (answer?.toString() !== 'OK\n') return;
      socket.off('readable', readable).off('end', refused);
      resolve(socket);
    };
    socket.on('readable', readable);
  });
}

t.test('the serial multiplexer is a lane', async (t) => channelConformance(t, muxLane));
