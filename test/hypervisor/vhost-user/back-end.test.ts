import fs from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { VhostUserBackEnd } from '../../../src/hypervisor/vhost-user/back-end.ts';
import type { VhostUserDevice } from '../../../src/hypervisor/vhost-user/device.ts';
import { request } from '../../../src/hypervisor/vhost-user/message.ts';
import { Poller } from '../../../src/hypervisor/vhost-user/poller.ts';
import { DescriptorChain, type Virtqueue } from '../../../src/hypervisor/vhost-user/virtqueue.ts';
import { FrontEnd } from './front-end.ts';

/** Adds one to each octet of a chain's readable part into its writable part. */
class IncrementDevice implements VhostUserDevice {
  readonly name = 'increment';
  readonly queueCount = 2;
  readonly features = 1n << 5n;
  readonly config = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  accepted = 0n;
  readonly queues: (Virtqueue | undefined)[] = [];
  readonly #chain = new DescriptorChain();

  negotiated(features: bigint): void {
    this.accepted = features;
  }

  queueStarted(index: number, queue: Virtqueue): void {
    this.queues[index] = queue;
    this.kicked(index);
  }

  queueStopped(index: number): void {
    this.queues[index] = undefined;
  }

  kicked(index: number): void {
    const queue = this.queues[index];
    const chain = this.#chain;
    while (queue?.pop(chain)) {
      const [from, to] = chain.fragments;
      for (let at = 0; at < from!.length; at++)
        to!.region.bytes[to!.offset + at] = from!.region.bytes[from!.offset + at]! + 1;
      queue.push(chain, from!.length);
    }
    queue?.publish();
  }
}

interface Rig {
  readonly path: string;
  readonly device: IncrementDevice;
  readonly backEnd: VhostUserBackEnd;
  readonly log: string[];
  connect(queueSizes?: readonly number[]): FrontEnd;
}

function rig(t: Test): Rig {
  const directory = fs.mkdtempSync(join(os.tmpdir(), 'vhost-'));
  const path = join(directory, 'socket');
  const device = new IncrementDevice();
  const log: string[] = [];
  const poller = new Poller();
  const backEnd = new VhostUserBackEnd({ socketPath: path, device, poller, log: (line) => log.push(line) });
  backEnd.start();
  const frontEnds: FrontEnd[] = [];
  t.teardown(() => {
    for (const frontEnd of frontEnds) frontEnd.close();
    backEnd.close();
    poller.close();
    fs.rmSync(directory, { recursive: true });
  });
  return {
    path,
    device,
    backEnd,
    log,
    connect: (queueSizes = [8, 8]) => {
      const frontEnd = new FrontEnd(path, queueSizes, 1 << 20);
      frontEnds.push(frontEnd);
      return frontEnd;
    },
  };
}

/** Sends a chain through queue `index`; what the device wrote. */
async function increment(frontEnd: FrontEnd, index: number, octets: readonly number[]): Promise<number[]> {
  const { ram, queues } = frontEnd;
  const from = ram.allocate(octets.length);
  const to = ram.allocate(octets.length);
  ram.bytes.set(octets, from);
  queues[index]!.add([
    { offset: from, length: octets.length, writable: false },
    { offset: to, length: octets.length, writable: true },
  ]);
  const called = new Promise<void>((resolve) => {
    frontEnd.onCall = () => resolve();
  });
  queues[index]!.kick();
  await called;
  queues[index]!.takeUsed();
  return [...ram.bytes.subarray(to, to + octets.length)];
}

const descriptors = (): number => fs.readdirSync('/proc/self/fd').length;

t.test('a front end starts the device, stops and starts it, changes its memory', async (t) => {
  const { device, connect, log } = rig(t);
  const frontEnd = connect();
  await frontEnd.start();
  t.equal(device.accepted, (1n << 5n) | (1n << 28n) | (1n << 30n) | (1n << 32n));
  t.same(await increment(frontEnd, 0, [1, 2, 3]), [2, 3, 4]);
  t.same(await increment(frontEnd, 1, [4]), [5]);

  t.equal(await frontEnd.stopQueue(0), 1, 'GET_VRING_BASE gives the next available index');
  t.equal(device.queues[0], undefined);
  await frontEnd.setQueue(0, 1);
  t.same(await increment(frontEnd, 0, [7]), [8], 'and the queue goes on from there');

  t.ok(await frontEnd.setMemory(frontEnd.ram.octets, 2), 'a new memory table under a running queue');
  t.same(await increment(frontEnd, 0, [9]), [10]);

  await frontEnd.ring(request.SET_VRING_ENABLE, 1, 0);
  t.equal(device.queues[1], undefined, 'a disabled queue stops');
  await frontEnd.ring(request.SET_VRING_ENABLE, 1, 1);
  t.same(await increment(frontEnd, 1, [1]), [2]);

  const config = new Uint8Array(12 + 8);
  new DataView(config.buffer).setUint32(0, 4, true);
  new DataView(config.buffer).setUint32(4, 8, true);
  const reply = await frontEnd.call(request.GET_CONFIG, config, [], true);
  t.same([...new Uint8Array(reply!.payload.buffer).subarray(12)], [5, 6, 7, 8, 0, 0, 0, 0]);
  t.same(log, []);
});

t.test('a queue the guest breaks is counted, and works again once reset', async (t) => {
  const { backEnd, connect, log } = rig(t);
  const frontEnd = connect();
  await frontEnd.start();
  frontEnd.queues[0]!.offer(77);
  frontEnd.queues[0]!.kick();
  while (backEnd.stats.brokenQueues === 0) await new Promise((resolve) => setImmediate(resolve));
  t.match(log[0], /queue 0 stopped until the guest resets it: descriptor 77/);
  t.same(await increment(frontEnd, 1, [1]), [2], 'the other queue works on');
  await frontEnd.stopQueue(0);
  await frontEnd.setQueue(0, 1);
  t.same(await increment(frontEnd, 0, [1]), [2]);
});

t.test('a front end may go and come back; a second replaces the first', async (t) => {
  const { connect, device, backEnd } = rig(t);
  const before = descriptors();
  for (let round = 0; round < 3; round++) {
    const frontEnd = connect();
    await frontEnd.start();
    t.same(await increment(frontEnd, 0, [round]), [round + 1]);
    if (round === 1) {
      const second = connect();
      await second.start();
      await frontEnd.closed;
      t.same(await increment(second, 0, [9]), [10]);
      second.close();
    }
    frontEnd.close();
    while (backEnd.connected) await new Promise((resolve) => setImmediate(resolve));
    t.same(device.queues, [undefined, undefined]);
  }
  t.equal(descriptors(), before, 'no descriptor is left');
});

t.test('messages that make no sense end the connection, with a reason', async (t) => {
  const words = (...values: number[]): Uint8Array => new Uint8Array(new Uint32Array(values).buffer);
  const cases: Record<string, (frontEnd: FrontEnd) => void | Promise<void>> = {
    'a request that was not negotiated': (frontEnd) => void frontEnd.call(99, words()),
    'features not offered': (frontEnd) => void frontEnd.call(request.SET_FEATURES, words(0xffff_ffff, 0)),
    'a short payload': (frontEnd) => void frontEnd.call(request.SET_FEATURES, words(1)),
    'a queue that is not': (frontEnd) => void frontEnd.ring(request.SET_VRING_NUM, 2, 8),
    'a queue of no power of two': (frontEnd) => void frontEnd.ring(request.SET_VRING_NUM, 0, 7),
    'a queue too large': (frontEnd) => void frontEnd.ring(request.SET_VRING_NUM, 0, 32768),
    'a memory table without descriptors': (frontEnd) =>
      void frontEnd.call(request.SET_MEM_TABLE, words(1, 0, ...Array<number>(8).fill(0))),
    'a memory table beyond its file': (frontEnd) => void frontEnd.setMemory(frontEnd.ram.octets * 2),
    'more regions than fit': (frontEnd) =>
      void frontEnd.call(request.SET_MEM_TABLE, words(9, 0, ...Array<number>(72).fill(1))),
    'a configuration of no octets': (frontEnd) => void frontEnd.call(request.GET_CONFIG, words(0, 0, 0)),
    'a kick for a queue that is not': (frontEnd) =>
      void frontEnd.call(request.SET_VRING_KICK, words(200, 0), [frontEnd.ram.fd]),
    'rings outside memory': async (frontEnd) => {
      await frontEnd.start();
      await frontEnd.stopQueue(0);
      await frontEnd.call(request.SET_VRING_ADDR, new Uint8Array(40));
      void frontEnd.u64(request.SET_VRING_KICK, 0n, [frontEnd.queues[0]!.kickFd]);
    },
    'a message of a megabyte': (frontEnd) => void frontEnd.call(1, new Uint8Array(1 << 20)),
  };
  const { connect, log, backEnd } = rig(t);
  const before = descriptors();
  for (const [name, send] of Object.entries(cases)) {
    const frontEnd = connect();
    await send(frontEnd);
    await frontEnd.closed;
    t.ok(log.length > 0, `${name}: ${log.splice(0).join('; ')}`);
    frontEnd.close();
  }
  while (backEnd.connected) await new Promise((resolve) => setImmediate(resolve));
  t.equal(descriptors(), before, 'no descriptor is left');
  const frontEnd = connect();
  await frontEnd.start();
  t.same(await increment(frontEnd, 0, [1]), [2], 'and the next front end is served');
});

t.test('any messages at all', async (t) => {
  const { connect, backEnd } = rig(t);
  const before = descriptors();
  const message = fc.record({
    code: fc.oneof(fc.constantFrom(...Object.values(request)), fc.integer({ min: 0, max: 64 })),
    payload: fc.oneof(
      fc.uint8Array({ maxLength: 64 }),
      fc
        .tuple(fc.integer({ min: 0, max: 2 }), fc.constantFrom(0, 1, 8, 256))
        .map(([index, value]) => new Uint8Array(new Uint32Array([index, value]).buffer)),
    ),
    fds: fc.integer({ min: 0, max: 8 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(message, { minLength: 1, maxLength: 12 }), fc.boolean(), async (messages, started) => {
      const frontEnd = connect();
      if (started) await frontEnd.start();
      for (const { code, payload, fds } of messages) {
        const sent = frontEnd.call(
          code,
          payload,
          Array.from({ length: fds }, () => frontEnd.ram.fd),
        );
        // A request that has a reply of its own may be answered once, or the connection ends.
        await Promise.race([sent, frontEnd.closed, new Promise((resolve) => setImmediate(resolve))]);
      }
      frontEnd.close();
      while (backEnd.connected) await new Promise((resolve) => setImmediate(resolve));
    }),
    { numRuns: 150 },
  );
  t.equal(descriptors(), before, 'no descriptor is left');
  const frontEnd = connect();
  await frontEnd.start();
  t.same(await increment(frontEnd, 0, [1]), [2], 'and the next front end is served');
});

t.test('a path too long, or not a socket, or in use, is told with its remedy', async (t) => {
  const { path, device } = rig(t);
  const poller = new Poller();
  t.teardown(() => poller.close());
  const start = (socketPath: string) => () =>
    new VhostUserBackEnd({ socketPath, device, poller, log: () => {} }).start();
  t.throws(start(`/tmp/${'x'.repeat(100)}`), /105 octets, a unix socket takes 104: choose a shorter directory/);
  t.throws(start(path), /in use by another process: stop it first/);
  t.throws(start('/dev/null'), /exists and is not a socket: move it away/);
  t.throws(start('/nonexistent/socket'), /cannot listen on \/nonexistent\/socket: ENOENT/);
  t.equal(fs.statSync(path).mode & 0o777, 0o600);
});
