/**
 * The TAP link. Over a pair of message sockets in a TAP's stead: headers both ways, any frames, a device that is full,
 * gone or hostile. Over a real TAP in a namespace: the kernel's own stack, with and without offload.
 */

import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { messageSocketPair } from '../../../src/hypervisor/link/descriptor-passing.ts';
import { type Helper, startHelper } from '../../../src/hypervisor/link/namespace-helper.ts';
import { TapLink } from '../../../src/hypervisor/link/tap.ts';
import { openTap, VNET_HEADER_OCTETS } from '../../../src/hypervisor/link/tap-device.ts';
import { openTapIn } from '../../../src/hypervisor/link/tap-namespace.ts';
import { addressOfBuffer } from '../../../src/native/memory.ts';
import { close, EAGAIN, MSG_DONTWAIT, recv, write } from '../../../src/native/system-calls.ts';
import { Network } from '../../../src/network.ts';
import {
  CHECKSUM_PARTIAL,
  CHECKSUM_UNKNOWN,
  CHECKSUM_VERIFIED,
  type FrameBatch,
  type LinkHandler,
  type LinkPort,
} from '../../../src/stack/port.ts';
import { ensureDebianPackages } from '../../../tools/debian.ts';

ensureDebianPackages([
  { name: 'curl', proof: 'curl' },
  { name: 'iproute2', proof: 'ip' },
  { name: 'util-linux', proof: 'nsenter' },
]);

interface Received {
  readonly bytes: Buffer;
  readonly checksum: number;
  readonly segmentOctets: number;
}

/** Keeps copies of the frames that arrive. */
class Recorder implements LinkHandler {
  frames: Received[] = [];
  writableCalls = 0;
  closedWith: (Error | undefined)[] = [];
  #waiting: { condition: () => boolean; resolve: () => void }[] = [];

  input(batch: FrameBatch): void {
    for (let i = 0; i < batch.count; i++) {
      const f = batch.first[i]!;
      const bytes = Buffer.from(batch.arena[f]!.bytes.slice(batch.offset[f], batch.offset[f]! + batch.length[f]!));
      this.frames.push({ bytes, checksum: batch.checksum[i]!, segmentOctets: batch.segmentOctets[i]! });
    }
    this.#happened();
  }

  writable(): void {
    this.writableCalls++;
    this.#happened();
  }

  closed(error?: Error): void {
    this.closedWith.push(error);
    this.#happened();
  }

  #happened(): void {
    this.#waiting = this.#waiting.filter(({ condition, resolve }) => {
      if (!condition()) return true;
      // The link calls from outside of Node's callback scope.
      setImmediate(resolve);
      return false;
    });
  }

  until(condition: () => boolean): Promise<void> {
    return condition() ? Promise.resolve() : new Promise((resolve) => this.#waiting.push({ condition, resolve }));
  }
}

/** The device's side of a link: messages as a TAP would read and write them. */
class Device {
  readonly fd: number;
  readonly #memory = new ArrayBuffer(70_000);
  readonly #bytes = Buffer.from(this.#memory);

  constructor(fd: number) {
    this.fd = fd;
  }

  write(message: Buffer): number {
    message.copy(this.#bytes);
    return write(this.fd, addressOfBuffer(this.#memory), message.length);
  }

  read(): Buffer | undefined {
    const result = recv(this.fd, addressOfBuffer(this.#memory), this.#memory.byteLength, MSG_DONTWAIT);
    return result < 0 ? undefined : Buffer.from(this.#bytes.subarray(0, result));
  }
}

function linked(t: Test, offload = true) {
  const [ours, theirs] = messageSocketPair(true);
  const lost: Error[] = [];
  const link = new TapLink(ours, { name: 'fake', mtu: 1500, offload, lost: (error) => lost.push(error) });
  const recorder = new Recorder();
  link.start(recorder);
  let open = true;
  const device = new Device(theirs);
  const hangUp = (): void => {
    if (open) close(theirs);
    open = false;
  };
  t.teardown(() => {
    link.close();
    hangUp();
  });
  return { link, recorder, device, lost, hangUp };
}

interface Header {
  readonly flags?: number;
  readonly type?: number;
  readonly headerOctets?: number;
  readonly segmentOctets?: number;
  readonly start?: number;
  readonly offset?: number;
}

function header({ flags = 0, type = 0, headerOctets = 0, segmentOctets = 0, start = 0, offset = 0 }: Header): Buffer {
  const bytes = Buffer.alloc(VNET_HEADER_OCTETS);
  bytes.writeUInt8(flags, 0);
  bytes.writeUInt8(type, 1);
  [headerOctets, segmentOctets, start, offset].forEach((value, i) => {
    bytes.writeUInt16LE(value, 2 + 2 * i);
  });
  return bytes;
}

function send(link: LinkPort, frame: Buffer, start = 0, offset = 0, segmentOctets = 0): boolean {
  if (!link.reserve(frame.length)) return false;
  link.txArena.bytes.set(frame, link.txOffset);
  link.commit(frame.length, start, offset, segmentOctets);
  return true;
}

t.test('what the header says of a frame that comes in', async (t) => {
  const { recorder, device, link } = linked(t);
  const frame = randomBytes(2000);
  device.write(Buffer.concat([header({}), frame]));
  device.write(Buffer.concat([header({ flags: 1, start: 34, offset: 16 }), frame]));
  device.write(Buffer.concat([header({ flags: 2 }), frame]));
  device.write(Buffer.concat([header({ flags: 1, type: 1, segmentOctets: 1460, start: 34, offset: 16 }), frame]));
  device.write(Buffer.concat([header({}), frame.subarray(0, 13)]));
  device.write(Buffer.alloc(3));
  device.write(Buffer.concat([header({}), frame.subarray(0, 14)]));
  await recorder.until(() => recorder.frames.length === 5);
  t.same(
    recorder.frames.map(({ checksum, segmentOctets }) => [checksum, segmentOctets]),
    [
      [CHECKSUM_UNKNOWN, 0],
      [CHECKSUM_PARTIAL, 0],
      [CHECKSUM_VERIFIED, 0],
      [CHECKSUM_PARTIAL, 1460],
      [CHECKSUM_UNKNOWN, 0],
    ],
  );
  t.ok(recorder.frames.slice(0, 4).every(({ bytes }) => bytes.equals(frame)));
  t.equal(link.protocolErrors, 2, 'frames without room for an Ethernet header are counted');
});

t.test('what goes out says what is left to the device', async (t) => {
  const { link, device } = linked(t);
  t.same(link.offload, { checksum: true, segmentOctets: 65535 });
  const frame = Buffer.alloc(4000, 7);
  frame.writeUInt8(0x45, 14);
  // TCP's own length: with timestamps.
  frame.writeUInt8(0x80, 34 + 12);
  send(link, frame);
  send(link, frame, 34, 16);
  send(link, frame, 34, 16, 1460);
  send(link, frame);
  frame.writeUInt8(0x60, 14);
  frame.writeUInt8(0x50, 54 + 12);
  send(link, frame, 54, 16, 1440);
  const heads = [];
  for (let message = device.read(); message; message = device.read()) heads.push(message.subarray(0, 10));
  t.same(heads, [
    header({}),
    header({ flags: 1, start: 34, offset: 16 }),
    header({ flags: 1, type: 1, headerOctets: 66, segmentOctets: 1460, start: 34, offset: 16 }),
    header({}),
    header({ flags: 1, type: 4, headerOctets: 74, segmentOctets: 1440, start: 54, offset: 16 }),
  ]);
  t.same(linked(t, false).link.offload, { checksum: false, segmentOctets: 0 });
});

t.test('any messages from the device: frames arrive whole and in order, nothing throws', async (t) => {
  const sizes = fc.array(fc.oneof(fc.nat(120), fc.nat(9000), fc.integer({ min: 60_000, max: 65_559 })), {
    minLength: 1,
    maxLength: 40,
  });
  await fc.assert(
    fc.asyncProperty(sizes, fc.infiniteStream(fc.nat(255)), async (octets, noise) => {
      const { link, recorder, device, hangUp } = linked(t);
      const sent: Buffer[] = [];
      let runts = 0;
      for (const size of octets) {
        const message = Buffer.alloc(size, noise.next().value);
        for (let i = 0; i < Math.min(size, 80); i++) message[i] = noise.next().value;
        // A full pair of sockets is read by the link meanwhile.
        while (device.write(message) === EAGAIN) await new Promise(setImmediate);
        if (size >= VNET_HEADER_OCTETS + 14) sent.push(message.subarray(VNET_HEADER_OCTETS));
        else if (size > 0) runts++;
        else break;
      }
      await recorder.until(() => recorder.frames.length === sent.length || recorder.closedWith.length > 0);
      link.close();
      hangUp();
      const same = sent.every((bytes, i) => recorder.frames[i]?.bytes.equals(bytes));
      return same && link.protocolErrors <= runts;
    }),
    { numRuns: 40 },
  );
});

t.test('a device without room: one frame waits, the stack is told when it has gone', async (t) => {
  const { link, recorder, device } = linked(t);
  const frame = (i: number): Buffer => Buffer.alloc(3000, i);
  let sent = 0;
  while (send(link, frame(sent))) sent++;
  t.ok(sent > 1, `${sent} frames fit`);
  t.equal(link.reserve(60), false, 'and no more');
  t.equal(recorder.writableCalls, 0);
  const got: Buffer[] = [];
  const drain = (): void => {
    for (let message = device.read(); message; message = device.read()) got.push(message);
  };
  drain();
  await recorder.until(() => recorder.writableCalls === 1);
  t.ok(send(link, frame(sent++)), 'there is room again');
  drain();
  t.equal(got.length, sent);
  t.ok(got.every((message, i) => message.equals(Buffer.concat([header({}), frame(i)]))));
  // Frames still come in after the watch has changed twice.
  device.write(Buffer.concat([header({}), frame(1)]));
  await recorder.until(() => recorder.frames.length === 1);
  t.equal(recorder.writableCalls, 1);
});

t.test('a device that goes away ends the link, once', async (t) => {
  const { link, recorder, lost, hangUp } = linked(t);
  hangUp();
  await recorder.until(() => recorder.closedWith.length > 0);
  t.match(recorder.closedWith[0]?.message, /tap:fake: the device is gone/);
  t.equal(lost.length, 1);
  t.equal(link.reserve(60), false);
  link.close();
  t.equal(recorder.closedWith.length, 1);
});

// Real devices, in user and network namespaces of their own: no rights needed beyond /dev/net/tun.

const addresses = { address: '192.168.65.3', netmask: '255.255.255.0', gateway: '192.168.65.1', mtu: 1500 };

/** A namespace with a TAP, kept by a sleeping process. */
async function namespace(t: Test, offload: boolean, mtu: number): Promise<{ helper: Helper; fd: number; pid: number }> {
  const enter = ['unshare', '--user', '--map-root-user', '--net', '--'];
  const request = { name: 'tap0', offload, addresses: { ...addresses, mtu } };
  const helper = startHelper(enter, request, ['sleep', '600']);
  t.teardown(() => helper.child.kill('SIGKILL'));
  const { fd, name } = await helper.tap;
  t.equal(name, 'tap0');
  helper.go();
  return { helper, fd, pid: helper.child.pid! };
}

/** Runs a program in the namespace of `pid`. */
function inside(pid: number, ...argv: string[]): Promise<{ stdout: Buffer; failed: Error | null }> {
  const enter = [`--target=${pid}`, '--user', '--net', '--preserve-credentials', '--', ...argv];
  return new Promise((resolve) => {
    execFile('nsenter', enter, { encoding: 'buffer', maxBuffer: 64 << 20 }, (failed, stdout) => {
      resolve({ stdout, failed });
    });
  });
}

/** Counts the super-segments that pass a link. */
function counted(link: LinkPort): { link: LinkPort; incoming: number; outgoing: number; partial: number } {
  const counts = { link, incoming: 0, outgoing: 0, partial: 0 };
  const { start, commit } = link;
  link.start = (handler) =>
    start.call(link, {
      writable: () => handler.writable(),
      closed: (error) => handler.closed(error),
      input: (batch) => {
        for (let i = 0; i < batch.count; i++) {
          if (batch.segmentOctets[i]! > 0) counts.incoming++;
          if (batch.checksum[i] === CHECKSUM_PARTIAL) counts.partial++;
        }
        handler.input(batch);
      },
    });
  link.commit = (octets, checksumStart, checksumOffset, segmentOctets) => {
    if (segmentOctets > 0) counts.outgoing++;
    commit.call(link, octets, checksumStart, checksumOffset, segmentOctets);
  };
  return counts;
}

const sha256 = (octets: Buffer): string => createHash('sha256').update(octets).digest('hex');

/** GET gives `content`, PUT answers with the sum of what it was given. */
async function webServer(t: Test, content: Buffer): Promise<number> {
  const server: Server = createServer(async (request, response) => {
    if (request.method === 'PUT') response.end(await sumOf(request));
    else response.end(content);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return (server.address() as AddressInfo).port;
}

async function sumOf(request: IncomingMessage): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of request) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

for (const [offload, mtu] of [
  [true, 1500],
  [false, 1500],
  [true, 65520],
  [false, 65520],
] as const)
  t.test(`a kernel at the other end: MTU ${mtu}, ${offload ? 'offload' : 'no offload'}`, async (t) => {
    const content = randomBytes(8 << 20);
    const port = await webServer(t, content);
    const { pid, fd } = await namespace(t, offload, mtu);
    const network = new Network({ subnet: '192.168.65.0/24', mtu });
    t.teardown(() => network.close());
    const counts = counted(new TapLink(fd, { name: 'tap0', mtu, offload }));
    network.attach(counts.link);

    const url = `http://192.168.65.2:${port}/`;
    const got = await inside(pid, 'curl', '-sS', '--max-time', '60', url);
    t.equal(got.failed, null);
    t.equal(sha256(got.stdout), sha256(content), 'down, octet for octet');

    const put = await inside(pid, 'sh', '-c', `curl -sS --max-time 60 ${url} | curl -sS --max-time 60 -T - ${url}`);
    t.equal(put.failed, null);
    t.equal(put.stdout.toString(), sha256(content), 'up, octet for octet');

    if (offload) {
      t.ok(counts.partial > 0, 'sums are left out');
      if (mtu === 1500) t.ok(counts.incoming > 100 && counts.outgoing > 100, 'segments are not cut');
    } else t.same([counts.partial, counts.incoming, counts.outgoing], [0, 0, 0], 'the link sees ordinary frames alone');
    const wrong = Object.entries(network.drops()).filter(([why, count]) => /checksum|malformed/.test(why) && count > 0);
    t.same(wrong, [], 'no sum is wrong');
  });

t.test('the other direction: a published port, and datagrams', async (t) => {
  const { pid, fd } = await namespace(t, true, 1500);
  const network = new Network({ subnet: '192.168.65.0/24', mtu: 1500 });
  t.teardown(() => network.close());
  network.attach(new TapLink(fd, { name: 'tap0', mtu: 1500, offload: true }));
  const echo = `require('net').createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket)).listen(7, () => console.log('up'))`;
  const enter = [`--target=${pid}`, '--user', '--net', '--preserve-credentials', '--', process.execPath, '-e', echo];
  const server = execFile('nsenter', enter);
  t.teardown(() => server.kill());
  await new Promise((resolve) => server.stdout!.once('data', resolve));
  const { port } = await network.expose({
    protocol: 'tcp',
    hostAddress: '127.0.0.1',
    hostPort: 0,
    guestAddress: '192.168.65.3',
    guestPort: 7,
  });
  const content = randomBytes(4 << 20);
  const socket = connect(port, '127.0.0.1');
  socket.end(content);
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk as Buffer);
  t.equal(sha256(Buffer.concat(chunks)), sha256(content));

  const names = await inside(pid, process.execPath, '-e', resolveName);
  t.equal(names.failed, null);
  t.equal(names.stdout.toString().trim(), '192.168.65.2', 'UDP reaches the name server and comes back');
});

const resolveName = `
  const { Resolver } = require('dns').promises;
  const resolver = new Resolver();
  resolver.setServers(['192.168.65.1']);
  resolver.resolve4('host.docker.internal').then(([address]) => console.log(address));`;

t.test('a device that is down takes nothing and comes back; one that is deleted is gone', async (t) => {
  const { pid, fd } = await namespace(t, true, 1500);
  const recorder = new Recorder();
  const lost: Error[] = [];
  const link = new TapLink(fd, { name: 'tap0', mtu: 1500, offload: true, lost: (error) => lost.push(error) });
  t.teardown(() => link.close());
  link.start(recorder);
  const frame = Buffer.alloc(60, 1);
  t.ok(send(link, frame));
  t.equal(link.writeErrors, 0);
  await inside(pid, 'ip', 'link', 'set', 'tap0', 'down');
  t.ok(send(link, frame), 'as on a wire without a reader');
  t.equal(link.writeErrors, 1, 'and counted');
  await inside(pid, 'ip', 'link', 'set', 'tap0', 'up');
  t.ok(send(link, frame));
  t.equal(link.writeErrors, 1);
  await inside(pid, 'ip', 'link', 'del', 'tap0');
  await recorder.until(() => recorder.closedWith.length > 0);
  t.equal(lost.length, 1);
});

t.test('opening: what goes wrong names cause and remedy', async (t) => {
  await t.rejects(
    openTapIn('/nonexistent/namespace', { name: 'tap0', offload: true }),
    /there is no network namespace/,
  );
  await t.rejects(openTapIn(import.meta.filename, { name: 'tap0', offload: true }), /is no network namespace/);
  const { pid } = await namespace(t, true, 1500);
  const path = `/proc/${pid}/ns/net`;
  const second = await openTapIn(path, {
    name: 'box%d',
    offload: false,
    addresses: { ...addresses, address: '10.0.0.3', gateway: '10.0.0.1' },
  });
  t.equal(second.name, 'box0', 'the kernel chooses the number');
  await t.rejects(openTapIn(path, { name: 'box0', offload: true }), /has it open/);
  await t.rejects(openTapIn(path, { name: 'lo', offload: true }), /of another kind|has it open/);
  const unreachable = { ...addresses, gateway: '10.9.9.9' };
  await t.rejects(openTapIn(path, { name: 'box1', offload: true, addresses: unreachable }), /default route/);
  const { stdout } = await inside(pid, 'ip', '-o', 'link');
  t.same(
    [...stdout.toString().matchAll(/^\d+: ([^:@]+)/gm)].map(([, name]) => name),
    ['lo', 'tap0', 'box0'],
    'what failed is gone',
  );
  close(second.fd);
  t.throws(() => openTap('a name that is far too long for it', true), /TAP device/);
});
