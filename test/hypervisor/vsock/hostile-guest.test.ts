import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { VsockDevice } from '../../../src/hypervisor/vsock/device.ts';
import type { StreamLimits } from '../../../src/hypervisor/vsock/limits.ts';
import { emptyHeader, op, type PacketHeader } from '../../../src/hypervisor/vsock/packet.ts';
import { FakeTimers } from './fake-timers.ts';
import { SyntheticGuest } from './synthetic-guest.ts';

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await tick();
}

interface Rig {
  readonly directory: string;
  readonly device: VsockDevice;
  readonly guest: SyntheticGuest;
  readonly timers: FakeTimers;
  readonly log: string[];
  /** Packets from the host, when `keep` is set: the stack does not see them. */
  readonly packets: { header: PacketHeader; data: Buffer }[];
  keep: boolean;
  send(fields: Partial<PacketHeader>, data?: Uint8Array): void;
  /** The next packet from the host. */
  next(): Promise<PacketHeader>;
}

async function rig(t: Test, limits: Partial<StreamLimits> = {}): Promise<Rig> {
  const directory = fs.mkdtempSync(join(os.tmpdir(), 'vsock-'));
  const timers = new FakeTimers();
  const log: string[] = [];
  const device = new VsockDevice({
    socketPath: join(directory, 'vhost'),
    directory,
    limits,
    timers,
    log: (line) => log.push(line),
  });
  device.start();
  const guest = new SyntheticGuest(join(directory, 'vhost'));
  await guest.start();
  const made: Rig = {
    directory,
    device,
    guest,
    timers,
    log,
    packets: [],
    keep: true,
    send: (fields, data) => guest.raw({ ...emptyHeader(), bufAlloc: 65536, ...fields }, data),
    next: async () => {
      await until(() => made.packets.length > 0);
      return made.packets.shift()!.header;
    },
  };
  guest.intercept = (header, data) => {
    if (made.keep) made.packets.push({ header, data });
    return made.keep;
  };
  t.teardown(() => {
    guest.close();
    device.close();
    fs.rmSync(directory, { recursive: true });
  });
  return made;
}

async function listen(t: Test, directory: string, port: number): Promise<net.Socket[]> {
  const sockets: net.Socket[] = [];
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    socket.on('error', () => {});
    sockets.push(socket);
  });
  server.listen(join(directory, `00000002.${port.toString(16).padStart(8, '0')}`));
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return sockets;
}

/** A stream the guest opens to host port 9, by hand. */
async function open(made: Rig, srcPort: number): Promise<PacketHeader> {
  made.send({ op: op.REQUEST, srcPort, dstPort: 9 });
  const answer = await made.next();
  if (answer.op !== op.RESPONSE) throw new Error(`operation ${answer.op} instead of RESPONSE`);
  return answer;
}

t.test('5.10.6: packets out of place are answered RST or dropped', async (t) => {
  const made = await rig(t);
  const { device, guest } = made;
  await listen(t, made.directory, 9);
  const ports = { srcPort: 1, dstPort: 9 };
  for (const [name, fields, data] of [
    ['data without a connection', { ...ports, op: op.RW }, Buffer.alloc(10)],
    ['a response without a request', { ...ports, op: op.RESPONSE }, undefined],
    ['shutdown without a connection', { ...ports, op: op.SHUTDOWN, flags: 3 }, undefined],
    ['a credit update without a connection', { ...ports, op: op.CREDIT_UPDATE }, undefined],
    ['an unknown operation', { ...ports, op: 99 }, undefined],
    ['a request for a port nobody serves', { srcPort: 1, dstPort: 10, op: op.REQUEST }, undefined],
  ] as const) {
    made.send(fields, data);
    const answer = await made.next();
    t.same([answer.op, answer.srcPort, answer.dstPort], [op.RST, fields.dstPort, 1], name);
  }
  // A RST is never answered with another; foreign addresses are not answered at all.
  made.send({ ...ports, op: op.RST });
  const foreign = { ...emptyHeader(), ...ports, op: op.RW };
  guest.raw({ ...foreign, srcCid: 4, dstCid: 2 }, undefined, true);
  guest.raw({ ...foreign, srcCid: 3, dstCid: 3 }, undefined, true);
  guest.raw({ ...foreign, srcCid: 3, dstCid: 2, type: 2 }, undefined, true);
  const seqpacket = await made.next();
  t.equal(seqpacket.op, op.RST, 'another socket type is refused');
  guest.raw({ ...foreign, srcCid: 3, dstCid: 2, len: 1 << 30 }, undefined, true);
  t.equal((await made.next()).op, op.RST, 'more length than data');
  t.equal(device.stats()!.invalid, 4);
  t.equal(device.stats()!.open, 0);
});

t.test('5.10.6: what a stream may not do ends it', async (t) => {
  const made = await rig(t, { streamOctets: 65536 });
  const { device } = made;
  const sockets = await listen(t, made.directory, 9);
  const cases: Record<string, (ports: { srcPort: number; dstPort: number }) => void> = {
    'a second request': (ports) => made.send({ ...ports, op: op.REQUEST }),
    'a response to nothing': (ports) => made.send({ ...ports, op: op.RESPONSE }),
    'an unknown operation': (ports) => made.send({ ...ports, op: 0 }),
    'data after the end': (ports) => {
      made.send({ ...ports, op: op.SHUTDOWN, flags: 2 });
      made.send({ ...ports, op: op.RW }, Buffer.alloc(1));
    },
    'both ends': (ports) => made.send({ ...ports, op: op.SHUTDOWN, flags: 3 }),
  };
  let port = 100;
  for (const [name, spoil] of Object.entries(cases)) {
    await open(made, ++port);
    spoil({ srcPort: port, dstPort: 9 });
    const answer = await made.next();
    t.same([answer.op, answer.srcPort, answer.dstPort], [op.RST, 9, port], name);
  }
  await until(() => device.stats()!.open === 0);

  const { bufAlloc } = await open(made, 200);
  t.equal(bufAlloc, 65536);
  await until(() => sockets.length === 6);
  // Nobody reads: the kernel takes some, the device what it gave credit for, and no octet more.
  let fwdCnt = 0;
  let sent = 0;
  for (;;) {
    for (const { header } of made.packets) if (header.op !== op.RST) fwdCnt = header.fwdCnt;
    if (made.packets.some(({ header }) => header.op === op.RST)) break;
    made.packets.length = 0;
    made.send({ srcPort: 200, dstPort: 9, op: op.RW }, Buffer.alloc(4096));
    sent += 4096;
    await tick();
    await tick();
  }
  t.ok(sent - fwdCnt > bufAlloc, `ended at ${sent - fwdCnt} octets ahead`);
  sockets.at(-1)!.resume();
  await until(() => device.stats()!.open === 0);
  const arrived = device.stats()!.octetsFromGuest;
  t.ok(arrived <= sent - 4096 && arrived >= sent - 2 * 65536, 'what was within credit has arrived');
});

t.test('a flood with nowhere to put the answers waits, and costs a bounded memory', async (t) => {
  const made = await rig(t);
  const { device, guest } = made;
  const { queues, ram } = guest.frontEnd;
  // Every receive buffer is kept: the guest gives none back.
  guest.intercept = () => true;
  guest.holdReceiveBuffers = true;
  for (let index = 0; index < 3000; index++) made.send({ srcPort: index, dstPort: 1, op: op.RW });
  for (let index = 0; index < 200; index++) await tick();
  const taken = ram.view.getUint16(queues[1]!.used + 2, true);
  t.ok(taken < 1000, `the device took ${taken} packets and stopped`);
  guest.holdReceiveBuffers = false;
  guest.offerHeldBuffers();
  let resets = 0;
  guest.intercept = (header) => {
    if (header.op === op.RST) resets++;
    return true;
  };
  await until(() => resets + 64 >= 3000);
  t.pass('and all are answered once there is room');
  t.equal(device.stats()!.brokenQueues, 0);
});

t.test('a guest that answers nothing: the request times out, the end is not waited for', async (t) => {
  const made = await rig(t, { connectTimeoutMs: 1000, lingerMs: 5000 });
  const { device, timers } = made;
  const connecting = device.connect(7);
  const request = await made.next();
  t.equal(request.op, op.REQUEST);
  timers.advance(999);
  t.equal(device.stats()!.open, 1);
  timers.advance(1);
  await t.rejects(connecting, { code: 'ECONNREFUSED' });
  t.equal((await made.next()).op, op.RST);
  t.equal(device.stats()!.timeouts, 1);

  const again = device.connect(7);
  const second = await made.next();
  made.send({ srcPort: 7, dstPort: second.srcPort, op: op.RESPONSE });
  const socket = await again;
  socket.destroy();
  const shutdown = await made.next();
  t.same([shutdown.op, shutdown.flags], [op.SHUTDOWN, 3]);
  t.equal(device.stats()!.open, 1, 'lingers for the guest');
  timers.advance(4999);
  t.equal(device.stats()!.open, 1);
  timers.advance(1);
  t.equal((await made.next()).op, op.RST);
  t.equal(device.stats()!.open, 0);
  t.equal(timers.size, 0, 'no timer is left');
});

t.test('a silent client of the connect socket is dropped', async (t) => {
  const made = await rig(t, { connectTimeoutMs: 1000 });
  const client = net.connect(join(made.directory, 'connect'));
  client.write('CONN');
  client.on('error', () => {});
  await until(() => made.timers.size === 1);
  made.timers.advance(1000);
  await new Promise((resolve) => client.once('close', resolve));
  t.pass('dropped');
});

t.test("streams are limited: the guest cannot take the host's share, and ends make room", async (t) => {
  const made = await rig(t, { streams: 8 });
  const { device } = made;
  await listen(t, made.directory, 9);
  for (let index = 0; index < 6; index++) await open(made, 100 + index);
  made.send({ op: op.REQUEST, srcPort: 200, dstPort: 9 });
  t.equal((await made.next()).op, op.RST, 'a seventh is refused');
  const accept = async (): Promise<Duplex> => {
    const connecting = device.connect(7);
    const request = await made.next();
    made.send({ srcPort: 7, dstPort: request.srcPort, op: op.RESPONSE });
    return connecting;
  };
  const first = await accept();
  const second = await accept();
  await t.rejects(device.connect(7), { code: 'ECONNREFUSED' }, 'all are taken');
  first.destroy();
  t.equal((await made.next()).op, op.SHUTDOWN);
  const third = device.connect(7);
  t.equal((await made.next()).op, op.RST, 'the one that lingers makes room');
  const request = await made.next();
  t.equal(request.op, op.REQUEST);
  made.send({ srcPort: 7, dstPort: request.srcPort, op: op.RESPONSE });
  for (const socket of [second, await third]) socket.destroy();
});

t.test('the driver goes: the host reads the end of everything, and a new driver starts afresh', async (t) => {
  const made = await rig(t);
  const { device, guest } = made;
  made.keep = false;
  guest.listen(7, (stream) => stream.pipe(stream));
  const sockets = await Promise.all([device.connect(7), device.connect(7)]);
  const ends = sockets.map((socket) => {
    socket.resume();
    return once(socket, 'end');
  });
  await guest.frontEnd.stopQueue(0);
  await Promise.all(ends);
  t.equal(device.stats()!.open, 0);
  t.notOk(device.stats()!.running);
  await t.rejects(device.connect(7), { code: 'ECONNREFUSED' }, 'nobody runs there');
  guest.close();
  const next = new SyntheticGuest(join(made.directory, 'vhost'));
  t.teardown(() => next.close());
  await next.start();
  next.listen(7, (stream) => stream.pipe(stream));
  const socket = await device.connect(7);
  socket.write('hello');
  const [echo] = (await once(socket, 'data')) as [Buffer];
  t.equal(echo.toString(), 'hello');
  for (const each of [...sockets, socket]) each.destroy();
});

t.test('a machine that stands still keeps its streams', async (t) => {
  const made = await rig(t);
  const { device, guest } = made;
  made.keep = false;
  guest.listen(7, (stream) => stream.pipe(stream));
  const socket = await device.connect(7);
  t.teardown(() => socket.destroy());
  let echoed = '';
  socket.on('data', (octets) => {
    echoed += octets;
  });
  socket.write('before ');
  await until(() => echoed === 'before ');
  device.hold(true);
  const bases = [await guest.frontEnd.stopQueue(0), await guest.frontEnd.stopQueue(1)];
  t.equal(device.stats()!.open, 1);
  socket.write('meanwhile ');
  for (const index of [0, 1]) await guest.frontEnd.setQueue(index, bases[index]!);
  device.hold(false);
  await until(() => echoed === 'before meanwhile ');
  socket.end('after');
  await once(socket, 'end');
  t.equal(echoed, 'before meanwhile after');

  const last = await device.connect(7);
  t.teardown(() => last.destroy());
  device.hold(true);
  made.guest.frontEnd.close();
  await once(last.resume(), 'end');
  t.equal(device.stats()!.open, 0, 'but not when it goes');
});

t.test('a queue the guest breaks ends its streams', async (t) => {
  const made = await rig(t);
  const { device, guest, log } = made;
  made.keep = false;
  guest.listen(7, (stream) => stream.pipe(stream));
  const socket = await device.connect(7);
  socket.resume();
  const ended = once(socket, 'end');
  guest.frontEnd.queues[1]!.offer(999);
  guest.frontEnd.queues[1]!.forceKick();
  await ended;
  t.equal(device.stats()!.brokenQueues, 1);
  t.match(log[0], /queue 1 stopped/);
  t.notOk(device.stats()!.running);
  socket.destroy();
});

t.test('any packets at all: the device stays whole, and an honest stream beside them is served', async (t) => {
  const made = await rig(t, { streams: 64, streamOctets: 16384, totalOctets: 1 << 20 });
  const { device, guest } = made;
  const sockets = await listen(t, made.directory, 9);
  made.keep = false;
  guest.listen(7, (stream) => stream.pipe(stream));
  const problems: string[] = [];
  const honest = await device.connect(7);
  honest.on('error', (error) => problems.push(error.message));
  let echoed = 0;
  honest.on('data', (chunk: Buffer) => {
    echoed += chunk.length;
  });
  guest.intercept = (header) => {
    if (header.srcCid !== 2 || header.dstCid !== 3 || header.type !== 1) problems.push(JSON.stringify(header));
    return header.dstPort < 64 && header.dstPort !== 7;
  };
  const packet = fc.record({
    srcPort: fc.integer({ min: 0, max: 6 }),
    dstPort: fc.constantFrom(9, 9, 9, 10, 0x4000_0000),
    op: fc.oneof(fc.integer({ min: 0, max: 8 }), fc.constantFrom(op.REQUEST, op.RW, op.SHUTDOWN)),
    flags: fc.integer({ min: 0, max: 4 }),
    bufAlloc: fc.oneof(fc.constantFrom(0, 1, 65536, 0xffff_ffff), fc.nat()),
    fwdCnt: fc.oneof(fc.constantFrom(0, 1, 0xffff_ffff), fc.nat()),
    type: fc.constantFrom(1, 1, 1, 1, 2),
    extra: fc.constantFrom(0, 0, 0, 0, 1, 1 << 30),
    octets: fc.constantFrom(0, 1, 100, 5000, 20000),
  });
  const hostAct = fc.constantFrom('nothing', 'write', 'end', 'destroy', 'read');
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(packet, hostAct), { minLength: 1, maxLength: 60 }), async (steps) => {
      const before = echoed;
      for (const [{ octets, extra, ...fields }, act] of steps) {
        const header = { ...emptyHeader(), ...fields, srcCid: 3, dstCid: 2, len: octets + extra };
        guest.raw(header, Buffer.alloc(octets), true);
        const socket = sockets.at(-1);
        if (act === 'write') socket?.write(Buffer.alloc(3000));
        else if (act === 'end') socket?.end();
        else if (act === 'destroy') socket?.destroy();
        else if (act === 'read') socket?.resume();
        await tick();
      }
      honest.write('ping');
      await until(() => echoed === before + 4);
      if (problems.length > 0) throw new Error(problems.join('\n'));
      const { open, protocolErrors, brokenQueues } = device.stats()!;
      if (open > 64 || protocolErrors + brokenQueues > 0) throw new Error(`${open} streams`);
      // Reboot of the hostile half: everything of it ends.
      for (let srcPort = 0; srcPort <= 6; srcPort++)
        for (const dstPort of [9, 10]) made.send({ srcPort, dstPort, op: op.RST });
      for (const socket of sockets.splice(0)) {
        socket.resume();
        socket.destroy();
      }
      await until(() => device.stats()!.open === 1);
    }),
    { numRuns: 150 },
  );
  t.same(problems, []);
  honest.destroy();
});
