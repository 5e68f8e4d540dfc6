import { createHash } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { StreamLimits } from '../../../src/hypervisor/vsock/limits.ts';
import { FrameParser, frameType, magic, sealFrame, version } from '../../../src/hypervisor/vsock/mux-frame.ts';
import { SerialMux } from '../../../src/hypervisor/vsock/serial-mux.ts';
import { channelConformance, type Lane } from '../channel-conformance.ts';
import { FakeTimers } from './fake-timers.ts';
import { compileGuestProgram, SerialLine } from './serial-line.ts';

const { program, directory: programDirectory } = compileGuestProgram('slipway-mux', 'mux-frames', 'mux-streams');
t.teardown(() => fs.rmSync(programDirectory, { recursive: true }));

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

interface Rig {
  readonly directory: string;
  readonly guestDirectory: string;
  readonly socketPath: string;
  readonly mux: SerialMux;
  readonly line: SerialLine;
}

/** A lane and the real guest's end of it. */
async function rig(limits: Partial<StreamLimits> = {}): Promise<Rig> {
  const directory = fs.mkdtempSync(join(os.tmpdir(), 'mux-'));
  const guestDirectory = join(directory, 'guest');
  fs.mkdirSync(join(guestDirectory, 'port'), { recursive: true });
  const socketPath = join(directory, 'serial');
  const umask = process.umask(0);
  const mux = new SerialMux({
    socketPath,
    directory,
    limits,
    forwards: [{ path: join(directory, 'docker.sock'), port: 2376 }],
  });
  await mux.start();
  process.umask(umask);
  const line = await SerialLine.open(directory);
  await line.connectHost(socketPath);
  await line.startGuest(program, guestDirectory);
  await until(() => mux.stats().running);
  return { directory, guestDirectory, socketPath, mux, line };
}

async function guestListen(directory: string, port: number, accept: (stream: Duplex) => void): Promise<net.Server> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => {});
    accept(socket);
  });
  server.listen(join(directory, 'port', String(port)));
  await once(server, 'listening');
  return server;
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

async function muxLane(): Promise<Lane> {
  const { directory, guestDirectory, mux, line } = await rig();
  const servers = new Map<number, net.Server>();
  return {
    directory,
    forwardPath: join(directory, 'docker.sock'),
    forwardPort: 2376,
    heldOctets: 4 << 20,
    connect: (port) => mux.connect(port),
    guestListen: async (port, accept) => {
      servers.set(port, await guestListen(guestDirectory, port, accept));
    },
    guestUnlisten: async (port) => {
      servers.get(port)?.close();
    },
    guestConnect: (port) => guestConnect(guestDirectory, port),
    guestAbort: (stream) => stream.destroy(),
    stats: () => mux.stats(),
    close: async () => {
      await line.close();
      for (const server of servers.values()) server.close();
      mux.close();
      fs.rmSync(directory, { recursive: true });
    },
  };
}

t.test('the serial multiplexer is a lane', async (t) => channelConformance(t, muxLane));

t.test(
  'the guest reboots in the middle of a frame: its streams end, nothing false is delivered, new ones work',
  async (t) => {
    const { directory, guestDirectory, mux, line } = await rig();
    const sent = Buffer.alloc(3_000_000, 'abcdefghi');
    const server = await guestListen(guestDirectory, 7, (stream) => stream.end(sent));
    t.teardown(async () => {
      await line.close();
      server.close();
      mux.close();
      fs.rmSync(directory, { recursive: true });
    });
    for (const allowance of [100_000, 345_678, 1_000_001]) {
      line.allowance = allowance;
      const socket = await mux.connect(7);
      const received: Buffer[] = [];
      socket.on('data', (chunk: Buffer) => received.push(chunk));
      const ended = once(socket, 'end');
      await until(() => line.allowance === 0);
      await line.killGuest();
      line.allowance = Number.POSITIVE_INFINITY;
      await line.startGuest(program, guestDirectory);
      await ended;
      socket.destroy();
      const all = Buffer.concat(received);
      t.ok(
        all.length > 0 && all.length < allowance && all.equals(sent.subarray(0, all.length)),
        `${all.length} octets, all true`,
      );
      await until(() => mux.stats().running);
      const again = await mux.connect(7);
      const hash = createHash('sha256');
      again.on('data', (chunk: Buffer) => hash.update(chunk));
      await once(again, 'end');
      again.destroy();
      t.equal(hash.digest('hex'), createHash('sha256').update(sent).digest('hex'));
    }
    await until(() => mux.stats().open === 0);
    t.equal(mux.stats().lost, 3);
  },
);

t.test('the host comes back: the guest ends its streams and goes on', async (t) => {
  const { directory, guestDirectory, socketPath, mux, line } = await rig();
  const streams: Duplex[] = [];
  const server = await guestListen(guestDirectory, 7, (stream) => {
    streams.push(stream);
    stream.resume();
    stream.write('x'.repeat(50_000));
    stream.on('end', () => stream.end());
    // What the former host had not taken yet makes its end a reset.
    stream.on('error', () => {});
  });
  const first = await mux.connect(7);
  first.on('error', () => {});
  await until(() => streams.length === 1);
  const ended = new Promise((resolve) => streams[0]!.once('close', resolve));
  mux.close();
  const next = new SerialMux({ socketPath, directory });
  await next.start();
  t.teardown(async () => {
    await line.close();
    server.close();
    next.close();
    fs.rmSync(directory, { recursive: true });
  });
  await line.connectHost(socketPath);
  await ended;
  t.pass('the stream of the former host has ended');
  await until(() => next.stats().running);
  const second = await next.connect(7);
  await once(second, 'data');
  second.destroy();
  first.destroy();
});

t.test('a program of the guest that asks before the host is there waits for it', async (t) => {
  const directory = fs.mkdtempSync(join(os.tmpdir(), 'mux-'));
  const guestDirectory = join(directory, 'guest');
  const line = await SerialLine.open(directory);
  await line.startGuest(program, guestDirectory);
  await until(() => fs.existsSync(join(guestDirectory, 'connect')));
  t.equal(fs.statSync(join(guestDirectory, 'connect')).mode & 0o777, 0o600);
  const waiting = guestConnect(guestDirectory, 9);
  const host = net.createServer((socket) => socket.end('from the host'));
  host.listen(join(directory, '00000002.00000009'));
  const mux = new SerialMux({ socketPath: join(directory, 'serial'), directory });
  await mux.start();
  t.teardown(async () => {
    await line.close();
    host.close();
    mux.close();
    fs.rmSync(directory, { recursive: true });
  });
  await line.connectHost(join(directory, 'serial'));
  const stream = await waiting;
  const [text] = (await once(stream, 'data')) as [Buffer];
  t.equal(text.toString(), 'from the host');
  stream.destroy();
});

// A guest that does as it likes.

interface Wild {
  readonly mux: SerialMux;
  readonly directory: string;
  readonly timers: FakeTimers;
  readonly frames: { type: number; flags: number; id: number; value: number; payload: Buffer }[];
  /** The guest's end of the line; it reads unless paused. */
  readonly line: Duplex;
  send(type: number, flags: number, id: number, value: number, payload?: Uint8Array): void;
  next(type: number): Promise<Wild['frames'][number]>;
}

/** Two ends of a line in memory. */
function pair(): [Duplex, Duplex] {
  const ends: Duplex[] = [];
  for (const other of [1, 0])
    ends.push(
      new Duplex({
        read() {},
        write(chunk: Buffer, _encoding, done) {
          if (ends[other]!.push(chunk)) done();
          else ends[other]!.once('resume', done);
        },
        final(done) {
          ends[other]!.push(null);
          done();
        },
      }),
    );
  return [ends[0]!, ends[1]!];
}

async function wild(t: Test, limits: Partial<StreamLimits> = {}): Promise<Wild> {
  const directory = fs.mkdtempSync(join(os.tmpdir(), 'mux-'));
  const timers = new FakeTimers();
  const mux = new SerialMux({ socketPath: join(directory, 'serial'), directory, timers, limits });
  await mux.start();
  const [host, line] = pair();
  const made: Wild = {
    mux,
    directory,
    timers,
    frames: [],
    line,
    send: (type, flags, id, value, payload = new Uint8Array(0)) => {
      const octets = Buffer.alloc(16 + payload.length);
      octets.set(payload, 12);
      sealFrame(octets, 0, type, flags, id, value, payload.length);
      line.write(octets);
    },
    next: async (type) => {
      for (;;) {
        await until(() => made.frames.length > 0);
        const frame = made.frames.shift()!;
        if (frame.type === type) return frame;
      }
    },
  };
  const parser = new FrameParser(
    (type, flags, id, value, payload) => made.frames.push({ type, flags, id, value, payload: Buffer.from(payload) }),
    () => {},
  );
  line.on('data', (chunk: Buffer) => parser.push(chunk));
  mux.attach(host);
  t.teardown(() => {
    mux.close();
    fs.rmSync(directory, { recursive: true });
  });
  return made;
}

const nonce = Buffer.from('guestown');

/** Says HELLO until the host knows this guest. */
async function greet(made: Wild): Promise<void> {
  const hello = await made.next(frameType.HELLO);
  made.send(frameType.HELLO, version, magic, 0, Buffer.concat([nonce, hello.payload.subarray(0, 8)]));
  await until(() => made.mux.stats().running);
}

async function hostSocket(t: Test, made: Wild, port: number): Promise<net.Socket[]> {
  const sockets: net.Socket[] = [];
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    socket.on('error', () => {});
    sockets.push(socket);
  });
  server.listen(join(made.directory, `00000002.${port.toString(16).padStart(8, '0')}`));
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return sockets;
}

const window = (octets: number): Buffer => Buffer.from(new Uint32Array([octets]).buffer);

t.test('a session needs the nonce of this one: stale and forged HELLOs open nothing', async (t) => {
  const made = await wild(t);
  const first = await made.next(frameType.HELLO);
  t.equal(first.payload.readBigUInt64LE(8), 0n);
  made.send(frameType.HELLO, version, magic, 0, Buffer.concat([nonce, Buffer.alloc(8, 9)]));
  const second = await made.next(frameType.HELLO);
  t.same(second.payload.subarray(8), nonce, 'it is acknowledged');
  t.notOk(made.mux.stats().running, 'and not believed');
  made.send(frameType.OPEN, 0, 1, 9, window(1000));
  await tick();
  t.equal(made.frames.length, 0, 'nothing is opened before');
  made.send(frameType.HELLO, version, magic, 0, Buffer.concat([nonce, second.payload.subarray(0, 8)]));
  await until(() => made.mux.stats().running);
  const connecting = made.mux.connect(7);
  const opened = await made.next(frameType.OPEN);
  // The guest begins anew: what was opened is over.
  made.send(frameType.HELLO, version, magic, 0, Buffer.concat([Buffer.alloc(8, 1), Buffer.alloc(8)]));
  await t.rejects(connecting, { code: 'ECONNREFUSED' });
  made.send(frameType.ACCEPT, 0, opened.id, 1000);
  await until(() => made.mux.stats().open === 0);
});

t.test('what a guest may not do ends the stream', async (t) => {
  const made = await wild(t, { streamOctets: 65536 });
  await greet(made);
  const sockets = await hostSocket(t, made, 9);
  const cases: Record<string, (id: number) => void> = {
    'more data than the window': (id) => {
      for (let sent = 0; sent < 400_000; sent += 30_000) made.send(frameType.DATA, 0, id, 0, Buffer.alloc(30_000));
    },
    'data after its end': (id) => {
      made.send(frameType.SHUTDOWN, 2, id, 0);
      made.send(frameType.DATA, 0, id, 0, Buffer.alloc(1));
    },
    'accepting twice': (id) => made.send(frameType.ACCEPT, 0, id, 5),
  };
  let id = 1;
  for (const [name, spoil] of Object.entries(cases)) {
    made.send(frameType.OPEN, 0, id, 9, window(1000));
    await made.next(frameType.ACCEPT);
    spoil(id);
    t.equal((await made.next(frameType.RESET)).id, id, name);
    id += 2;
  }
  for (const [name, wrong, payload] of [
    ['an even id', 4, window(1)],
    ['an OPEN without a window', 101, Buffer.alloc(0)],
  ] as const) {
    made.send(frameType.OPEN, 0, wrong, 9, payload);
    t.equal((await made.next(frameType.RESET)).id, wrong, name);
  }
  made.send(frameType.OPEN, 0, 201, 10, window(1));
  t.equal((await made.next(frameType.RESET)).id, 201, 'a port nobody serves');
  for (const socket of sockets) socket.resume();
  await until(() => made.mux.stats().open === 0);
  t.ok(made.mux.stats().invalid >= 4);
});

t.test('a guest that asks and never listens costs a bounded memory', async (t) => {
  const made = await wild(t);
  await greet(made);
  made.line.pause();
  const before = process.memoryUsage().arrayBuffers;
  let stuck = false;
  for (let round = 0; round < 2000 && !stuck; round++) {
    // Ports nobody serves, and ids that are not the guest's: each is owed a RESET.
    for (let index = 0; index < 300; index++)
      made.send(frameType.OPEN, 0, index < 5 ? 1 + index * 2 : 2, 10, window(1));
    await tick();
    stuck = made.line.writableLength > 1 << 20;
  }
  t.ok(stuck, 'the host stops listening to it');
  const grown = process.memoryUsage().arrayBuffers - before;
  t.ok(grown < 16 << 20, `${grown} octets`);
});

t.test('an OPEN that is not answered times out', async (t) => {
  const made = await wild(t, { connectTimeoutMs: 1000 });
  await greet(made);
  const connecting = made.mux.connect(7);
  const opened = await made.next(frameType.OPEN);
  made.timers.advance(1000);
  await t.rejects(connecting, { code: 'ECONNREFUSED' });
  t.equal((await made.next(frameType.RESET)).id, opened.id);
  t.equal(made.mux.stats().timeouts, 1);
  t.equal(made.timers.size, 0, 'no timer is left');
});

t.test("streams are limited, and the guest cannot take the host's share", async (t) => {
  const made = await wild(t, { streams: 8 });
  await greet(made);
  await hostSocket(t, made, 9);
  for (let index = 0; index < 6; index++) {
    made.send(frameType.OPEN, 0, 1 + index * 2, 9, window(1));
    await made.next(frameType.ACCEPT);
  }
  made.send(frameType.OPEN, 0, 101, 9, window(1));
  t.equal((await made.next(frameType.RESET)).id, 101);
  for (let index = 0; index < 2; index++) {
    const connecting = made.mux.connect(7);
    const opened = await made.next(frameType.OPEN);
    made.send(frameType.ACCEPT, 0, opened.id, 1);
    (await connecting).on('error', () => {});
  }
  await t.rejects(made.mux.connect(7), { code: 'ECONNREFUSED' });
});

t.test('any frames at all: the lane stays whole, and an honest stream beside them is served', async (t) => {
  const made = await wild(t, { streams: 64, streamOctets: 16384 });
  await greet(made);
  const sockets = await hostSocket(t, made, 9);
  const connecting = made.mux.connect(7);
  const opened = await made.next(frameType.OPEN);
  made.send(frameType.ACCEPT, 0, opened.id, 1 << 30);
  const honest = await connecting;
  let received = 0;
  honest.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  const anyFrame = fc.record({
    type: fc.oneof(fc.integer({ min: 2, max: 7 }), fc.constantFrom(frameType.OPEN, frameType.DATA)),
    flags: fc.integer({ min: 0, max: 4 }),
    id: fc.integer({ min: 1, max: 12 }).filter((id) => id !== opened.id),
    value: fc.oneof(fc.constantFrom(0, 9, 9, 10, 0xffff_ffff), fc.nat()),
    octets: fc.constantFrom(0, 4, 4, 100, 20_000),
  });
  const hostAct = fc.constantFrom('nothing', 'write', 'end', 'destroy', 'read');
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(anyFrame, hostAct), { minLength: 1, maxLength: 60 }), async (steps) => {
      const before = received;
      let allowed = 0;
      for (const [{ type, flags, id, value, octets }, act] of steps) {
        made.send(type, flags, id, value, Buffer.alloc(octets, 1));
        const socket = sockets.at(-1);
        if (act === 'write') socket?.write(Buffer.alloc(3000));
        else if (act === 'end') socket?.end();
        else if (act === 'destroy') socket?.destroy();
        else if (act === 'read') socket?.resume();
        await tick();
      }
      allowed += made.frames.splice(0).length;
      if (allowed > 10_000) throw new Error('frames without end');
      made.send(frameType.DATA, 0, opened.id, 0, Buffer.alloc(4));
      await until(() => received === before + 4);
      if (made.mux.stats().open > 64 || made.mux.stats().lost > 0) throw new Error('out of bounds');
      for (let id = 1; id <= 12; id++) if (id !== opened.id) made.send(frameType.RESET, 0, id, 0);
      for (const socket of sockets.splice(0)) {
        socket.resume();
        socket.destroy();
      }
      await until(() => made.mux.stats().open === 1);
    }),
    { numRuns: 100 },
  );
  t.ok(honest.writable);
  honest.destroy();
});
