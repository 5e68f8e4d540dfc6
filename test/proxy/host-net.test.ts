/** The host's network: the adapter over Node's sockets, and the fake. */

import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { FakeHostNet } from '../../src/proxy/adapter/fake-host-net.ts';
import { LinuxHostNet } from '../../src/proxy/adapter/linux-host-net.ts';
import { NodeHostNet } from '../../src/proxy/adapter/node-host-net.ts';
import type { HostNetPort } from '../../src/proxy/port.ts';
import { parseAddress } from '../../src/stack/wire/address.ts';
import { type HostWorld, hostNetConformance } from './host-net-conformance.ts';
import { fragmentsOf, HostPeer } from './host-peer.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-host-net-'));
t.teardown(() => rmSync(folder, { recursive: true }));

const worldOf = (host: HostNetPort, name: string, hearsErrors: boolean): HostWorld => ({
  net: host,
  hearsErrors,
  async servePath(accept) {
    // A port forwarder in small: the path's connections continue to a listener of the adapter.
    const listener = await host.listen('127.0.0.1', 0, accept);
    const path = join(folder, `${name}.sock`);
    const server = net.createServer({ allowHalfOpen: true }, (near) => {
      const far = net.connect({ host: '127.0.0.1', port: listener.port, allowHalfOpen: true });
      near.pipe(far).pipe(near);
    });
    await once(server.listen(path), 'listening');
    const close = (): void => {
      server.close();
      listener.close();
    };
    return { path, close };
  },
});

const node = new NodeHostNet();
const native = new LinuxHostNet();

const fake = new FakeHostNet();
const fakeWorld: HostWorld = {
  net: fake,
  hearsErrors: true,
  async servePath(accept) {
    fake.listenPath('/peer.sock', accept);
    return { path: '/peer.sock', close() {} };
  },
};

t.test('node', async (t) => hostNetConformance(t, worldOf(node, 'node', false)));
t.test('native', async (t) => {
  t.equal(await native.loaded, process.platform === 'linux', 'there is a native edge on Linux');
  await hostNetConformance(t, worldOf(native, 'native', process.platform === 'linux'));
});
t.test('fake', async (t) => hostNetConformance(t, fakeWorld));

t.test('fake: hosts that never answer, and networks without a route', async (t) => {
  fake.blackHoles.add('10.0.0.1');
  fake.unreachable.add('10.0.0.2');
  const silent = new HostPeer();
  const stream = fake.connect(parseAddress('10.0.0.1')!, 80, silent);
  const unreachable = new HostPeer();
  fake.connect(parseAddress('10.0.0.2')!, 80, unreachable);
  await unreachable.until(() => unreachable.isClosed);
  t.equal(unreachable.code, 'EHOSTUNREACH');
  t.notOk(silent.isConnected || silent.isClosed);
  stream.abort();
  await silent.until(() => silent.isClosed);
});

for (const [name, host] of [
  ['node', node],
  ['native', native],
] as const) {
  t.test(`${name}: abort with octets that the peer does not read is a reset`, async (t) => {
    const server = net.createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const peer = new HostPeer();
    const stream = host.connect(parseAddress('127.0.0.1')!, (server.address() as net.AddressInfo).port, peer);
    const [far] = (await once(server, 'connection')) as [net.Socket];
    await peer.until(() => peer.isConnected);
    while (stream.writeRoom > 0) stream.writev(fragmentsOf(new Uint8Array(65536)));
    stream.end();
    stream.abort();
    await peer.until(() => peer.isClosed);
    far.resume();
    const [error] = (await once(far, 'error')) as [NodeJS.ErrnoException];
    t.equal(error.code, 'ECONNRESET');
    server.close();
  });

  t.test(`${name}: a reset by the far side is ECONNRESET`, async (t) => {
    const server = net.createServer((socket) => void socket.resetAndDestroy()).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const peer = new HostPeer();
    host.connect(parseAddress('127.0.0.1')!, (server.address() as net.AddressInfo).port, peer);
    await peer.until(() => peer.isClosed);
    t.equal(peer.code, 'ECONNRESET');
    server.close();
  });

  t.test(`${name}: all streams together are asked to be modest`, async (t) => {
    const server = net.createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    const peers = Array.from({ length: 70 }, () => {
      const peer = new HostPeer();
      peer.stream = host.connect(parseAddress('127.0.0.1')!, port, peer);
      return peer;
    });
    await Promise.all(peers.map((peer) => peer.until(() => peer.isConnected)));
    // In one turn: nothing that the kernel takes is told in between.
    const [fresh, ...others] = peers as [HostPeer, ...HostPeer[]];
    for (const peer of others) while (peer.stream.writev(fragmentsOf(new Uint8Array(65536))) > 0);
    t.equal(others[0]!.stream.writeRoom, 0);
    t.equal(fresh.stream.writeRoom, 16384);
    for (const peer of peers) peer.stream.abort();
    await Promise.all(peers.map((peer) => peer.until(() => peer.isClosed)));
    server.close();
  });
}
