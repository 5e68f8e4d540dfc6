/** What every HostNetPort does: run for the adapter and for the fake. Both ends of every stream are under test. */

import fc from 'fast-check';
import type { Test } from 'tap';
import type { HostListener, HostNetPort, HostStream, StreamHandler } from '../../src/proxy/port.ts';
import { formatAddress, parseAddress } from '../../src/stack/wire/address.ts';
import { fragmentsOf, HostPeer } from './host-peer.ts';

export interface HostWorld {
  readonly net: HostNetPort;
  /** ICMP errors about datagrams are heard of. */
  readonly hearsErrors: boolean;
  /** A unix socket whose connections are accepted by `accept`; returns its path and how to end it. */
  servePath(accept: (stream: HostStream) => StreamHandler): Promise<{ path: string; close(): void }>;
}

const octets = (count: number, seed = 1): Uint8Array => {
  const bytes = new Uint8Array(count);
  for (let i = 0, x = seed; i < count; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) | 0;
    bytes[i] = x >>> 24;
  }
  return bytes;
};

/** A connection: the dialling end and the accepted one. */
async function pair(net: HostNetPort, host = '127.0.0.1', acceptor = new HostPeer(), dialler = new HostPeer()) {
  const listener = await net.listen(host, 0, (stream) => {
    acceptor.connected(stream);
    return acceptor;
  });
  dialler.stream = net.connect(parseAddress(host)!, listener.port, dialler);
  await Promise.all([dialler.until(() => dialler.isConnected), acceptor.until(() => acceptor.isConnected)]);
  listener.close();
  return { dialler, acceptor };
}

async function freePort(net: HostNetPort): Promise<number> {
  const listener = await net.listen('127.0.0.1', 0, () => new HostPeer());
  listener.close();
  return listener.port;
}

export function hostNetConformance(t: Test, world: HostWorld): void {
  const { net } = world;

  for (const host of ['127.0.0.1', '::1'])
    t.test(`octets arrive both ways and both ends close in order: ${host}`, async (t) => {
      const { dialler, acceptor } = await pair(net, host);
      t.equal(dialler.stream.remoteAddress, host);
      t.equal(acceptor.stream.remotePort, dialler.stream.localPort);
      t.equal(dialler.stream.remotePort, acceptor.stream.localPort);
      dialler.send(octets(5000, 1), true);
      acceptor.send(octets(3000, 2), true);
      await Promise.all([dialler.until(() => dialler.isClosed), acceptor.until(() => acceptor.isClosed)]);
      t.ok(acceptor.bytes.equals(octets(5000, 1)));
      t.ok(dialler.bytes.equals(octets(3000, 2)));
      t.ok(dialler.ended && acceptor.ended, 'END was read');
      t.same([dialler.code, acceptor.code], [undefined, undefined]);
    });

  t.test('nobody listening refuses', async (t) => {
    const peer = new HostPeer();
    net.connect(parseAddress('127.0.0.1')!, await freePort(net), peer);
    await peer.until(() => peer.isClosed);
    t.equal(peer.code, 'ECONNREFUSED');
    t.notOk(peer.isConnected);
  });

  t.test('a dial can be given up', async (t) => {
    const peer = new HostPeer();
    net.connect(parseAddress('127.0.0.1')!, await freePort(net), peer).abort();
    await peer.until(() => peer.isClosed);
    t.notOk(peer.isConnected);
  });

  for (const first of ['dialler', 'acceptor'] as const)
    t.test(`half-close: ${first} ends first and goes on reading`, async (t) => {
      const ends = await pair(net);
      const other = first === 'dialler' ? ends.acceptor : ends.dialler;
      ends[first].send(octets(10), true);
      await other.until(() => other.ended);
      other.send(octets(200_000), true);
      await Promise.all([ends[first].until(() => ends[first].isClosed), other.until(() => other.isClosed)]);
      t.ok(ends[first].bytes.equals(octets(200_000)));
    });

  t.test('abort is seen as ECONNRESET, and closed comes once to both', async (t) => {
    const { dialler, acceptor } = await pair(net);
    dialler.send(octets(100));
    await acceptor.until(() => acceptor.receivedOctets === 100);
    dialler.stream.abort();
    dialler.stream.abort();
    await Promise.all([dialler.until(() => dialler.isClosed), acceptor.until(() => acceptor.isClosed)]);
    t.equal(acceptor.code, 'ECONNRESET');
    t.notOk(acceptor.ended, 'and not as an end');
    t.same([dialler.closedCalls, acceptor.closedCalls], [1, 1]);
  });

  t.test('abort after end is ECONNRESET too', async (t) => {
    const { dialler, acceptor } = await pair(net);
    dialler.stream.end();
    await acceptor.until(() => acceptor.ended);
    acceptor.stream.abort();
    await dialler.until(() => dialler.isClosed);
    t.equal(dialler.code, 'ECONNRESET');
  });

  t.test('a reader that stops, stops the writer, and nothing is lost', async (t) => {
    const acceptor = new HostPeer();
    acceptor.reading = false;
    const { dialler } = await pair(net, '127.0.0.1', acceptor);
    const total = 24_000_000;
    const sent = octets(total);
    let at = 0;
    // Fills up until the writer has been told "not now" and nothing moves any more.
    const fill = (): void => {
      while (at < total && dialler.stream.writeRoom > 0)
        at += dialler.stream.writev(fragmentsOf(sent.subarray(at, at + 65536)));
    };
    dialler.writable = fill;
    for (let before = -1; before !== at; ) {
      before = at;
      fill();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    t.ok(at < total, `stopped after ${at} octets`);
    t.equal(dialler.stream.writeRoom, 0);
    acceptor.reading = true;
    acceptor.drain();
    await acceptor.until(() => acceptor.receivedOctets === total);
    t.ok(acceptor.bytes.equals(sent));
    dialler.stream.abort();
    await acceptor.until(() => acceptor.isClosed);
  });

  t.test('what is left unread stays, in order, until it is read', async (t) => {
    const reader = new HostPeer();
    reader.reading = false;
    const { dialler } = await pair(net, '127.0.0.1', reader);
    dialler.send(octets(50_000), true);
    let announced = 0;
    reader.readable = () => {
      announced++;
      reader.drain(1000);
    };
    await new Promise((resolve) => setImmediate(resolve));
    while (reader.receivedOctets < 50_000) {
      reader.drain(777);
      await new Promise((resolve) => setImmediate(resolve));
    }
    t.ok(announced > 0);
    t.ok(reader.bytes.equals(octets(50_000)));
    reader.reading = true;
    while (!reader.ended) {
      reader.drain();
      await new Promise((resolve) => setImmediate(resolve));
    }
    reader.stream.end();
    await reader.until(() => reader.isClosed);
  });

  t.test('any pattern of writes and reads carries the same octets', async (t) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 150_000 }), { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 2_000, max: 70_000 }),
        async (writes, readSize) => {
          const acceptor = new HostPeer();
          acceptor.reading = false;
          const { dialler } = await pair(net, '127.0.0.1', acceptor);
          const total = writes.reduce((sum, size) => sum + size, 0);
          const all = octets(total);
          for (let i = 0, at = 0; i < writes.length; at += writes[i++]!)
            dialler.send(all.subarray(at, at + writes[i]!));
          dialler.send(new Uint8Array(0), true);
          while (!acceptor.ended) {
            acceptor.drain(readSize);
            await new Promise((resolve) => setImmediate(resolve));
          }
          acceptor.stream.end();
          await Promise.all([dialler.until(() => dialler.isClosed), acceptor.until(() => acceptor.isClosed)]);
          return acceptor.bytes.equals(all);
        },
      ),
      { numRuns: 25 },
    );
    t.pass();
  });

  t.test('many connections at once', async (t) => {
    const accepted: HostPeer[] = [];
    let allAccepted = (): void => {};
    const all = new Promise<void>((resolve) => {
      allAccepted = resolve;
    });
    const listener = await net.listen('127.0.0.1', 0, (stream) => {
      const peer = new HostPeer();
      peer.connected(stream);
      if (accepted.push(peer) === 200) allAccepted();
      return peer;
    });
    const diallers = Array.from({ length: 200 }, (_, i) => {
      const peer = new HostPeer();
      peer.stream = net.connect(parseAddress('127.0.0.1')!, listener.port, peer);
      peer.send(octets(100, i), true);
      return peer;
    });
    await Promise.all(diallers.map((peer) => peer.until(() => peer.isConnected)));
    await all;
    for (const peer of accepted) {
      await peer.until(() => peer.ended);
      peer.send(peer.bytes, true);
    }
    await Promise.all(diallers.map((peer) => peer.until(() => peer.isClosed)));
    t.ok(diallers.every((peer, i) => peer.bytes.equals(octets(100, i))));
    listener.close();
  });

  t.test('a taken port is refused with its code', async (t) => {
    const listener = await net.listen('127.0.0.1', 0, () => new HostPeer());
    t.ok(listener.port > 0);
    await t.rejects(
      net.listen('127.0.0.1', listener.port, () => new HostPeer()),
      { code: 'EADDRINUSE' },
    );
    listener.close();
    const udp = await net.listenDatagram('127.0.0.1', 0, { received() {}, failed() {} });
    await t.rejects(net.listenDatagram('127.0.0.1', udp.port, { received() {}, failed() {} }), { code: 'EADDRINUSE' });
    udp.close();
  });

  t.test('a unix socket', async (t) => {
    const server = new HostPeer();
    const { path, close } = await world.servePath((stream) => {
      server.connected(stream);
      return server;
    });
    const client = new HostPeer();
    client.stream = net.connectPath(path, client);
    client.send(octets(100_000), true);
    await server.until(() => server.ended);
    server.send(server.bytes, true);
    await client.until(() => client.isClosed);
    t.ok(client.bytes.equals(octets(100_000)));
    const nobody = new HostPeer();
    net.connectPath(`${path}.not`, nobody);
    await nobody.until(() => nobody.isClosed);
    t.match(nobody.code, /^(ENOENT|ECONNREFUSED)$/);
    close();
  });

  for (const host of ['127.0.0.1', '::1'])
    t.test(`datagrams: one socket, several peers, each reply from its own address: ${host}`, async (t) => {
      const family = host === '::1' ? 6 : 4;
      const peers = await Promise.all([1, 2, 3].map(() => echoing(net, host)));
      const replies = new Map<number, number>();
      const done = new Promise<void>((resolve) => {
        const socket = net.bindDatagram(family, {
          received(_, payload, address, port) {
            t.equal(formatAddress(address), host);
            replies.set(port, payload.length);
            if (replies.size === peers.length) {
              t.ok(socket.port > 0);
              socket.close();
              resolve();
            }
          },
          failed: (_, code) => t.fail(code),
        });
        for (const [i, peer] of peers.entries())
          t.ok(socket.send(fragmentsOf(octets(i + 1), octets(7)), parseAddress(host)!, peer.port));
      });
      await done;
      t.same([...replies].sort(), peers.map((peer, i) => [peer.port, i + 8]).sort());
      for (const peer of peers) peer.close();
    });

  for (const host of world.hearsErrors ? ['127.0.0.1', '::1'] : [])
    t.test(`datagrams to nobody are told, with whom they were for, and others still arrive: ${host}`, async (t) => {
      const [gone, peer] = await Promise.all([echoing(net, host), echoing(net, host)]);
      gone.close();
      const to = parseAddress(host)!;
      await new Promise<void>((resolve) => {
        const socket = net.bindDatagram(host === '::1' ? 6 : 4, {
          received(_, payload) {
            t.equal(payload.length, 7);
            socket.close();
            resolve();
          },
          failed(_, code, address, port, payload) {
            t.same(payload && Buffer.from(payload), Buffer.from(octets(5)), 'and with what it carried');
            t.same([code, address && formatAddress(address), port], ['ECONNREFUSED', host, gone.port]);
            socket.send(fragmentsOf(octets(7)), to, peer.port);
          },
        });
        t.ok(socket.send(fragmentsOf(octets(5)), to, gone.port));
      });
      peer.close();
    });

  t.test('a datagram is sent as it was when it was given', async (t) => {
    const got: string[] = [];
    await new Promise<void>((resolve) => {
      net
        .listenDatagram('127.0.0.1', 0, {
          received(_, payload) {
            got.push(Buffer.from(payload).toString());
            if (got.length === 3) resolve();
          },
          failed: (_, code) => t.fail(code),
        })
        .then((peer) => {
          const socket = net.bindDatagram(4, { received() {}, failed: (_, code) => t.fail(code) });
          const place = Buffer.alloc(100);
          for (const letter of 'abc') {
            place.fill(letter);
            t.ok(socket.send(fragmentsOf(place), parseAddress('127.0.0.1')!, peer.port));
          }
          place.fill('x');
          t.teardown(() => {
            socket.close();
            peer.close();
          });
        });
    });
    t.same(
      got,
      [...'abc'].map((letter) => letter.repeat(100)),
    );
  });

  t.test('a datagram of 65507 octets goes both ways, a longer one nowhere', async (t) => {
    const peer = await echoing(net, '127.0.0.1');
    const sent = octets(65507);
    const got = await new Promise<Uint8Array>((resolve) => {
      const socket = net.bindDatagram(4, {
        received(_, payload) {
          resolve(Uint8Array.from(payload));
          socket.close();
        },
        failed: (_, code) => t.fail(code),
      });
      t.equal(socket.send(fragmentsOf(octets(65508)), parseAddress('127.0.0.1')!, peer.port), false);
      t.ok(socket.send(fragmentsOf(sent), parseAddress('127.0.0.1')!, peer.port));
    });
    t.ok(Buffer.from(got).equals(sent));
    peer.close();
  });

  t.test('an empty datagram is one', async (t) => {
    const got = await new Promise<number>((resolve) => {
      net
        .listenDatagram('127.0.0.1', 0, { received: (_, payload) => resolve(payload.length), failed() {} })
        .then((peer) => {
          const socket = net.bindDatagram(4, { received() {}, failed() {} });
          socket.send(fragmentsOf(), parseAddress('127.0.0.1')!, peer.port);
          t.teardown(() => {
            socket.close();
            peer.close();
          });
        });
    });
    t.equal(got, 0);
  });
}

function echoing(net: HostNetPort, host: string): Promise<HostListener> {
  return net.listenDatagram(host, 0, {
    received: (socket, payload, address, port) => void socket.send(fragmentsOf(payload), address, port),
    failed() {},
  });
}
