/** Bulk through a container, both ways, whole; and a reader that stops, which must stop its writer and no more. */

import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { askUdp, freePort, loopbackServer, sha256 } from './host-ports.ts';
import { busybox, importBusybox } from './images.ts';
import { type Instance, residentOctets, withInstance } from './instance.ts';
import { until } from './programs.ts';

const MIB = 1 << 20;
const BULK = 200 * MIB;
/** Enough of it for the other ways in and out. */
const PART = 64 * MIB;
const STALLED = 96 * MIB;
/** What may be in flight while a reader is stopped: the kernels' socket buffers at both ends and the flow's own. */
const IN_FLIGHT = 48 * MIB;

withInstance('bulk and back-pressure', async (t, slipway) => {
  t.teardown(() => slipway.remove('bulk'));
  await importBusybox(slipway);
  const port = { up: await freePort(), down: await freePort(), peer: await freePort() };
  const serve = [
    'mkfifo /tmp/hash',
    'nc -ll -p 9000 -e sh -c "tee /data/blob | sha256sum" &',
    'nc -ll -p 9001 -e cat /data/blob &',
    'exec peer 9002',
  ].join('\n');
  await slipway.docker(
    ...['run', '-d', '--name', 'bulk', '--tmpfs', '/data:size=300m'],
    ...['-p', `${port.up}:9000`, '-p', `${port.down}:9001`, '-p', `${port.peer}:9002`, '-p', `${port.peer}:9002/udp`],
    ...[busybox, 'sh', '-c', serve],
  );
  const block = randomFillSync(Buffer.alloc(4 * MIB));
  const bulk = (octets: number): Readable => Readable.from(numbered(block, octets / block.length));
  const digest = await sha256(bulk(BULK));
  const partDigest = await sha256(bulk(PART));
  const part = `dd if=/data/blob bs=${MIB} count=${PART / MIB} 2>/dev/null`;
  const dial = async (to: number): Promise<Socket> => {
    const socket = connect({ port: to, host: '127.0.0.1', allowHalfOpen: true });
    t.teardown(() => socket.destroy());
    await once(socket, 'connect');
    return socket;
  };

  await t.test('200 MiB into a container by a published port', async (t) => {
    const socket = await dial(port.up);
    const answer = text(socket);
    await pipeline(bulk(BULK), socket);
    t.equal((await answer).split(' ')[0], digest);
  });

  await t.test('and the same out of it', async (t) => {
    t.equal(await sha256(await dial(port.down)), digest);
  });

  await t.test("from a container to a server on the host's loopback, and back", async (t) => {
    const server = await loopbackServer(async (socket) => {
      socket.end(await sha256(socket));
    });
    const source = await loopbackServer((socket) => void pipeline(bulk(PART), socket).catch(() => undefined));
    t.teardown(() => server.close());
    t.teardown(() => source.close());
    const upload = `${part} | nc host.docker.internal ${server.port}`;
    const download = `nc host.docker.internal ${source.port} < /dev/null | sha256sum`;
    const said = await slipway.docker('exec', 'bulk', 'sh', '-c', `${upload}; echo; ${download}`);
    t.same(said.trim().split(/\s+/).slice(0, 2), [partDigest, partDigest]);
  });

  await t.test('by docker.sock into exec', async (t) => {
    const { child, ended } = slipway.startDocker('exec', '-i', 'bulk', 'sha256sum');
    await pipeline(bulk(PART), child.stdin);
    t.equal((await ended).stdout.split(' ')[0], partDigest);
  });

  await t.test('and out of it, by way of a reader that stops for a while', async (t) => {
    const before = await footprint(slipway);
    const child = slipway.spawnDocker('exec', 'bulk', 'sh', '-c', part);
    t.teardown(() => child.kill());
    await once(child.stdout, 'readable');
    const progress = "awk '/^rchar/ { print $2 }' /proc/$(pidof dd)/io";
    const stopped = await settled('the writer', async () => Number(await slipway.slipway('shell', progress)));
    t.ok(stopped < IN_FLIGHT, `stopped after ${stopped} octets`);
    t.ok((await footprint(slipway)) - before < IN_FLIGHT, 'memory stays bounded');
    t.equal(await sha256(child.stdout), partDigest);
  });

  await t.test('a host client that stops reading stops the writer in the container', async (t) => {
    const before = await footprint(slipway);
    const socket = await dial(port.peer);
    socket.pause();
    socket.write(`pour ${STALLED}\n`);
    const poured = async () => counts(await askUdp('127.0.0.1', port.peer, 'count')).poured;
    const stopped = await settled('the writer', poured);
    t.ok(stopped > 0 && stopped < IN_FLIGHT, `stopped after ${stopped} octets`);
    t.ok((await footprint(slipway)) - before < IN_FLIGHT, 'memory stays bounded');
    t.equal(await matchesPattern(socket, STALLED), `${STALLED} ok`);
  });

  await t.test('a container that stops reading stops the writer on the host', async (t) => {
    const before = await footprint(slipway);
    const socket = await dial(port.peer);
    const answer = text(socket);
    socket.write('sink\n');
    const written = pipeline(Readable.from(pattern(STALLED)), socket);
    const stopped = await settled('the writer', () => Promise.resolve(socket.bytesWritten - socket.writableLength));
    t.ok(stopped > 0 && stopped < IN_FLIGHT, `stopped after ${stopped} octets`);
    t.ok((await footprint(slipway)) - before < IN_FLIGHT, 'memory stays bounded');
    t.equal(await askUdp('127.0.0.1', port.peer, 'go'), 'going');
    await written;
    t.equal(await answer, `${STALLED} ok\n`);
  });
});

function counts(said: string): { poured: number; sunk: number } {
  const match = /^poured (\d+) sunk (\d+)$/.exec(said);
  if (!match) throw new Error(`the peer said '${said}'`);
  return { poured: Number(match[1]), sunk: Number(match[2]) };
}

/** The value of `measure` once it has grown from nothing and stands still for ten looks. */
async function settled(what: string, measure: () => Promise<number>): Promise<number> {
  let last = 0;
  let still = 0;
  return until(`${what} to stop`, async () => {
    const value = await measure();
    still = value > 0 && value === last ? still + 1 : 0;
    last = value;
    return still >= 10 ? value : false;
  });
}

/** Memory of Slipway's two processes together. */
async function footprint(slipway: Instance): Promise<number> {
  const pids = (await slipway.status()).pids as Record<string, number>;
  return residentOctets(pids.slipway!) + residentOctets(pids.vmm!);
}

/** `block`, `count` times, each with its number in front. */
function* numbered(block: Buffer, count: number): Generator<Buffer> {
  for (let number = 0; number < count; number++) {
    const copy = Buffer.from(block);
    copy.writeUInt32LE(number, 0);
    yield copy;
  }
}

/** The peer's pattern: xorshift32 from seed 1 (peer.c). */
function* pattern(octets: number): Generator<Buffer> {
  let x = 1;
  for (let sent = 0; sent < octets; ) {
    const words = new Uint32Array(Math.min(MIB, octets - sent) / 4);
    for (let i = 0; i < words.length; i++) {
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      words[i] = x;
    }
    sent += words.byteLength;
    yield Buffer.from(words.buffer);
  }
}

/** Reads to the end and says `N ok`, or where the octets differ from the pattern. */
async function matchesPattern(stream: AsyncIterable<Buffer>, octets: number): Promise<string> {
  const source = pattern(octets);
  let wanted: Buffer = Buffer.alloc(0);
  let total = 0;
  for await (let chunk of stream) {
    while (chunk.length > 0) {
      if (wanted.length === 0) wanted = (source.next().value as Buffer | undefined) ?? Buffer.alloc(0);
      const length = Math.min(chunk.length, wanted.length);
      if (length === 0 || !chunk.subarray(0, length).equals(wanted.subarray(0, length)))
        return `differs after ${total}`;
      wanted = wanted.subarray(length);
      chunk = chunk.subarray(length);
      total += length;
    }
  }
  return `${total} ok`;
}
