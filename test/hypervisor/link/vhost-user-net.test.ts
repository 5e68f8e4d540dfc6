/**
 * The vhost-user network link. Against a synthetic front end and driver: frames both ways, merged buffers, a guest that
 * lies, front ends that come and go. Against a kernel: the driver carries frames between a TAP in a namespace and the
 * virtqueues, so that a real TCP talks to a whole network, with and without offload.
 */

import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import os from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { EitherLink } from '../../../src/hypervisor/link/either-link.ts';
import { startHelper } from '../../../src/hypervisor/link/namespace-helper.ts';
import { QemuStreamLink } from '../../../src/hypervisor/link/qemu-stream.ts';
import { VhostUserNetLink, type VhostUserNetOptions } from '../../../src/hypervisor/link/vhost-user-net.ts';
import { Poller } from '../../../src/hypervisor/vhost-user/poller.ts';
import { acceptUnix, closeListener, listenUnix } from '../../../src/hypervisor/vhost-user/unix-socket.ts';
import { addressOfBuffer } from '../../../src/native/memory.ts';
import { EPOLLIN, read, write } from '../../../src/native/system-calls.ts';
import { Network } from '../../../src/network.ts';
import {
  CHECKSUM_PARTIAL,
  CHECKSUM_UNKNOWN,
  type FrameBatch,
  type LinkHandler,
  type LinkPort,
} from '../../../src/stack/port.ts';
import { ensureDebianPackages } from '../../../tools/debian.ts';
import { FrontEnd, type QueueBuffer } from '../vhost-user/front-end.ts';

ensureDebianPackages([
  { name: 'curl', proof: 'curl' },
  { name: 'util-linux', proof: 'nsenter' },
]);

const RX = 0;
const TX = 1;
const HEADER = 12;
const MRG_RXBUF = 1n << 15n;

interface Received {
  readonly bytes: Buffer;
  readonly checksum: number;
  readonly segmentOctets: number;
  readonly fragments: number;
  readonly firstOctets: number;
}

class Recorder implements LinkHandler {
  frames: Received[] = [];
  batches = 0;
  writableCalls = 0;
  desertedCalls = 0;
  closedCalls = 0;
  onInput: () => void = () => {};
  #waiting: { condition: () => boolean; resolve: () => void }[] = [];

  input(batch: FrameBatch): void {
    this.batches++;
    for (let i = 0; i < batch.count; i++) {
      const first = batch.first[i]!;
      const pieces = Array.from({ length: batch.fragments[i]! }, (_, n) => {
        const offset = batch.offset[first + n]!;
        return batch.arena[first + n]!.bytes.slice(offset, offset + batch.length[first + n]!);
      });
      this.frames.push({
        bytes: Buffer.concat(pieces),
        checksum: batch.checksum[i]!,
        segmentOctets: batch.segmentOctets[i]!,
        fragments: pieces.length,
        firstOctets: pieces[0]!.length,
      });
    }
    this.onInput();
    this.#happened();
  }

  writable(): void {
    this.writableCalls++;
    this.#happened();
  }

  deserted(): void {
    this.desertedCalls++;
    this.#happened();
  }

  closed(): void {
    this.closedCalls++;
  }

  #happened(): void {
    this.#waiting = this.#waiting.filter(({ condition, resolve }) => {
      if (condition()) resolve();
      return !condition();
    });
  }

  until(condition: () => boolean): Promise<void> {
    return condition() ? Promise.resolve() : new Promise((resolve) => this.#waiting.push({ condition, resolve }));
  }
}

/** A socket's path in a folder of its own. */
function socketPath(t: Test): string {
  const directory = fs.mkdtempSync(join(os.tmpdir(), 'vhost-net-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true }));
  return join(directory, 'socket');
}

function linked(t: Test, options: Partial<VhostUserNetOptions> = {}) {
  const path = socketPath(t);
  const log: string[] = [];
  const link = new VhostUserNetLink(path, { mtu: 1500, report: (line) => log.push(line), ...options });
  const recorder = new Recorder();
  link.start(recorder);
  t.teardown(() => link.close());
  const connect = async (
    without = 0n,
    sizes: readonly number[] = [256, 256],
    regions = 1,
    ramOctets?: number,
  ): Promise<FrontEnd> => {
    const frontEnd = new FrontEnd(path, sizes, ramOctets);
    t.teardown(() => frontEnd.close());
    await frontEnd.start(regions, without);
    return frontEnd;
  };
  return { path, link, recorder, log, connect };
}

interface Header {
  readonly flags?: number;
  readonly type?: number;
  readonly headerOctets?: number;
  readonly segmentOctets?: number;
  readonly start?: number;
  readonly offset?: number;
  readonly buffers?: number;
}

function header(fields: Header = {}): Buffer {
  const { flags = 0, type = 0, headerOctets = 0, segmentOctets = 0, start = 0, offset = 0, buffers = 0 } = fields;
  const bytes = Buffer.alloc(HEADER);
  bytes.writeUInt8(flags, 0);
  bytes.writeUInt8(type, 1);
  [headerOctets, segmentOctets, start, offset, buffers].forEach((value, i) => {
    bytes.writeUInt16LE(value, 2 + 2 * i);
  });
  return bytes;
}

/** Offers a frame, cut into pieces of these lengths and one for the rest, at places of guest memory that lie apart. */
function offer(frontEnd: FrontEnd, message: Buffer, cuts: readonly number[] = []): void {
  const buffers: QueueBuffer[] = [];
  let done = 0;
  for (const cut of [...cuts, message.length]) {
    const length = Math.min(cut, message.length - done);
    if (length === 0) break;
    const offset = frontEnd.ram.allocate(length + 3);
    frontEnd.ram.bytes.set(message.subarray(done, done + length), offset);
    buffers.push({ offset, length, writable: false });
    done += length;
  }
  frontEnd.queues[TX]!.add(buffers);
}

/** Offers a receive buffer; its chain's head. */
function offerBuffer(frontEnd: FrontEnd, ...lengths: number[]): { head: number; offsets: number[]; lengths: number[] } {
  const offsets = lengths.map((length) => frontEnd.ram.allocate(length));
  const head = frontEnd.queues[RX]!.add(offsets.map((offset, i) => ({ offset, length: lengths[i]!, writable: true })));
  return { head, offsets, lengths };
}

function send(link: LinkPort, frame: Buffer, start = 0, offset = 0, segmentOctets = 0): boolean {
  if (!link.reserve(frame.length)) return false;
  link.txArena.bytes.set(frame, link.txOffset);
  link.commit(frame.length, start, offset, segmentOctets);
  return true;
}

t.test('frames from the guest: headers copied, the rest in place, one batch', async (t) => {
  const { recorder, connect } = linked(t);
  const frontEnd = await connect(0n, [256, 256], 4);
  const [short, long] = [randomBytes(600), randomBytes(60_000)];
  offer(frontEnd, Buffer.concat([header(), short]));
  offer(frontEnd, Buffer.concat([header({ flags: 1, start: 34, offset: 16 }), short]), [HEADER]);
  offer(frontEnd, Buffer.concat([header({ flags: 2 }), short]), [1, 2, 3, 4, 5, 6]);
  const segmented = header({ flags: 1, type: 1, segmentOctets: 1448, start: 34, offset: 16 });
  offer(frontEnd, Buffer.concat([segmented, long]), [HEADER, 66, 4096, 30_000]);
  offer(frontEnd, Buffer.concat([header(), long]), Array(120).fill(7));
  offer(frontEnd, Buffer.concat([header(), short.subarray(0, 14)]));
  let returned = -1;
  recorder.onInput = () => {
    returned = frontEnd.queues[TX]!.takeUsed().length;
  };
  frontEnd.queues[TX]!.kick();
  await recorder.until(() => recorder.frames.length === 6);
  t.equal(recorder.batches, 1);
  t.equal(returned, 0, 'the guest has nothing back while its memory is read');
  t.same(
    recorder.frames.map(({ checksum, segmentOctets, fragments }) => [checksum, segmentOctets, fragments]),
    [
      [CHECKSUM_UNKNOWN, 0, 1],
      [CHECKSUM_PARTIAL, 0, 1],
      [CHECKSUM_UNKNOWN, 0, 1],
      [CHECKSUM_PARTIAL, 1448, 4],
      [CHECKSUM_UNKNOWN, 0, 1],
      [CHECKSUM_UNKNOWN, 0, 1],
    ],
  );
  t.equal(recorder.frames[3]!.firstOctets, 256);
  const sent = [short, short, short, long, long, short.subarray(0, 14)];
  t.ok(recorder.frames.every(({ bytes }, i) => bytes.equals(sent[i]!)));
  await new Promise(setImmediate);
  t.equal(frontEnd.queues[TX]!.takeUsed().length, 6, 'and everything afterwards');
});

t.test('frames to the guest: in place, over merged buffers, with headers', async (t) => {
  const { link, connect } = linked(t);
  t.equal(link.reserve(60), false, 'nobody is there');
  const frontEnd = await connect();
  t.same(link.offload, { checksum: true, segmentOctets: 65535 });
  const { bytes } = frontEnd.ram;
  const rx = frontEnd.queues[RX]!;
  const large = offerBuffer(frontEnd, 70_000);
  const split = offerBuffer(frontEnd, 12, 1000, 1000);
  const small = Array.from({ length: 6 }, () => offerBuffer(frontEnd, 100, 1436));
  const frame = randomBytes(1400);
  frame.writeUInt8(0x45, 14);
  frame.writeUInt8(0x50, 34 + 12);
  t.ok(send(link, frame, 34, 16, 700));
  t.ok(send(link, frame));
  const merged = randomBytes(5000);
  merged.writeUInt8(0x60, 14);
  merged.writeUInt8(0x50, 54 + 12);
  t.ok(send(link, merged, 54, 16, 1440));
  t.equal(rx.takeUsed().length, 0);
  // Reserved more than is sent: what is not needed stays.
  t.ok(link.reserve(1600));
  link.txArena.bytes.set(frame, link.txOffset);
  link.commit(60, 0, 0, 0);
  link.flush();
  const used = rx.takeUsed();
  t.same(
    used.map(({ head, length }) => [head, length]),
    [
      [large.head, 1412],
      [split.head, 1412],
      [small[0]!.head, 1536],
      [small[1]!.head, 1536],
      [small[2]!.head, 1536],
      [small[3]!.head, 5012 - 3 * 1536],
      [small[4]!.head, 72],
    ],
  );
  const read = ({ offsets, lengths }: { offsets: number[]; lengths: number[] }): Buffer =>
    Buffer.concat(offsets.map((offset, i) => bytes.slice(offset, offset + lengths[i]!)));
  const offloaded = header({
    flags: 1,
    type: 1,
    headerOctets: 54,
    segmentOctets: 700,
    start: 34,
    offset: 16,
    buffers: 1,
  });
  t.same(read(large).subarray(0, 1412), Buffer.concat([offloaded, frame]));
  t.same(read(split).subarray(0, 1412), Buffer.concat([header({ buffers: 1 }), frame]));
  const four = header({ flags: 1, type: 4, headerOctets: 74, segmentOctets: 1440, start: 54, offset: 16, buffers: 4 });
  t.same(Buffer.concat(small.slice(0, 4).map(read)).subarray(0, 5012), Buffer.concat([four, merged]));
  t.ok(send(link, frame), 'the sixth is still there');
  t.equal(send(link, frame), false, 'and no more');
});

t.test('a region of more than 4 GiB: frames far into it', async (t) => {
  const { link, recorder, connect } = linked(t);
  const frontEnd = await connect(0n, [16, 16], 1, 5 * 2 ** 30);
  const frames: Buffer[] = [];
  for (const skip of [2 ** 30, 2 ** 30 - 100_000, 2 ** 31]) {
    frontEnd.ram.allocate(skip);
    const frame = randomBytes(60_000);
    frames.push(frame);
    offer(frontEnd, Buffer.concat([header(), frame]), [HEADER, 100, 200, 20_000]);
    const { offsets } = offerBuffer(frontEnd, 70_000);
    t.ok(send(link, frame));
    t.ok(link.txOffset + frame.length < 2 ** 32, 'offsets have 32 bits');
    const at = offsets[0]! + HEADER;
    t.ok(frame.equals(frontEnd.ram.bytes.subarray(at, at + frame.length)));
  }
  frontEnd.queues[TX]!.kick();
  await recorder.until(() => recorder.frames.length === 3);
  t.ok(recorder.frames.every(({ bytes, fragments }, i) => fragments > 1 && bytes.equals(frames[i]!)));
});

t.test('no buffers: the stack waits and is told when the guest has offered some', async (t) => {
  const { link, recorder, connect } = linked(t);
  const frontEnd = await connect();
  const rx = frontEnd.queues[RX]!;
  const frame = randomBytes(3000);
  t.equal(send(link, frame), false);
  offerBuffer(frontEnd, 1536);
  rx.kick();
  await recorder.until(() => recorder.writableCalls === 1);
  t.equal(send(link, frame), false, 'half the room is none');
  offerBuffer(frontEnd, 1536);
  rx.kick();
  await recorder.until(() => recorder.writableCalls === 2);
  t.ok(send(link, frame));
  link.flush();
  t.equal(rx.takeUsed().length, 2);
  const { kicks } = rx;
  offerBuffer(frontEnd, 4000);
  rx.kick();
  t.equal(rx.kicks, kicks, 'who does not wait wants no kicks');
});

t.test('a driver that does not merge: a frame that no buffer holds is dropped and counted', async (t) => {
  const { link, connect } = linked(t, { offload: false });
  const frontEnd = await connect(MRG_RXBUF);
  t.same(link.offload, { checksum: false, segmentOctets: 0 });
  for (let i = 0; i < 3; i++) offerBuffer(frontEnd, 1536);
  t.ok(send(link, randomBytes(2000)));
  t.ok(send(link, randomBytes(1514)));
  link.flush();
  t.same(
    frontEnd.queues[RX]!.takeUsed().map(({ length }) => length),
    [1526],
  );
  t.equal(link.stats.oversizedFrames, 1);
});

t.test('chains without a frame are counted and come back', async (t) => {
  const { link, recorder, connect } = linked(t);
  const frontEnd = await connect();
  offer(frontEnd, Buffer.alloc(HEADER + 13));
  offer(frontEnd, Buffer.alloc(3));
  offer(frontEnd, Buffer.alloc(HEADER + 65_554));
  frontEnd.queues[TX]!.add([{ offset: 0, length: 100, writable: true }]);
  offer(frontEnd, Buffer.alloc(HEADER + 60));
  frontEnd.queues[TX]!.kick();
  await recorder.until(() => recorder.frames.length === 1);
  await new Promise(setImmediate);
  t.equal(link.stats.malformedFrames, 4);
  t.equal(frontEnd.queues[TX]!.takeUsed().length, 5);
});

t.test('a receive buffer that is none stops the queue, and a new driver starts afresh', async (t) => {
  const { link, log, connect } = linked(t);
  const frontEnd = await connect();
  frontEnd.queues[RX]!.add([{ offset: 0, length: 2000, writable: false }]);
  t.equal(send(link, randomBytes(60)), false);
  t.equal(link.stats.brokenQueues, 1);
  t.match(log.join(), /queue 0 stopped/);
  t.equal(send(link, randomBytes(60)), false);
  frontEnd.close();
  const next = await connect();
  offerBuffer(next, 2000);
  t.ok(send(link, randomBytes(60)));
});

t.test('whatever lies in the rings: nothing throws, sound frames before it arrive', async (t) => {
  const descriptor = fc.record({
    address: fc.oneof(fc.nat(1 << 25), fc.constant(0), fc.maxSafeNat()),
    length: fc.oneof(fc.nat(4000), fc.nat(0xffffffff)),
    flags: fc.nat(7),
    next: fc.nat(20),
  });
  const noise = fc.record({
    table: fc.array(descriptor, { minLength: 16, maxLength: 16 }),
    heads: fc.array(fc.nat(20), { maxLength: 12 }),
    queue: fc.constantFrom(RX, TX),
    ahead: fc.option(fc.nat(0xffff)),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(noise, { minLength: 1, maxLength: 3 }), async (rounds) => {
      const { link, connect } = linked(t);
      const frontEnd = await connect(0n, [16, 16]);
      for (const { table, heads, queue, ahead } of rounds) {
        const driver = frontEnd.queues[queue]!;
        table.forEach(({ address, length, flags, next }, i) => {
          driver.writeDescriptor(i, 0x1_0000_0000 + address, length, flags, next);
        });
        for (const head of heads) driver.offer(head);
        if (ahead !== null) driver.setAvailableIndex(ahead);
        driver.forceKick();
        for (const octets of [60, 1514, 60_000]) send(link, Buffer.alloc(octets));
        link.flush();
        // An answer means that the kick before it has been seen.
        await frontEnd.u64(1);
        await new Promise(setImmediate);
      }
      const { protocolErrors } = link.stats;
      link.close();
      frontEnd.close();
      return protocolErrors === 0;
    }),
    { numRuns: 60 },
  );
});

t.test('front ends come and go; one that stays away ends the flows; closing within a batch', async (t) => {
  const { link, recorder, connect, path } = linked(t, { desertedMs: 1 });
  t.equal(fs.statSync(path).mode & 0o777, 0o600);
  const first = await connect();
  offerBuffer(first, 2000);
  t.ok(link.reserve(60));
  first.close();
  await recorder.until(() => recorder.desertedCalls === 1);
  t.equal(link.reserve(60), false);
  link.commit(60, 0, 0, 0);
  link.flush();
  const second = await connect();
  await recorder.until(() => recorder.writableCalls === 1);
  offer(second, Buffer.concat([header(), randomBytes(60_000)]), [HEADER]);
  recorder.onInput = () => link.close();
  second.queues[TX]!.kick();
  await recorder.until(() => recorder.frames.length === 1);
  await second.closed;
  t.equal(recorder.closedCalls, 1);
  t.notOk(fs.existsSync(path));
});

t.test(
  'it dials a front end that listens, again and again; a driver that stops and stays keeps its flows',
  async (t) => {
    const { path, link, recorder, log } = linked(t, { dial: true, desertedMs: 1 });
    t.equal(link.attached, false);
    t.equal(link.reserve(60), false);
    const listener = listenUnix(path);
    t.teardown(() => closeListener(listener, path));
    const accept = async (): Promise<FrontEnd> => {
      let fd = acceptUnix(listener);
      for (; fd < 0; fd = acceptUnix(listener)) await new Promise((resolve) => setTimeout(resolve, 5));
      const frontEnd = new FrontEnd(fd, [256, 256]);
      t.teardown(() => frontEnd.close());
      await frontEnd.start();
      return frontEnd;
    };
    const first = await accept();
    t.equal(link.attached, true);
    offerBuffer(first, 2000);
    first.queues[RX]!.kick();
    await recorder.until(() => recorder.writableCalls === 1);
    for (const index of [RX, TX]) await first.stopQueue(index);
    await new Promise((resolve) => setTimeout(resolve, 20));
    t.equal(recorder.desertedCalls, 0, 'a paused guest');
    for (const index of [RX, TX]) await first.setQueue(index);
    t.ok(link.reserve(60), 'goes on');
    first.close();
    await recorder.until(() => recorder.desertedCalls === 1);
    const second = await accept();
    offer(second, Buffer.concat([header(), randomBytes(100)]));
    second.queues[TX]!.kick();
    await recorder.until(() => recorder.frames.length === 1);
    t.match(log, [/: connected$/, /hung up/, /: connected$/]);
    link.close();
    await second.closed;
  },
);

t.test('of a stream and vhost-user, frames go by the one that somebody answers', async (t) => {
  const directory = fs.mkdtempSync(join(os.tmpdir(), 'either-'));
  t.teardown(() => fs.rmSync(directory, { recursive: true }));
  const at = (name: string): string => join(directory, name);
  const stream = QemuStreamLink.connect(at('stream'), { mtu: 1500 });
  const dialled = new VhostUserNetLink(at('vhost'), { mtu: 1500, dial: true, desertedMs: 50 });
  const link = new EitherLink(stream, dialled);
  const recorder = new Recorder();
  link.start(recorder);
  t.teardown(() => link.close());
  t.equal(send(link, Buffer.alloc(60)), false);

  const listener = listenUnix(at('vhost'));
  let fd = -1;
  for (; fd < 0; fd = acceptUnix(listener)) await new Promise((resolve) => setTimeout(resolve, 5));
  const frontEnd = new FrontEnd(fd, [256, 256]);
  t.teardown(() => frontEnd.close());
  await frontEnd.start();
  offerBuffer(frontEnd, 2000);
  frontEnd.queues[RX]!.kick();
  await recorder.until(() => recorder.writableCalls > 0);
  t.match([link.attached, link.offload.segmentOctets], [true, 65535]);
  t.ok(send(link, Buffer.alloc(60, 1)));
  link.flush();
  t.equal(frontEnd.queues[RX]!.takeUsed()[0]!.length, HEADER + 60);

  const server = net.createServer().listen(at('stream'));
  const [socket] = (await once(server, 'connection')) as [net.Socket];
  closeListener(listener, at('vhost'));
  frontEnd.close();
  while (link.offload.checksum || !link.attached) await new Promise((resolve) => setTimeout(resolve, 5));
  t.ok(send(link, Buffer.alloc(60, 2)));
  link.flush();
  const [octets] = (await once(socket, 'data')) as [Buffer];
  t.same(octets, Buffer.concat([Buffer.from([0, 0, 0, 60]), Buffer.alloc(60, 2)]));
  socket.write(octets);
  await recorder.until(() => recorder.frames.length === 1);
  await new Promise((resolve) => setTimeout(resolve, 70));
  t.equal(recorder.desertedCalls, 0, 'somebody else has come');
  link.close();
  t.equal(recorder.closedCalls, 1);
  socket.destroy();
  server.close();
});

// A kernel behind the driver, in user and network namespaces of its own.

/** A driver whose frames come from and go to a TAP, as they are: its header is virtio's but for the count of buffers. */
function carry(t: Test, frontEnd: FrontEnd, tap: number, buffers: number, bufferOctets: number): void {
  const { ram } = frontEnd;
  const [rx, tx] = [frontEnd.queues[RX]!, frontEnd.queues[TX]!];
  const memory = new ArrayBuffer(70_000);
  const bytes = new Uint8Array(memory);
  const address = addressOfBuffer(memory);
  const places = Array.from({ length: 32 }, () => ram.allocate(70_000, 64));
  const inFlight = new Map<number, number>();
  let open = true;
  const fromTap = (): void => {
    // Asked for while the memory was there.
    if (!open) return;
    let offered = false;
    for (let place = places.pop(); place !== undefined; place = places.pop()) {
      const octets = read(tap, address, memory.byteLength);
      if (octets <= 0) {
        places.push(place);
        break;
      }
      ram.bytes.set(bytes.subarray(0, 10), place);
      ram.bytes.fill(0, place + 10, place + HEADER);
      ram.bytes.set(bytes.subarray(10, octets), place + HEADER);
      const pieces = [];
      for (let at = 0; at < octets + 2; at += 4096)
        pieces.push({ offset: place + at, length: Math.min(4096, octets + 2 - at), writable: false });
      inFlight.set(tx.add(pieces), place);
      offered = true;
    }
    if (offered) tx.kick();
  };
  const buffersAt = new Map<number, number>();
  const refill = (offset: number): void => {
    buffersAt.set(rx.add([{ offset, length: bufferOctets, writable: true }]), offset);
  };
  for (let i = 0; i < buffers; i++) refill(ram.allocate(bufferOctets, 64));
  rx.kick();
  const toTap = (): void => {
    // A head may be used anew by the first refill.
    const used = rx.takeUsed().map(({ head, length }) => ({ offset: buffersAt.get(head)!, length }));
    for (let i = 0; i < used.length; ) {
      const count = ram.view.getUint16(used[i]!.offset + 10, true);
      let end = 0;
      for (const { offset, length } of used.slice(i, i + count)) {
        bytes.set(ram.bytes.subarray(offset, offset + length), end);
        end += length;
      }
      bytes.copyWithin(10, HEADER, end);
      write(tap, address, end - 2);
      i += count;
    }
    for (const { offset } of used) refill(offset);
    if (used.length > 0) rx.kick();
  };
  frontEnd.onCall = (index) => {
    if (index === RX) {
      toTap();
      return;
    }
    for (const { head } of tx.takeUsed()) places.push(inFlight.get(head)!);
    fromTap();
  };
  const poller = new Poller();
  poller.add(tap, EPOLLIN, () => setImmediate(fromTap));
  t.teardown(() => {
    open = false;
    poller.close();
  });
}

function inside(pid: number, script: string): Promise<{ stdout: Buffer; failed: Error | null }> {
  const argv = [`--target=${pid}`, '--user', '--net', '--preserve-credentials', '--', 'sh', '-c', script];
  return new Promise((resolve) => {
    execFile('nsenter', argv, { encoding: 'buffer', maxBuffer: 64 << 20 }, (failed, stdout) => {
      resolve({ stdout, failed });
    });
  });
}

const sha256 = (octets: Buffer): string => createHash('sha256').update(octets).digest('hex');

async function sumOf(request: IncomingMessage): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of request) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

for (const [offload, merged, mtu] of [
  [true, true, 1500],
  [true, false, 1500],
  [false, true, 1500],
  [true, true, 65520],
] as const)
  t.test(`a kernel's TCP: MTU ${mtu}, ${offload ? '' : 'no '}offload, ${merged ? '' : 'not '}merged`, async (t) => {
    const content = randomBytes(8 << 20);
    const server = createServer(async (request, response) => {
      response.end(request.method === 'PUT' ? await sumOf(request) : content);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => server.close());
    const addresses = { address: '192.168.65.3', netmask: '255.255.255.0', gateway: '192.168.65.1', mtu };
    const enter = ['unshare', '--user', '--map-root-user', '--net', '--'];
    const helper = startHelper(enter, { name: 'tap0', offload, addresses }, ['sleep', '600']);
    t.teardown(() => helper.child.kill('SIGKILL'));
    const { fd } = await helper.tap;
    helper.go();

    const path = socketPath(t);
    const network = new Network({ subnet: '192.168.65.0/24', mtu });
    t.teardown(() => network.close());
    const link = new VhostUserNetLink(path, { mtu, offload });
    let [segments, fragments] = [0, 0];
    const start = link.start.bind(link);
    link.start = (handler) =>
      start({
        writable: () => handler.writable(),
        closed: (error) => handler.closed(error),
        input: (batch) => {
          for (let i = 0; i < batch.count; i++) {
            if (batch.segmentOctets[i]! > 0) segments++;
            if (batch.fragments[i]! > 1) fragments++;
          }
          handler.input(batch);
        },
      });
    network.attach(link);
    const frontEnd = new FrontEnd(path, [256, 1024]);
    t.teardown(() => frontEnd.close());
    await frontEnd.start(1, merged ? 0n : MRG_RXBUF);
    carry(t, frontEnd, fd, merged ? 250 : 60, merged ? 1536 : 66_000);

    const url = `http://192.168.65.2:${(server.address() as AddressInfo).port}/`;
    const got = await inside(helper.child.pid!, `curl -sS --max-time 60 ${url}`);
    t.equal(got.failed, null);
    t.equal(sha256(got.stdout), sha256(content), 'down, octet for octet');
    const put = await inside(helper.child.pid!, `curl -sS -m 60 ${url} | curl -sS -m 60 -T - ${url}`);
    t.equal(put.failed, null);
    t.equal(put.stdout.toString(), sha256(content), 'up, octet for octet');
    if (offload && mtu === 1500) t.ok(segments > 50 && fragments > 50, `${segments} whole segments, in place`);
    const wrong = Object.entries(network.drops()).filter(([why, count]) => /checksum|malformed/.test(why) && count > 0);
    t.same(wrong, [], 'no sum is wrong');
    const { brokenQueues, malformedFrames, oversizedFrames } = link.stats;
    t.same([brokenQueues, malformedFrames, oversizedFrames], [0, 0, 0]);
  });
