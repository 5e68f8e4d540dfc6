/** QEMU's stream framing: any chunking, both ways; peers that come, go, stop reading and misbehave. By Node's sockets and without. */

import { once } from 'node:events';
import { existsSync, linkSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { QemuStreamLink, type QemuStreamOptions } from '../../../src/hypervisor/link/qemu-stream.ts';
import type { FrameBatch, LinkHandler } from '../../../src/stack/port.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-link-'));
t.teardown(() => rmSync(folder, { recursive: true }));
let paths = 0;
const freshPath = (): string => join(folder, `${paths++}.sock`);

/** Keeps copies of the frames that arrive. */
class Recorder implements LinkHandler {
  frames: Buffer[] = [];
  batches = 0;
  writableCalls = 0;
  desertions = 0;
  closedWith: (Error | undefined)[] = [];
  #waiting: { condition: () => boolean; resolve: () => void }[] = [];

  input(batch: FrameBatch): void {
    this.batches++;
    for (let i = 0; i < batch.count; i++) {
      const f = batch.first[i]!;
      this.frames.push(Buffer.from(batch.arena[f]!.bytes.slice(batch.offset[f], batch.offset[f]! + batch.length[f]!)));
    }
    this.happened();
  }

  writable(): void {
    this.writableCalls++;
    this.happened();
  }

  deserted(): void {
    this.desertions++;
    this.happened();
  }

  closed(error?: Error): void {
    this.closedWith.push(error);
  }

  happened(): void {
    this.#waiting = this.#waiting.filter(({ condition, resolve }) => !condition() || void resolve());
  }

  until(condition: () => boolean): Promise<void> {
    return condition() ? Promise.resolve() : new Promise((resolve) => this.#waiting.push({ condition, resolve }));
  }
}

const frame = (octets: number, fill = 0): Buffer => Buffer.alloc(octets, (octets + fill) & 0xff);

const framed = (...frames: Buffer[]): Buffer =>
  Buffer.concat(
    frames.flatMap((bytes) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(bytes.length);
      return [length, bytes];
    }),
  );

function unframed(stream: Buffer): Buffer[] {
  const frames: Buffer[] = [];
  for (let at = 0; at < stream.length; at += 4 + stream.readUInt32BE(at))
    frames.push(stream.subarray(at + 4, at + 4 + stream.readUInt32BE(at)));
  return frames;
}

function transmit(link: QemuStreamLink, bytes: Buffer): boolean {
  if (!link.reserve(bytes.length + 100)) return false;
  link.txArena.bytes.set(bytes, link.txOffset);
  link.commit(bytes.length);
  return true;
}

const mtu = 1500;

for (const portable of [false, true])
  t.test(portable ? "by Node's sockets" : 'by system calls, where there are such', async (t) => {
    async function listening(t: Test, options: Partial<QemuStreamOptions> = {}) {
      const path = freshPath();
      const reports: string[] = [];
      const link = await QemuStreamLink.listen(path, {
        mtu,
        portable,
        report: (line) => reports.push(line),
        ...options,
      });
      const recorder = new Recorder();
      link.start(recorder);
      t.teardown(() => link.close());
      return { path, link, recorder, reports };
    }

    async function attached(t: Test, options: Partial<QemuStreamOptions> = {}) {
      const world = await listening(t, options);
      const peer = net.connect({ path: world.path });
      await once(peer, 'connect');
      while (!world.link.attached) await new Promise((resolve) => setImmediate(resolve));
      t.teardown(() => peer.destroy());
      return { ...world, peer };
    }

    t.test('the socket is private, whatever the umask, and goes with the link', async (t) => {
      const umask = process.umask(0);
      const { path, link, recorder } = await listening(t);
      process.umask(umask);
      t.equal(statSync(path).mode & 0o777, 0o600);
      t.equal(process.umask(), umask);
      link.close();
      t.notOk(existsSync(path));
      t.same(recorder.closedWith, [undefined]);
    });

    t.test('paths that cannot be listened on', async (t) => {
      const path = freshPath();
      const first = await QemuStreamLink.listen(path, { mtu, portable });
      await t.rejects(QemuStreamLink.listen(path, { mtu, portable }), /exists and something listens on it/);
      first.close();
      await t.rejects(
        QemuStreamLink.listen(join(folder, 'x'.repeat(100)), { mtu, portable }),
        /too long for a unix socket/,
      );
      t.throws(
        () => QemuStreamLink.connect(join(folder, 'x'.repeat(100)), { mtu, portable }),
        /too long for a unix socket/,
      );
      await t.rejects(
        QemuStreamLink.listen(join(folder, 'no', 'such'), { mtu, portable }),
        /its folder does not exist/,
      );
      writeFileSync(path, 'not a socket');
      await t.rejects(QemuStreamLink.listen(path, { mtu, portable }), /exists/);
      rmSync(path);
    });

    t.test('a socket that its process left behind is replaced', async (t) => {
      const path = freshPath();
      const left = net.createServer().listen(path);
      await once(left, 'listening');
      // Closing unlinks by name; a dead process would not have.
      linkSync(path, `${path}.kept`);
      left.close();
      await once(left, 'close');
      renameSync(`${path}.kept`, path);
      const link = await QemuStreamLink.listen(path, { mtu, portable });
      t.ok(statSync(path).isSocket());
      link.close();
    });

    t.test('any frames in any chunks arrive whole and in order', async (t) => {
      const { peer, recorder } = await attached(t);
      const sizes = fc.oneof(fc.integer({ min: 14, max: 100 }), fc.constantFrom(1514, 65534, 65553));
      await fc.assert(
        fc.asyncProperty(
          fc.array(sizes, { minLength: 1, maxLength: 40 }),
          fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 20 }),
          async (lengths, chunks) => {
            recorder.frames = [];
            const sent = lengths.map((length, i) => frame(length, i));
            const stream = framed(...sent);
            for (let at = 0, i = 0; at < stream.length; i++) {
              const size = Math.max(chunks[i % chunks.length]!, stream.length >> 6);
              peer.write(stream.subarray(at, at + size));
              at += size;
              if (i % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
            }
            await recorder.until(() => recorder.frames.length === sent.length);
            return sent.every((bytes, i) => bytes.equals(recorder.frames[i]!));
          },
        ),
        { numRuns: 60 },
      );
      t.pass();
    });

    t.test('a peer that writes an octet at a time', async (t) => {
      const { peer, recorder } = await attached(t);
      const stream = framed(frame(60), frame(14), frame(1514));
      for (const octet of stream) {
        peer.write(Buffer.of(octet));
        await new Promise((resolve) => setImmediate(resolve));
      }
      await recorder.until(() => recorder.frames.length === 3);
      t.same(recorder.frames, [frame(60), frame(14), frame(1514)]);
    });

    t.test('more frames in one read than a batch holds', async (t) => {
      const { peer, recorder } = await attached(t);
      peer.write(framed(...Array.from({ length: 5000 }, (_, i) => frame(14 + (i % 3)))));
      await recorder.until(() => recorder.frames.length === 5000);
      t.ok(recorder.frames.every((bytes, i) => bytes.length === 14 + (i % 3)));
    });

    t.test('frames shorter than an Ethernet header are counted and skipped', async (t) => {
      const { peer, recorder, link } = await attached(t);
      peer.write(framed(frame(0), frame(13), frame(14)));
      await recorder.until(() => recorder.frames.length === 1);
      t.equal(link.protocolErrors, 2);
    });

    t.test('a length that no frame has ends the peer, not the link', async (t) => {
      const { path, peer, recorder, link, reports } = await attached(t);
      peer.write(Buffer.concat([framed(frame(20)), Buffer.from('GET / HTTP/1.1\r\n\r\n')]));
      await once(peer, 'close');
      t.equal(recorder.frames.length, 1);
      t.equal(link.protocolErrors, 1);
      t.match(reports.join('\n'), /a frame of 1195725856 octets was announced.*-netdev stream/);
      t.same(recorder.closedWith, []);
      while (link.attached) await new Promise((resolve) => setImmediate(resolve));
      const next = net.connect({ path });
      next.write(framed(frame(30)));
      await recorder.until(() => recorder.frames.length === 2);
      next.destroy();
    });

    t.test('one peer at a time', async (t) => {
      const { path, peer, reports, recorder } = await attached(t);
      const second = net.connect({ path });
      await once(second, 'close');
      t.match(reports.join('\n'), /refused a second connection/);
      peer.write(framed(frame(40)));
      await recorder.until(() => recorder.frames.length === 1);
    });

    t.test('frames go out as they were committed, in one write per flush', async (t) => {
      const { peer, link } = await attached(t);
      const got: Buffer[] = [];
      peer.on('data', (chunk: Buffer) => got.push(chunk));
      const sent: Buffer[] = [];
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.integer({ min: 14, max: 65553 }), { minLength: 1, maxLength: 20 }),
          async (lengths) => {
            for (const length of lengths) {
              const bytes = frame(length, sent.length);
              while (!transmit(link, bytes)) {
                link.flush();
                await new Promise((resolve) => setImmediate(resolve));
              }
              sent.push(bytes);
            }
            link.flush();
            await new Promise((resolve) => setImmediate(resolve));
          },
        ),
        { numRuns: 40 },
      );
      const octets = framed(...sent).length;
      while (got.reduce((sum, chunk) => sum + chunk.length, 0) < octets) await once(peer, 'data');
      t.same(unframed(Buffer.concat(got)).length, sent.length);
      t.ok(unframed(Buffer.concat(got)).every((bytes, i) => bytes.equals(sent[i]!)));
    });

    t.test('a peer that does not read is refused more, and told when there is room', async (t) => {
      const { peer, link, recorder } = await attached(t);
      peer.pause();
      let sent = 0;
      for (let stuck = 0; stuck < 5; ) {
        if (transmit(link, frame(1514))) {
          sent++;
          stuck = 0;
          continue;
        }
        link.flush();
        stuck++;
        await new Promise((resolve) => setImmediate(resolve));
      }
      const held = sent * 1518;
      t.ok(held > 256 * 1024 && held < 8 * 1024 * 1024, `${held} octets under way`);
      recorder.writableCalls = 0;
      let octets = 0;
      peer.on('data', (chunk: Buffer) => (octets += chunk.length));
      peer.resume();
      await recorder.until(() => recorder.writableCalls > 0);
      t.ok(transmit(link, frame(1514)));
      link.flush();
      while (octets < (sent + 1) * 1518) await once(peer, 'data');
      t.equal(octets, (sent + 1) * 1518);
    });

    t.test('without a peer there is no room, and with the next one there is', async (t) => {
      const { path, peer, link, recorder } = await attached(t);
      peer.destroy();
      while (link.attached) await new Promise((resolve) => setImmediate(resolve));
      t.notOk(link.reserve(100));
      const next = net.connect({ path });
      await recorder.until(() => recorder.writableCalls > 0);
      t.ok(transmit(link, frame(99)));
      link.flush();
      const [chunk] = (await once(next, 'data')) as [Buffer];
      t.same(chunk, framed(frame(99)));
      next.destroy();
    });

    t.test('a peer that stays away is given up; one that comes back is not', async (t) => {
      const { path, peer, link, recorder } = await attached(t, { desertedMs: 50 });
      peer.destroy();
      while (link.attached) await new Promise((resolve) => setImmediate(resolve));
      const back = net.connect({ path });
      back.write(framed(frame(20)));
      await recorder.until(() => recorder.frames.length === 1);
      t.equal(recorder.desertions, 0);
      back.destroy();
      await recorder.until(() => recorder.desertions === 1);
      t.same(recorder.closedWith, []);
    });

    t.test('connecting: until it answers, and again when it has gone', async (t) => {
      const path = freshPath();
      const link = QemuStreamLink.connect(path, { mtu, portable });
      const recorder = new Recorder();
      link.start(recorder);
      for (let round = 1; round <= 3; round++) {
        const server = net.createServer().listen(path);
        const [peer] = (await once(server, 'connection')) as [net.Socket];
        peer.write(framed(frame(20 + round)));
        await recorder.until(() => recorder.frames.length === round);
        peer.destroy();
        server.close();
        await once(server, 'close');
      }
      t.same(
        recorder.frames.map((bytes) => bytes.length),
        [21, 22, 23],
      );
      link.close();
      t.same(recorder.closedWith, [undefined]);
    });

    t.test('who connects before the start is served after it', async (t) => {
      const path = freshPath();
      const link = await QemuStreamLink.listen(path, { mtu, portable });
      const peer = net.connect({ path });
      peer.write(framed(frame(50)));
      await once(peer, 'connect');
      await new Promise((resolve) => setImmediate(resolve));
      const recorder = new Recorder();
      link.start(recorder);
      await recorder.until(() => recorder.frames.length === 1);
      t.same(recorder.frames, [frame(50)]);
      peer.destroy();
      link.close();
    });
  });
