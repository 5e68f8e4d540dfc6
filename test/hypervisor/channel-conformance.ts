/** What every lane between host and guest owes, as one suite: the vsock device and the serial multiplexer pass it. */

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { Test } from 'tap';
import type { StreamStats } from '../../src/hypervisor/vsock/limits.ts';

export interface Lane {
  /** Where `connect` and `00000002.PPPPPPPP` are. */
  readonly directory: string;
  /** A socket that leads to guest port `forwardPort`. */
  readonly forwardPath: string;
  readonly forwardPort: number;
  /** Most octets of one stream that the lane and the kernel together may hold in one direction. */
  readonly heldOctets: number;
  connect(port: number): Promise<Duplex>;
  guestListen(port: number, accept: (stream: Duplex) => void): Promise<void>;
  guestUnlisten(port: number): Promise<void>;
  guestConnect(port: number): Promise<Duplex>;
  /** Ends a guest's stream at once, unread data or not. */
  guestAbort(stream: Duplex): void;
  stats(): StreamStats;
  close(): Promise<void>;
}

/** Deterministic octets, different in every place. */
function pattern(octets: number, seed: number): Buffer {
  const bytes = Buffer.alloc(octets);
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, octets >> 2);
  let x = seed | 1;
  for (let index = 0; index < words.length; index++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[index] = x;
  }
  return bytes;
}

async function readAll(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(stream, 'end');
  return Buffer.concat(chunks);
}

const sha256 = (octets: Uint8Array): string => createHash('sha256').update(octets).digest('hex');

function echo(stream: Duplex): void {
  stream.on('error', () => {});
  stream.pipe(stream);
}

/** Polls a condition that the lane reaches by itself; the test's own timeout is the limit. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Resolves when a socket is closed, well or badly. */
function closed(stream: Duplex): Promise<void> {
  stream.on('error', () => {});
  return new Promise((resolve) => stream.once('close', resolve));
}

async function hostListen(lane: Lane, port: number, accept: (socket: net.Socket) => void): Promise<net.Server> {
  const path = join(lane.directory, `00000002.${port.toString(16).padStart(8, '0')}`);
  const server = net.createServer({ allowHalfOpen: true }, accept);
  server.listen(path);
  await once(server, 'listening');
  return server;
}

async function shut(server: net.Server): Promise<void> {
  server.close();
  await once(server, 'close');
}

export async function channelConformance(t: Test, makeLane: () => Promise<Lane>): Promise<void> {
  const lane = await makeLane();
  t.teardown(() => lane.close());

  await t.test('sockets are 0600 whatever the umask', async (t) => {
    for (const path of [join(lane.directory, 'connect'), lane.forwardPath])
      t.equal(fs.statSync(path).mode & 0o777, 0o600, path);
  });

  await t.test('a port nobody listens on is refused, both ways', async (t) => {
    await t.rejects(lane.connect(4444), { code: 'ECONNREFUSED' });
    await t.rejects(lane.guestConnect(4444), { code: 'ECONNREFUSED' });
    const forward = net.connect(lane.forwardPath);
    await closed(forward);
    await until(() => lane.stats().open === 0);
  });

  await t.test('both handshakes of the connect socket, and the forward', async (t) => {
    await lane.guestListen(7, echo);
    for (const line of ['00000003.00000007\n', 'CONNECT 7\n']) {
      const socket = net.connect({ path: join(lane.directory, 'connect'), allowHalfOpen: true });
      // Stream data right behind the line belong to the stream.
      if (line.startsWith('0')) socket.end(`${line}early`);
      else {
        socket.write(line);
        const [answer] = (await once(socket, 'data')) as [Buffer];
        t.match(answer.toString(), /^OK \d+\n$/);
        socket.end('early');
      }
      t.equal((await readAll(socket)).toString(), 'early', line.trim());
    }
    for (const line of ['00000004.00000007\n', 'GET / HTTP/1.1\n', `${'x'.repeat(100)}`]) {
      const socket = net.connect(join(lane.directory, 'connect'));
      socket.write(line);
      socket.resume();
      await closed(socket);
      t.pass(`refused: ${line.trim().slice(0, 20)}`);
    }
    await lane.guestListen(lane.forwardPort, echo);
    const forward = net.connect({ path: lane.forwardPath, allowHalfOpen: true });
    forward.end('through the forward');
    t.equal((await readAll(forward)).toString(), 'through the forward');
    await lane.guestUnlisten(lane.forwardPort);
    await lane.guestUnlisten(7);
    await until(() => lane.stats().open === 0);
  });

  await t.test('half-close by the host: the guest reads the end, and still answers', async (t) => {
    await lane.guestListen(8, (stream) => {
      void readAll(stream).then((all) => stream.end(`got ${all.length}`));
    });
    const socket = await lane.connect(8);
    socket.end(Buffer.alloc(100_000));
    t.equal((await readAll(socket)).toString(), 'got 100000');
    await lane.guestUnlisten(8);
    await until(() => lane.stats().open === 0);
  });

  await t.test('half-close by the guest: the host reads the end, and still answers', async (t) => {
    let received = '';
    await lane.guestListen(9, (stream) => {
      stream.end('question');
      void readAll(stream).then((all) => {
        received = all.toString();
      });
    });
    const socket = await lane.connect(9);
    t.equal((await readAll(socket)).toString(), 'question');
    socket.end('answer');
    await until(() => received !== '');
    t.equal(received, 'answer');
    await lane.guestUnlisten(9);
    const server = await hostListen(lane, 9, (host) => {
      void readAll(host).then((all) => host.end(`host got ${all}`));
    });
    const guest = await lane.guestConnect(9);
    guest.end('guest speaks');
    t.equal((await readAll(guest)).toString(), 'host got guest speaks');
    await shut(server);
    await until(() => lane.stats().open === 0);
  });

  await t.test('50 MB arrive whole, each way', async (t) => {
    const sent = pattern(50_000_000, 7);
    const digest = sha256(sent);
    await lane.guestListen(10, (stream) => {
      const hash = createHash('sha256');
      stream.on('data', (chunk: Buffer) => hash.update(chunk));
      stream.on('end', () => stream.end(hash.digest('hex')));
    });
    const up = await lane.connect(10);
    up.end(sent);
    t.equal((await readAll(up)).toString(), digest, 'host to guest');
    await lane.guestListen(11, (stream) => stream.end(sent));
    const down = await lane.connect(11);
    t.equal(sha256(await readAll(down)), digest, 'guest to host');
    down.end();
    await lane.guestUnlisten(10);
    await lane.guestUnlisten(11);
    await until(() => lane.stats().open === 0);
  });

  await t.test('100 streams at once, both ways in each', async (t) => {
    await lane.guestListen(12, echo);
    const results = await Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        const sent = pattern(200_000, index + 1);
        const stream = await lane.connect(12);
        stream.end(sent);
        return (await readAll(stream)).equals(sent);
      }),
    );
    t.equal(results.filter(Boolean).length, 100, 'host to guest');
    await lane.guestUnlisten(12);
    const server = await hostListen(lane, 12, echo);
    const guests = await Promise.all(
      Array.from({ length: 50 }, async (_, index) => {
        const sent = pattern(50_000, index + 1);
        const stream = await lane.guestConnect(12);
        stream.end(sent);
        return (await readAll(stream)).equals(sent);
      }),
    );
    t.equal(guests.filter(Boolean).length, 50, 'guest to host');
    await shut(server);
    await until(() => lane.stats().open === 0);
  });

  await t.test('a stopped reader stops its writer and nobody else', async (t) => {
    for (const direction of ['to the guest', 'from the guest'] as const) {
      const other = new Promise<Duplex>((resolve) => void lane.guestListen(13, resolve));
      await lane.guestListen(14, echo);
      const host = await lane.connect(13);
      const guest = await other;
      const [writer, reader] = direction === 'to the guest' ? [host, guest] : [guest, host];
      let taken = 0;
      let stopped = false;
      const chunk = Buffer.alloc(65536);
      const feed = (): void => {
        if (stopped) return;
        writer.write(chunk, (error) => {
          if (error) return;
          taken += chunk.length;
          feed();
        });
      };
      feed();
      // Another stream works meanwhile, which also gives the writer every chance to run on.
      for (let round = 0; round < 50; round++) {
        const check = await lane.connect(14);
        check.end(chunk);
        t.equal((await readAll(check)).length, chunk.length) || t.bailout();
      }
      const held = taken;
      t.ok(held <= lane.heldOctets, `${direction}: ${held} octets were taken of a reader that reads nothing`);
      stopped = true;
      writer.end();
      t.ok((await readAll(reader)).length >= held, 'and all of them arrive when it reads');
      reader.end();
      writer.resume();
      await lane.guestUnlisten(13);
      await lane.guestUnlisten(14);
      await until(() => lane.stats().open === 0);
    }
  });

  await t.test('an end that goes away ends the other', async (t) => {
    let guest: Duplex | undefined;
    await lane.guestListen(15, (stream) => {
      guest = stream;
      stream.on('error', () => {});
    });
    const host = await lane.connect(15);
    host.on('error', () => {});
    await until(() => guest !== undefined);
    host.destroy();
    guest!.resume();
    // The guest learns that nobody reads: its end, or an error once it writes.
    const feed = setInterval(() => guest!.write('x'), 5);
    await closed(guest!);
    clearInterval(feed);
    guest = undefined;
    const second = await lane.connect(15);
    second.on('end', () => second.end());
    second.resume();
    await until(() => guest !== undefined);
    lane.guestAbort(guest!);
    await closed(second);
    t.pass('the host reads the end');
    await lane.guestUnlisten(15);
    await until(() => lane.stats().open === 0);
  });

  await t.test('1000 short connections leave nothing', async (t) => {
    await lane.guestListen(16, echo);
    const before = fs.readdirSync('/proc/self/fd').length;
    let good = 0;
    for (let batch = 0; batch < 50; batch++)
      await Promise.all(
        Array.from({ length: 20 }, async (_, index) => {
          const text = `${batch}.${index}`;
          const stream = await lane.connect(16);
          stream.end(text);
          if ((await readAll(stream)).toString() === text) good++;
        }),
      );
    t.equal(good, 1000);
    await until(() => lane.stats().open === 0);
    await until(() => fs.readdirSync('/proc/self/fd').length <= before + 2);
    t.pass('no stream and no descriptor left');
    await lane.guestUnlisten(16);
  });
}
