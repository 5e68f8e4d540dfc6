/** The proxy's HTTP between a client and servers that misbehave, without a network of ours between them. */

import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { PassThrough } from 'node:stream';
import { mock } from 'node:test';
import t, { type Test } from 'tap';
import type { HttpTarget } from '../../src/proxy/http-proxy/message.ts';
import { HttpRelay, type HttpRelayOptions, type HttpRoute, type HttpRoutes } from '../../src/proxy/http-proxy/relay.ts';
import { dial, TunnelRefusal } from '../../src/proxy/http-proxy/upstream.ts';

type Ask = ((text: string) => Promise<string>) & { readonly connect: () => net.Socket };

/** A relay whose every target is `port` of the loopback; `ask` gives all that it answers to octets. */
async function relay(t: Test, port: number, options: Partial<HttpRelayOptions> = {}, upstream = false): Promise<Ask> {
  const connect = () => dial({ host: '127.0.0.1', port });
  const route = async ({ host }: HttpTarget): Promise<HttpRoute> => ({
    ...{ key: host, connect },
    ...(upstream && { proxy: { credential: undefined } }),
  });
  const relayed = new HttpRelay({ form: 'absolute', routes: { route, tunnel: connect }, ...options });
  const server = net.createServer({ allowHalfOpen: true }, (client) => relayed.serve(client));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => {
    relayed.close();
    server.close();
  });
  const client = () => net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  const ask = async (text: string): Promise<string> => {
    const asking = client();
    asking.write(text, 'latin1');
    return all(asking);
  };
  return Object.assign(ask, { connect: client });
}

/** All that comes until it is closed. */
async function all(client: net.Socket): Promise<string> {
  let said = '';
  client.on('data', (bytes) => (said += bytes.toString('latin1')));
  client.on('error', () => undefined);
  await new Promise((resolve) => client.once('close', resolve));
  return said;
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

/** A server that keeps the requests it gets, heads and all, and answers each but a POST at its head's end. */
async function remember(t: Test, seen: string[]): Promise<number> {
  const server = net.createServer((socket) => {
    let text = '';
    socket
      .on('error', () => undefined)
      .on('data', (bytes) => {
        text += bytes.toString('latin1');
        if (!text.includes('\r\n\r\n')) return;
        seen.push(text);
        if (!text.startsWith('POST')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi');
        text = '';
      });
    t.teardown(() => socket.destroy());
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => server.close());
  return (server.address() as net.AddressInfo).port;
}

t.test('the asterisk of OPTIONS: RFC 9112 3.2.4', async (t) => {
  const seen: string[] = [];
  const port = await remember(t, seen);
  const rest = 'HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n';
  for (const [form, target] of [
    ['origin', '*'],
    ['absolute', 'http://web.example'],
  ] as const) {
    const toServer = await relay(t, port, { form });
    t.match(await toServer(`OPTIONS ${target} ${rest}`), /hi$/);
    t.match(seen.at(-1), /^OPTIONS \* HTTP/, 'to the server itself');
    const toProxy = await relay(t, port, { form }, true);
    t.match(await toProxy(`OPTIONS ${target} ${rest}`), /hi$/);
    t.match(seen.at(-1), /^OPTIONS http:\/\/web\.example(:\d+)? HTTP/, 'to a proxy');
  }
  const ask = await relay(t, port, { form: 'absolute' });
  await ask(`OPTIONS http://web.example/ ${rest}`);
  t.match(seen.at(-1), /^OPTIONS \/ HTTP/);
  await ask(`GET http://web.example ${rest}`);
  t.match(seen.at(-1), /^GET \/ HTTP/);
  const intercepting = await relay(t, port, { form: 'origin' });
  t.match(await intercepting(`GET * ${rest}`), /^HTTP\/1\.1 400 /, 'nobody else has one');
});

t.test('an upgrade goes through a proxy that makes no tunnel for it, as far as that lets it', async (t) => {
  const upgrade = (words: string): string =>
    `GET http://web.example/chat HTTP/1.1\r\nHost: web.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${words}\r\n`;
  for (const [answer, heard] of [
    [
      'HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nframes',
      /^HTTP\/1\.1 101 [\s\S]*\r\n\r\nframes$/,
    ],
    [
      'HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n',
      /^HTTP\/1\.1 502 [\s\S]*other credentials/,
    ],
    ['HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage', /^HTTP\/1\.1 502 [\s\S]*refused: 200\n$/],
    ['HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n', /^HTTP\/1\.1 403 [\s\S]*refused: 403\n$/],
  ] as const) {
    let asked = '';
    const server = net.createServer((socket) => {
      socket
        .on('error', () => undefined)
        .once('data', (bytes) => {
          asked += bytes.toString('latin1');
          socket.end(answer);
        });
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    t.teardown(() => server.close());
    const { port } = server.address() as net.AddressInfo;
    const connect = () => dial({ host: '127.0.0.1', port });
    const routes: HttpRoutes = {
      route: async () => ({ key: 'proxy', proxy: { credential: 'me:secret' }, connect }),
      tunnel: () => Promise.reject(new TunnelRefusal(403)),
    };
    const ask = await relay(t, port, { routes });
    const said = await ask(upgrade('Sec-WebSocket-Key: abc\r\n'));
    t.match(said, heard);
    t.notMatch(said, /Proxy-Auth|secret/);
    t.match(asked, /^GET http:\/\/web\.example\/chat HTTP\/1\.1\r\n/);
    for (const field of [
      'Upgrade: websocket',
      'Connection: Upgrade',
      'Sec-WebSocket-Key: abc',
      'Proxy-Authorization: Basic',
    ])
      t.ok(asked.includes(`\r\n${field}`), field);
  }
  const routes: HttpRoutes = {
    route: async () => ({ key: 'none', connect: () => Promise.reject(new Error('not to be dialled')) }),
    tunnel: () => Promise.reject(new TunnelRefusal(403)),
  };
  t.match(await (await relay(t, 9, { routes }))(upgrade('')), /^HTTP\/1\.1 502 /, 'nor is it asked of somebody else');
});

t.test('who does not come to the end of a request is not waited for', async (t) => {
  const seen: string[] = [];
  const port = await remember(t, seen);
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const ask = await relay(t, port);
  /** Lets the relay hear what was said. */
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  };
  const drip = async (client: net.Socket, text: string, eachMs: number): Promise<void> => {
    for (const letter of text) {
      if (client.destroyed) return;
      client.write(letter);
      await settle();
      mock.timers.tick(eachMs);
    }
  };
  const fields = 'GET http://web.example/ HTTP/1.1\r\nHost: web.example\r\n';

  const first = ask.connect();
  const ended = all(first);
  await drip(first, fields.slice(0, 31), 1000);
  t.equal(await ended, '', 'with the fields of its first');

  const later = ask.connect();
  const endedLater = all(later);
  later.write(`${fields}\r\n`);
  await once(later, 'data');
  await settle();
  await drip(later, `${fields}X: ${'x'.repeat(10)}`, 1000);
  t.match(await endedLater, /^HTTP\/1\.1 200 .*hi$/s, 'with those of a later one');

  const body = ask.connect();
  const endedBody = all(body);
  body.write('POST http://web.example/ HTTP/1.1\r\nHost: web.example\r\nContent-Length: 100\r\n\r\n');
  await settle();
  await drip(body, 'x'.repeat(10), 200_000);
  t.notOk(body.destroyed, 'a slow one may take its time');
  for (let i = 0; i < 2; i++) mock.timers.tick(300_000);
  await endedBody;
  t.match(seen.at(-1), /^POST \//);
});
