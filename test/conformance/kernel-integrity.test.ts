/**
 * Streams between our stack and the kernel's, over a TAP in a namespace, on a network that loses, reorders, repeats,
 * corrupts and delays frames at random, with readers at both ends that stop and go, so that windows close and open, and
 * receive buffers of the kernel's that shrink and grow: every octet arrives, once, in order, and both ends close.
 */

import { createHash, randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { QemuStreamLink } from '../../src/hypervisor/link/qemu-stream.ts';
import { Network } from '../../src/network.ts';
import { parseConditions } from '../../src/stack/link/conditions.ts';
import { formatAddress } from '../../src/stack/wire/address.ts';
import { Guest } from '../clients/guest.ts';
import { seededRandom } from '../stack/world.ts';

t.setTimeout(120_000);

const families = [
  { family: 'IPv4', loopback: '127.0.0.1', mtus: [576, 1500, 65520] },
  { family: 'IPv6', loopback: '::1', mtus: [1280, 1500, 65520] },
] as const;
const STREAMS = 4;
const ROUNDS = 3;
/** Frames, in all rounds. */
let spoilt = 0;

const folder = mkdtempSync(join(tmpdir(), 'slipway-integrity-'));
t.teardown(() => rmSync(folder, { recursive: true }));

const percent = (most: number) => fc.integer({ min: 0, max: most * 10 }).map((tenths) => `${tenths / 10}%`);
const conditions = fc
  .record({
    loss: percent(3),
    reorder: percent(10),
    duplicate: percent(5),
    corrupt: percent(1),
    delay: fc.constantFrom('1ms', '4ms'),
    jitter: fc.constantFrom('0ms', '1ms'),
    rate: fc.constantFrom('50mbit', '1gbit'),
  })
  .map((values) => Object.entries(values).map(([name, value]) => `${name}=${value}`));
const round = fc.record({
  conditions,
  octets: fc.array(fc.constantFrom(0, 1, 1460, 65_536, 150_000), {
    minLength: 2 * STREAMS,
    maxLength: 2 * STREAMS,
  }),
  buffer: fc.constantFrom('4096 4608 8192', '4096 16384 65536', '4096 131072 6291456'),
  seed: fc.integer({ min: 1, max: 999_999_999 }),
});

interface Digests {
  readonly sent: string;
  readonly received: string;
}

/** The host's end of each stream: sends what it is to send, reads in fits and starts. */
async function hostEnd(socket: net.Socket, octets: number, random: () => number): Promise<Digests> {
  const bytes = Buffer.from(Array.from({ length: octets }, () => random() * 256));
  const hash = createHash('sha256');
  socket.end(bytes);
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    hash.update(chunk as Buffer);
    if (random() < 0.2) await sleep(random() * 20);
  }
  if (!socket.closed) await once(socket, 'close');
  return { sent: createHash('sha256').update(bytes).digest('hex'), received: hash.digest('hex') };
}

/** The guest's end of every stream, at once; runs in the guest. */
async function guestEnds(
  { net, crypto, exec, once }: Parameters<Parameters<Guest['run']>[0]>[0],
  host: string,
  ports: readonly number[],
  octets: readonly number[],
  buffer: string,
): Promise<Digests[]> {
  exec('sh', ['-c', `echo ${buffer} > /proc/sys/net/ipv4/tcp_rmem`]);
  const stream = async (port: number, count: number): Promise<Digests> => {
    const bytes = crypto.randomBytes(count);
    const hash = crypto.createHash('sha256');
    const socket = net.connect({ host, port, allowHalfOpen: true });
    socket.end(bytes);
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
      hash.update(chunk as Buffer);
      if (crypto.randomInt(5) === 0) await new Promise((resolve) => setTimeout(resolve, crypto.randomInt(20)));
    }
    if (!socket.closed) await once(socket, 'close');
    return { sent: crypto.createHash('sha256').update(bytes).digest('hex'), received: hash.digest('hex') };
  };
  return Promise.all(ports.map((port, i) => stream(port, octets[i]!)));
}

for (const { family, loopback, mtus } of families)
  for (const mtu of mtus)
    t.test(`${family}, MTU ${mtu}: streams to and from the kernel stay whole on a bad network`, async (t: Test) => {
      const path = join(folder, `${family}-${mtu}.sock`);
      const network = new Network({ subnet: '192.168.65.0/24', mtu, resolvConf: join(folder, 'none') });
      network.attach(await QemuStreamLink.listen(path, { mtu }));
      const guest = await Guest.start(path, mtu);
      t.teardown(async () => {
        network.close();
        await guest.stop();
      });
      const { hostAlias, ipv6 } = network.addresses;
      const host = formatAddress(family === 'IPv6' ? ipv6!.hostAlias : hostAlias);
      if (family === 'IPv6')
        await guest.run(
          ({ exec }, address, gateway) => {
            exec('ip', ['addr', 'add', `${address}/64`, 'dev', 'eth0', 'nodad']);
            exec('ip', ['route', 'add', 'default', 'via', gateway]);
          },
          formatAddress(ipv6!.firstGuest),
          formatAddress(ipv6!.gateway),
        );
      const seed = Number(process.env.SEED ?? randomInt(2 ** 31));
      t.comment(`SEED=${seed}`);
      for (const { conditions, octets, buffer, seed: own } of fc.sample(round, { numRuns: ROUNDS, seed })) {
        network.useConditions(parseConditions([...conditions, `seed=${own}`].join()));
        const ends: Promise<Digests>[] = [];
        const servers = await Promise.all(
          octets.slice(STREAMS).map(async (count, i) => {
            const random = seededRandom(own + i);
            const server = net.createServer({ allowHalfOpen: true }, (socket) => {
              ends[i] = hostEnd(socket, count, random);
              server.close();
            });
            await once(server.listen(0, loopback), 'listening');
            return server;
          }),
        );
        const ports = servers.map((server) => (server.address() as AddressInfo).port);
        const guestDigests = await guest.run(guestEnds, host, ports, octets.slice(0, STREAMS), buffer);
        const hostDigests = await Promise.all(ends);
        t.same(
          guestDigests.map(({ sent, received }) => ({ sent: received, received: sent })),
          hostDigests,
          `${octets} octets, buffers ${buffer}, ${conditions}`,
        );
      }
      for (const counts of network.conditionCounts()) spoilt += counts.lost + counts.reordered + counts.duplicated;
    });

t.test('the network was bad', async (t) => t.ok(spoilt > 0, `${spoilt} frames were lost, reordered or repeated`));
