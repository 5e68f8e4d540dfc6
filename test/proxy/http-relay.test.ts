/** The proxy's HTTP between a client and servers that misbehave, without a network of ours between them. */

import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { PassThrough } from 'node:stream';
import t, { type Test } from 'tap';
import type { HttpRoutes } from '../../src/proxy/http-proxy/relay.ts';
import { HttpRelay } from '../../src/proxy/http-proxy/relay.ts';
import { dial } from '../../src/proxy/http-proxy/upstream.ts';

/** A relay whose every target is `port` of the loopback; `ask` gives all that it answers to octets. */
async function relay(t: Test, port: number): Promise<(text: string) => Promise<string>> {
  const connect = () => dial({ host: '127.0.0.1', port });
  const routes: HttpRoutes = { route: async ({ host }) => ({ key: host, connect }), tunnel: connect };
  const relayed = new HttpRelay({ form: 'absolute', routes });
  const server = net.createServer({ allowHalfOpen: true }, (client) => relayed.serve(client));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => {
    relayed.close();
    server.close();
  });
  return async (text) => {
    const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
    client.write(text, 'latin1');
    let said = '';
    client.on('data', (bytes) => (said += bytes.toString('latin1')));
    await once(client, 'close');
    return said;
  };
}

/** A server that answers each connection's n-th octets with the n-th text; its port. */
async function serve(t: Test, ...answers: readonly string[]): Promise<number> {
  const server = net.createServer((socket) => {
    let next = 0;
    socket.on('error', () => undefined);
    socket.on('data', () => void socket.write(answers[next++] ?? '', 'latin1'));
    t.teardown(() => socket.destroy());
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  return (server.address() as net.AddressInfo).port;
}

const get = 'GET http://web.example/ HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n';

t.test('a status that is none is refused, and ends nothing else', async (t) => {
  for (const status of ['000', '099']) {
    const ask = await relay(t, await serve(t, `HTTP/1.1 ${status} x\r\nContent-Length: 0\r\n\r\n`));
    t.match(await ask(get), /^HTTP\/1\.1 502 .*something else than HTTP/s, status);
  }
});

t.test('a reason with octets that are none of a reason’s is left out', async (t) => {
  for (const reason of ['a\x01b', 'a\0b', '\x7f']) {
    const ask = await relay(t, await serve(t, `HTTP/1.1 200 ${reason}\r\nContent-Length: 2\r\n\r\nhi`));
    t.match(await ask(get), /^HTTP\/1\.1 200 OK\r\n.*\r\n\r\nhi$/s, JSON.stringify(reason));
  }
});

t.test('a dial is given up when who asked for it has gone', async (t) => {
  let ended: Promise<unknown> | undefined;
  const silent = net.createServer((socket) => {
    socket.on('error', () => undefined).resume();
    ended = once(socket, 'close');
  });
  await once(silent.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => silent.close());
  const client = new PassThrough();
  const asked = dial({ host: '127.0.0.1', port: (silent.address() as net.AddressInfo).port, tls: true }, client);
  await once(silent, 'connection');
  client.destroy();
  await t.rejects(asked, { code: 'ECONNABORTED' });
  await ended;
  t.equal(client.listenerCount('close'), 0);
  await t.rejects(dial({ host: '127.0.0.1', port: 9 }, client), { code: 'ECONNABORTED' }, 'or had gone before');
});

t.test('connections to ever more servers are kept up to a bound', async (t) => {
  let open = 0;
  let most = 0;
  const server = http.createServer((_request, response) => response.end('x'));
  server.on('connection', (socket) => {
    most = Math.max(most, ++open);
    socket.on('close', () => open--);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const ask = await relay(t, (server.address() as net.AddressInfo).port);
  for (let count = 0; count < 300; count++) await ask(get.replaceAll('web.example', `web${count}.example`));
  t.ok(most >= 250 && most < 270, `${most} at a time`);
});

t.test('nonsense after a request is no part of its answer', async (t) => {
  const ask = await relay(t, await serve(t, 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf'));
  const said = await ask('GET http://web.example/ HTTP/1.1\r\nHost: web.example\r\n\r\n\0nonsense\r\n\r\n');
  t.notMatch(said, / 400 /);
});

t.test('how a body is framed is not lost among many fields', async (t) => {
  let seen = '';
  const server = net.createServer((socket) => {
    socket
      .on('error', () => undefined)
      .on('data', (bytes) => {
        seen += bytes.toString('latin1');
        if (/\r\n\r\n/.test(seen)) socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n');
      });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  const ask = await relay(t, (server.address() as net.AddressInfo).port);
  const inner = 'GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n';
  const body = `${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`;
  const fields = `${'a: b\r\n'.repeat(1100)}Transfer-Encoding: chunked\r\nConnection: close\r\n`;
  await ask(`GET http://web.example/ HTTP/1.1\r\nHost: web.example\r\n${fields}\r\n${body}`);
  t.match(seen, /Transfer-Encoding: chunked\r\n/);
});
