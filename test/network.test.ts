/** The whole network core with a real Linux guest: its kernel's TCP/IP against ours, the host's sockets behind it. */

import { createHash, randomBytes } from 'node:crypto';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { QemuStreamLink } from '../src/hypervisor/link/qemu-stream.ts';
import { Network } from '../src/network.ts';
import { Guest } from './clients/guest.ts';

t.setTimeout(120_000);

const HOST = '192.168.65.2';
const folder = mkdtempSync(join(tmpdir(), 'slipway-network-'));
t.teardown(() => rmSync(folder, { recursive: true }));

async function world(t: Test, mtu = 1500, hostSockets: 'native' | 'portable' = 'native') {
  const path = join(folder, `${t.name.replace(/\W+/g, '-').slice(0, 30)}-${mtu}.sock`);
  const network = new Network({ subnet: '192.168.65.0/24', mtu, hostSockets, resolvConf: join(folder, 'none') });
  network.attach(await QemuStreamLink.listen(path, { mtu }));
  const guest = await Guest.start(path, mtu);
  t.teardown(async () => {
    network.close();
    await guest.stop();
  });
  return { network, guest, path };
}

async function hostServer(t: Test, serve: (socket: net.Socket) => void): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    serve(socket);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  return (server.address() as net.AddressInfo).port;
}

/** All that comes, though what is sent may go on for longer: an iterator would end the socket with the last octet read. */
async function received(socket: net.Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await once(socket, 'end');
  return Buffer.concat(chunks);
}

const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

for (const mtu of [1500, 65520])
  t.test(`octets arrive intact both ways at MTU ${mtu}`, async (t) => {
    const { guest, network } = await world(t, mtu);
    const sent = randomBytes(12 << 20);
    const fromGuest: Promise<Buffer>[] = [];
    const port = await hostServer(t, (socket) => {
      fromGuest.push(received(socket));
      socket.end(sent);
    });
    const [up, down] = await guest.run(
      async ({ net, crypto, once }, host, port) => {
        const socket = net.connect({ host, port, allowHalfOpen: true });
        const bytes = crypto.randomBytes(12 << 20);
        socket.end(bytes);
        const hash = crypto.createHash('sha256');
        socket.on('data', (chunk) => hash.update(chunk));
        await once(socket, 'close');
        return [crypto.createHash('sha256').update(bytes).digest('hex'), hash.digest('hex')];
      },
      HOST,
      port,
    );
    t.equal(sha256(await fromGuest[0]!), up);
    t.equal(sha256(sent), down);
    const { 'link-full': _, ...drops } = network.drops();
    t.notOk(drops['tcp-checksum'] || drops['ipv4-checksum'] || drops['tcp-malformed'], 'nothing was malformed');
  });

for (const hostSockets of ['native', 'portable'] as const)
  t.test(`${hostSockets} sockets, TCP: how connections begin and end`, async (t) => {
    const { guest } = await world(t, 1500, hostSockets);
    const dial = (host: string, port: number): Promise<string> =>
      guest.run(
        async ({ net, once }, host, port) => {
          const socket = net.connect({ host, port });
          await once(socket, 'connect');
          socket.destroy();
          return 'connected';
        },
        host,
        port,
      );

    await t.test('refused, prohibited, the gateway itself', async (t) => {
      const port = await hostServer(t, (socket) => socket.destroy());
      t.equal(await dial(HOST, port), 'connected');
      await t.rejects(dial(HOST, 1), { message: 'ECONNREFUSED' });
      await t.rejects(dial('169.254.169.254', 80), { message: 'ECONNREFUSED' });
      await t.rejects(dial('192.168.65.1', 81), { message: 'ECONNREFUSED' });
    });

    await t.test('half-close: the guest first', async (t) => {
      const port = await hostServer(t, async (socket) => socket.end(`got ${(await buffer(socket)).length}`));
      const answer = await guest.run(
        async ({ net, once }, host, port) => {
          const socket = net.connect({ host, port, allowHalfOpen: true });
          socket.end(Buffer.alloc(100_000));
          let answer = '';
          socket.on('data', (chunk) => {
            answer += chunk;
          });
          await once(socket, 'close');
          return answer;
        },
        HOST,
        port,
      );
      t.equal(answer, 'got 100000');
    });

    await t.test('half-close: the host first', async (t) => {
      let got: Promise<Buffer> | undefined;
      const port = await hostServer(t, (socket) => {
        socket.end('bye');
        got = buffer(socket);
      });
      const heard = await guest.run(
        async ({ net, once }, host, port) => {
          const socket = net.connect({ host, port, allowHalfOpen: true });
          let heard = '';
          socket.on('data', (chunk) => {
            heard += chunk;
          });
          await once(socket, 'end');
          socket.end(Buffer.alloc(50_000));
          await once(socket, 'close');
          return heard;
        },
        HOST,
        port,
      );
      t.equal(heard, 'bye');
      t.equal((await got)!.length, 50_000);
    });

    await t.test('resets, either way', async (t) => {
      const codes: Promise<string>[] = [];
      const port = await hostServer(t, (socket) => {
        codes.push(once(socket, 'error').then(([error]) => (error as NodeJS.ErrnoException).code!));
        socket.resume();
      });
      await guest.run(
        async ({ net, once }, host, port) => {
          const socket = net.connect({ host, port });
          await once(socket, 'connect');
          socket.resetAndDestroy();
        },
        HOST,
        port,
      );
      while (codes.length === 0) await new Promise((resolve) => setImmediate(resolve));
      t.equal(await codes[0], 'ECONNRESET');

      const resetting = await hostServer(t, (socket) => socket.once('data', () => socket.resetAndDestroy()));
      const error = guest.run(
        async ({ net, once }, host, port) => {
          const socket = net.connect({ host, port });
          socket.write('x');
          await once(socket, 'close');
        },
        HOST,
        resetting,
      );
      await t.rejects(error, { message: 'ECONNRESET' });
    });

    await t.test('three hundred at once', async (t) => {
      const port = await hostServer(t, (socket) => socket.pipe(socket));
      const echoed = await guest.run(
        async ({ net, once }, host, port) => {
          const one = async (i: number): Promise<boolean> => {
            const socket = net.connect({ host, port });
            socket.write(`hello ${i}`);
            const [chunk] = await once(socket, 'data');
            socket.destroy();
            return String(chunk) === `hello ${i}`;
          };
          return Promise.all(Array.from({ length: 300 }, (_, i) => one(i)));
        },
        HOST,
        port,
      );
      t.ok(echoed.every(Boolean));
    });
  });

for (const hostSockets of ['native', 'portable'] as const)
  t.test(`${hostSockets} sockets, back-pressure: a reader that stops, stops the writer`, async (t) => {
    const { guest, network } = await world(t, 65520, hostSockets);
    const total = 48 << 20;

    await t.test('the guest stops reading', async (t) => {
      let written = 0;
      const sockets: net.Socket[] = [];
      const port = await hostServer(t, (socket) => {
        sockets.push(socket);
        const more = (): void => {
          while (written < total) {
            written += 65536;
            if (!socket.write(Buffer.alloc(65536))) return void socket.once('drain', more);
          }
          socket.end();
        };
        more();
      });
      await guest.run(
        async ({ net, once }, host, port) => {
          const socket = net.connect({ host, port });
          socket.pause();
          await once(socket, 'connect');
          Object.assign(globalThis, { stopped: socket });
        },
        HOST,
        port,
      );
      const waitsFor = (): string | undefined => network.flows()[0]?.waitsFor;
      for (const deadline = Date.now() + 60_000; waitsFor() !== 'guest window' && Date.now() < deadline; )
        await pause(20);
      t.match(network.flows(), [{ protocol: 'tcp', waitsFor: 'guest window' }]);
      await settled(() => written);
      t.ok(written < total, `stopped after ${written} of ${total} octets`);
      const octets = await guest.run(async ({ once }) => {
        const { stopped: socket } = globalThis as unknown as { stopped: net.Socket };
        let octets = 0;
        socket.on('data', (chunk) => {
          octets += chunk.length;
        });
        socket.resume();
        await once(socket, 'close');
        return octets;
      });
      t.equal(octets, total);
    });

    await t.test('the host stops reading', async (t) => {
      const sockets: net.Socket[] = [];
      const port = await hostServer(t, (socket) => sockets.push(socket.pause()));
      const sending = guest.run(
        async ({ net, once }, host, port, total) => {
          const socket = net.connect({ host, port });
          Object.assign(globalThis, { sending: socket });
          for (let sent = 0; sent < total; sent += 65536)
            if (!socket.write(Buffer.alloc(65536))) await once(socket, 'drain');
          socket.end();
          await once(socket, 'close');
          return true;
        },
        HOST,
        port,
        total,
      );
      const written = (): Promise<number> =>
        guest.run(() => (globalThis as unknown as { sending?: net.Socket }).sending?.bytesWritten ?? 0);
      await settled(written);
      t.ok((await written()) < total, 'stopped');
      const got = buffer(sockets[0]!);
      sockets[0]!.resume();
      sockets[0]!.once('end', () => sockets[0]!.end());
      t.ok(await sending);
      t.equal((await got).length, total);
    });
  });

/** Waits until a number has grown and grows no more. */
async function settled(read: () => number | Promise<number>): Promise<void> {
  for (let before = -1, same = 0; same < 5; ) {
    const now = await read();
    same = now === before && now > 0 ? same + 1 : 0;
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 40));
  }
}

t.test('UDP, DNS and published ports', async (t) => {
  const { guest, network } = await world(t);

  await t.test('datagrams both ways, up to 65507 octets', async (t) => {
    const server = dgram.createSocket('udp4', (message, from) => server.send(message, from.port, from.address));
    await once(server.bind(0, '127.0.0.1'), 'listening');
    t.teardown(() => server.close());
    const lengths = await guest.run(
      async ({ dgram, once }, host, port) => {
        const socket = dgram.createSocket({ type: 'udp4', recvBufferSize: 1 << 20 });
        const lengths: string[] = [];
        for (const length of [0, 1, 1472, 1473, 30_000, 65_507]) {
          socket.send(Buffer.alloc(length, length & 0xff), port, host);
          const [message, from] = await once(socket, 'message');
          lengths.push(
            `${message.length} ${message.every((octet: number) => octet === (length & 0xff))} ${from.address}`,
          );
        }
        socket.close();
        return lengths;
      },
      HOST,
      server.address().port,
    );
    t.same(
      lengths,
      [0, 1, 1472, 1473, 30_000, 65_507].map((length) => `${length} true ${HOST}`),
    );
  });

  await t.test('a datagram to nobody: ICMP tells the guest whom it was for', async (t) => {
    const nobody = dgram.createSocket('udp4');
    await once(nobody.bind(0, '127.0.0.1'), 'listening');
    const { port } = nobody.address();
    nobody.close();
    await once(nobody, 'close');
    const heard = await guest.run(
      async ({ dgram, once }, host, port) => {
        const socket = dgram.createSocket('udp4');
        socket.connect(port, host);
        await once(socket, 'connect');
        socket.send('is anybody there?');
        const [error] = await once(socket, 'error').catch((thrown: unknown) => [thrown]);
        socket.close();
        return (error as NodeJS.ErrnoException).code ?? String(error);
      },
      HOST,
      port,
    );
    t.equal(heard, 'ECONNREFUSED');
  });

  await t.test('names of the network', async (t) => {
    const answers = await guest.run(async ({ dns }) => {
      const resolver = new dns.promises.Resolver();
      resolver.setServers(['192.168.65.1']);
      const failed = (error: { code: string }) => error.code;
      return [
        await resolver.resolve4('host.docker.internal'),
        await resolver.resolve6('host.docker.internal').catch(failed),
        await resolver.resolve4('gateway.docker.internal'),
        await resolver.resolve4('example.invalid').catch(failed),
      ];
    });
    const host6 = 'fd53:6c69:c0a8:4100::2';
    t.same(answers, [[HOST], [host6], ['192.168.65.1'], 'ESERVFAIL'], 'and without a name server no others');
  });

  await t.test('published TCP, to the guest and to a container behind it', async (t) => {
    const port = await guest.run(async ({ net, once }) => {
      const server = net.createServer((socket) => {
        const { localAddress, remoteAddress } = socket;
        socket.on('data', (chunk) => socket.end(`${localAddress} ${remoteAddress} ${chunk}`));
      });
      await once(server.listen(0, '0.0.0.0'), 'listening');
      return (server.address() as net.AddressInfo).port;
    });
    for (const guestAddress of ['192.168.65.3', '172.17.0.2']) {
      const exposed = await network.expose({
        protocol: 'tcp',
        hostAddress: '127.0.0.1',
        hostPort: 0,
        guestAddress,
        guestPort: port,
      });
      const socket = net.connect(exposed.port, '127.0.0.1');
      socket.write('hi');
      t.equal((await buffer(socket)).toString(), `${guestAddress} 192.168.65.1 hi`);
      exposed.close();
      const [error] = await once(net.connect(exposed.port, '127.0.0.1'), 'error');
      t.equal((error as NodeJS.ErrnoException).code, 'ECONNREFUSED');
    }
    const refused = await network.expose({
      protocol: 'tcp',
      hostAddress: '127.0.0.1',
      hostPort: 0,
      guestAddress: '192.168.65.3',
      guestPort: 1,
    });
    const [error] = await once(net.connect(refused.port, '127.0.0.1').resume(), 'error');
    t.equal((error as NodeJS.ErrnoException).code, 'ECONNRESET');
    refused.close();
  });

  await t.test('published UDP', async (t) => {
    const guestPort = await guest.run(async ({ dgram, once }) => {
      const server = dgram.createSocket('udp4', (message, from) =>
        server.send(`${from.address} ${message}`, from.port, from.address),
      );
      await once(server.bind(0), 'listening');
      return server.address().port;
    });
    const where = { protocol: 'udp', hostAddress: '127.0.0.1', hostPort: 0, guestAddress: '192.168.65.3' } as const;
    const exposed = await network.expose({ ...where, guestPort });
    const clients = await Promise.all(
      ['one', 'two'].map(async (name) => {
        const client = dgram.createSocket('udp4');
        client.send(name, exposed.port, '127.0.0.1');
        const [message] = (await once(client, 'message')) as [Buffer];
        client.close();
        return message.toString();
      }),
    );
    t.same(clients, ['192.168.65.1 one', '192.168.65.1 two']);
    exposed.close();
  });
});

t.test('a guest that is replaced finds everything as it was', async (t) => {
  const { guest, path } = await world(t);
  const port = await hostServer(t, (socket) => socket.end('hello'));
  await guest.stop();
  const next = await Guest.start(path);
  t.teardown(() => next.stop());
  const heard = await next.run(
    async ({ net, once }, host, port) => {
      const [chunk] = await once(net.connect({ host, port }), 'data');
      return String(chunk);
    },
    HOST,
    port,
  );
  t.equal(heard, 'hello');
});

t.test('a guest that changes its MAC address, or takes its address away, is noticed', async (t) => {
  const { guest, network } = await world(t);
  await guest.run(({ net, once }) => {
    const server = net.createServer((socket) => socket.on('error', () => undefined).pipe(socket));
    return once(server.listen(80, '192.168.65.3'), 'listening').then(() => undefined);
  });
  const request = { protocol: 'tcp', hostAddress: '127.0.0.1', hostPort: 0, guestPort: 80 } as const;
  const { port } = await network.expose({ ...request, guestAddress: '192.168.65.3' });
  const client = net.connect({ port, host: '127.0.0.1' });
  t.teardown(() => client.destroy());
  const says = async (words: string): Promise<string> => {
    client.write(words);
    return String((await once(client, 'data'))[0]);
  };
  t.equal(await says('before'), 'before');
  await guest.run(({ exec }) => {
    // Without a word of the kernel's own about it.
    exec('sysctl', ['-qw', 'net.ipv4.conf.eth0.arp_notify=0']);
    exec('ip', ['link', 'set', 'eth0', 'address', '02:00:00:00:00:99']);
  });
  t.equal(await says('after'), 'after', 'a connection that was open goes on');
  const late = net.connect({ port, host: '127.0.0.1' });
  late.end('new');
  t.equal(String(await received(late)), 'new');
  await guest.run(({ exec }) => void exec('ip', ['addr', 'del', '192.168.65.3/24', 'dev', 'eth0']));
  const vain = net.connect({ port, host: '127.0.0.1' });
  await t.rejects(once(vain, 'close'), { code: 'ECONNRESET' }, 'and who comes for a guest that has gone is told');
});
