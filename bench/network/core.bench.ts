/**
 * What the whole core costs for small things, in CPU of the process, first when it has just started, then when its code
 * is compiled. The guest's own script, and the host's other ends, are in it. The baseline of each: the same by Node's own
 * sockets on loopback, both ends in one process too.
 */

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import { type Row, report } from '../table.ts';
import { Stage } from './stage.ts';

const COLD = 500;
const WARM = 6000;
const CONNECTIONS = 24;
const DATAGRAMS = 4;

/** CPU microseconds of one of `count`. */
async function cost(count: number, run: (count: number) => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  await run(count);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / count;
}

async function nodeConnections(count: number): Promise<void> {
  const server = net.createServer((socket) => socket.on('error', () => undefined).pipe(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  const one = async (): Promise<void> => {
    const socket = net.connect(port, '127.0.0.1');
    socket.write('x');
    await once(socket, 'data');
    socket.resetAndDestroy();
  };
  for (let made = 0; made < count; made += CONNECTIONS) await Promise.all(Array.from({ length: CONNECTIONS }, one));
  server.close();
}

async function nodeDatagrams(count: number): Promise<void> {
  const server = createSocket('udp4', (message, { port }) => server.send(message, port, '127.0.0.1'));
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  const client = createSocket('udp4');
  let back = 0;
  for (let sent = 0; sent < count; ) {
    for (let i = 0; i < DATAGRAMS; i++, sent++) client.send(Buffer.alloc(64), server.address().port, '127.0.0.1');
    while (back < sent) {
      await once(client, 'message');
      back++;
    }
  }
  client.close();
  server.close();
}

const stage = new Stage(1500);
await stage.open();
const rows: Row[] = [];
for (const [name, baseline, ours, theirs] of [
  ['connect, an octet each way, reset', 'node:net', (n) => stage.connections(n), nodeConnections],
  ['a datagram there and back', 'node:dgram', (n) => stage.datagrams(n), nodeDatagrams],
  ['a name never asked before', 'node:dgram', (n) => stage.names(n), nodeDatagrams],
] satisfies [string, string, (count: number) => Promise<void>, (count: number) => Promise<void>][]) {
  const first = await cost(COLD, ours);
  await cost(WARM, ours);
  const later = await cost(WARM, ours);
  await cost(WARM, theirs);
  const twin = await cost(WARM, theirs);
  rows.push({ name: `${name}: ${baseline}`, value: twin, unit: 'CPU us' });
  rows.push({ name: `${name}: the first ${COLD}`, value: first, unit: 'CPU us', ratio: first / twin, baseline });
  rows.push({ name: `${name}: later`, value: later, unit: 'CPU us', ratio: later / twin, baseline });
}
stage.close();
report('The whole core, there and back', rows);
