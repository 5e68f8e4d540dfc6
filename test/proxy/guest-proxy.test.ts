/**
 * Guests' HTTP by real clients: curl in a guest, the whole network core, an upstream proxy and servers of the test's own.
 * It runs in a network namespace, where the servers have addresses that are not the host's loopback.
 */

import { execFileSync, spawnSync } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { decode, encode } from 'dns-packet';
import t from 'tap';
import { QemuStreamLink } from '../../src/hypervisor/link/qemu-stream.ts';
import { Network } from '../../src/network.ts';
import type { ProxySettings } from '../../src/proxy/http-proxy/guest-routes.ts';
import { NoProxy } from '../../src/proxy/http-proxy/no-proxy.ts';
import { parseProxyUrl } from '../../src/proxy/http-proxy/proxy-url.ts';
import { parsePolicyRules } from '../../src/proxy/policy/rule.ts';
import { parseAddress } from '../../src/stack/wire/address.ts';
import { Guest } from '../clients/guest.ts';

/** Where the key and its certificate are, for the process in the namespace. */
const INSIDE = 'SLIPWAY_TEST_NAMESPACE';

if (process.env[INSIDE] === undefined) {
  const made = mkdtempSync(join(tmpdir(), 'slipway-guest-proxy-'));
  const names = ['-subj', '/CN=example.org', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2'];
  const files = ['-keyout', join(made, 'key.pem'), '-out', join(made, 'cert.pem')];
  execFileSync('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...names, ...files], { stdio: 'ignore' });
  const words = ['--user', '--map-root-user', '--net', process.execPath, ...process.execArgv, import.meta.filename];
  const env = { ...process.env, [INSIDE]: made, NODE_EXTRA_CA_CERTS: join(made, 'cert.pem') };
  const { status } = spawnSync('unshare', words, { stdio: 'inherit', env });
  rmSync(made, { recursive: true });
  process.exit(status ?? 1);
}
const folder = process.env[INSIDE];

const ip = (...words: string[]): void => void execFileSync('ip', words);
ip('link', 'set', 'lo', 'up');
// Two servers, and the proxy: to the guest they are somewhere in the world.
for (const address of ['10.9.0.1/32', '10.9.0.2/32', '10.9.0.8/32']) ip('addr', 'add', address, 'dev', 'lo');

const path = join(folder, 'guest.sock');
const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];

/** What the names are, to our resolver and to the upstream proxy's alike. */
const names: Record<string, string[]> = {
  'web.example': ['10.9.0.1'],
  'direct.example': ['10.9.0.2'],
  'rebound.example': ['127.0.0.1'],
  'half.example': ['10.9.0.1', '127.0.0.1'],
};
const dns = dgram.createSocket('udp4');
dns.on('message', (bytes, { address, port }) => {
  const { id, questions = [] } = decode(bytes);
  const found = names[questions[0]!.name.toLowerCase()];
  const answers = (questions[0]!.type === 'A' ? (found ?? []) : []).map((data) => {
    return { type: 'A', name: questions[0]!.name, ttl: 1, data } as const;
  });
  dns.send(encode({ type: 'response', id: id!, flags: found ? 0x80 : 0x83, questions, answers }), port, address);
});
await once(dns.bind(5300, '127.0.0.1'), 'listening');

/** What a server sees of a request, as its answer. */
const serve =
  (who: string): http.RequestListener =>
  async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    if (request.url === '/slow') response.writeHead(200, { 'Transfer-Encoding': 'chunked' }).write('begun ');
    response.end(JSON.stringify({ who, url: request.url, method: request.method, headers: request.headers, body }));
  };
const tlsOptions = { key: readFileSync(key), cert: readFileSync(cert) };
for (const [who, address] of [
  ['web', '10.9.0.1'],
  ['direct', '10.9.0.2'],
] as const) {
  const web = http.createServer(serve(who));
  web.on('upgrade', (request, socket) => {
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n${who} ${request.url} `,
    );
    socket.pipe(socket);
  });
  await once(web.listen(80, address), 'listening');
  await once(https.createServer(tlsOptions, serve(who)).listen(443, address), 'listening');
}
const banner = net.createServer((socket) => socket.end('220 spoken first\r\n'));
await once(banner.listen(443, '10.9.0.8'), 'listening');
await once(http.createServer(serve('host')).listen(8000, '127.0.0.1'), 'listening');

/** The upstream proxy: what it was asked for, and whether it wants a credential. */
let asked: string[] = [];
let wants: string | undefined;
let refuses: string | undefined;
const whereTo = (host: string): string => names[host]?.[0] ?? (net.isIP(host) ? host : '10.9.0.1');
const denies = (field: string | undefined): boolean =>
  wants !== undefined && field !== `Basic ${Buffer.from(wants).toString('base64')}`;
const relayed: http.RequestListener = (request, response) => {
  asked.push(`${request.method} ${request.url}`);
  if (denies(request.headers['proxy-authorization']))
    return void response.writeHead(407, { 'Proxy-Authenticate': 'Basic realm="corp"' }).end('who are you');
  const { hostname, port, pathname, search } = new URL(request.url!);
  const { 'proxy-authorization': _, ...headers } = request.headers;
  const to = { host: whereTo(hostname), port: port || 80, path: pathname + search, method: request.method, headers };
  request.pipe(
    http.request(to, (from) => {
      response.writeHead(from.statusCode!, from.rawHeaders);
      from.pipe(response);
    }),
  );
};
const tunnelled = (request: http.IncomingMessage, client: Duplex, head: Buffer): void => {
  asked.push(`CONNECT ${request.url}`);
  client.on('error', () => undefined);
  if (denies(request.headers['proxy-authorization']))
    return void client.end('HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n');
  if (refuses !== undefined && request.url!.startsWith(refuses)) return void client.end('HTTP/1.1 403 No\r\n\r\n');
  const [host = '', port] = request.url!.split(':');
  const server = net.connect(Number(port), whereTo(host), () => {
    client.write('HTTP/1.1 100 Wait\r\n\r\nHTTP/1.1 200 Connected\r\nX: y\r\n\r\n');
    server.write(head);
    server.pipe(client).pipe(server);
  });
  server.on('error', () => client.destroy());
};
const upstream = http.createServer(relayed).on('connect', tunnelled);
await once(upstream.listen(3128, '127.0.0.1'), 'listening');
const secure = https.createServer(tlsOptions, relayed).on('connect', tunnelled);
await once(secure.listen(3129, '127.0.0.1'), 'listening');

const network = new Network({
  subnet: '192.168.65.0/24',
  mtu: 1500,
  dns: { servers: [{ address: parseAddress('127.0.0.1')!, port: 5300 }], hostsFile: join(folder, 'hosts') },
});
network.attach(await QemuStreamLink.listen(path, { mtu: 1500 }));
const guest = await Guest.start(path);
t.teardown(async () => {
  network.close();
  await guest.stop();
  setImmediate(() => process.exit());
});

const settings = (noProxy = '', more: Partial<ProxySettings> = {}): ProxySettings => {
  const proxy = parseProxyUrl('http://127.0.0.1:3128');
  return { http: proxy, https: proxy, noProxy: NoProxy.parse(noProxy), ...more };
};

/** curl in the guest; its output, or how it ended. */
const curl = (...words: string[]): Promise<string> =>
  guest.run((_tools, words) => {
    const { execFile } = process.getBuiltinModule('node:child_process');
    return new Promise((resolve) => {
      execFile('curl', ['-sSk', '--max-time', '20', ...words], (error, out) => {
        resolve(error ? `exit ${error.code}: ${error.message}` : out);
      });
    });
  }, words);

/** With the address that the guest has for a name. */
const at = (name: string, address: string, port = 443): string[] => ['--resolve', `${name}:${port}:${address}`];

async function seen(...words: string[]): Promise<{
  who?: string;
  headers?: http.IncomingHttpHeaders;
  asked: string[];
  text: string;
  body?: string;
  url?: string;
}> {
  asked = [];
  const text = await curl(...words);
  return { ...(text.startsWith('{') ? JSON.parse(text) : {}), text, asked };
}

t.test('without an upstream proxy nothing is intercepted', async (t) => {
  t.match(await seen(...at('web.example', '10.9.0.1', 80), 'http://web.example/a'), {
    who: 'web',
    asked: [],
    url: '/a',
  });
  t.notMatch(await curl('http://10.9.0.1/'), /slipway/, 'and nothing is added');
});

t.test('the proxy on the gateway, without an upstream one', async (t) => {
  const proxy = ['--proxy', 'http://http.docker.internal:3128', ...at('http.docker.internal', '192.168.65.1', 3128)];
  t.match(await seen(...proxy, 'http://web.example/x?y'), { who: 'web', url: '/x?y', asked: [] });
  t.match(await seen(...proxy, 'https://web.example/s'), { who: 'web', url: '/s' });
  t.equal((await seen(...proxy, '-d', 'x'.repeat(100_000), 'http://web.example/')).body?.length, 100_000);
  t.match(await seen(...proxy, '-T', '/etc/hostname', '-H', 'Transfer-Encoding: chunked', 'http://web.example/'), {
    who: 'web',
    body: readFileSync('/etc/hostname', 'utf8'),
  });
  t.match(await curl(...proxy, 'http://web.example/slow'), /^begun \{/);
  t.match(await seen(...proxy, 'http://host.docker.internal:8000/'), { who: 'host' }, 'the host alias');
  t.match(await curl(...proxy, '-i', 'http://nobody.example/'), / 502 .*nobody\.example has no address/s);
  t.match(await curl(...proxy, '-i', 'http://web.example:81/'), / 502 .*ECONNREFUSED/s);
});

t.test('no form of the host’s loopback is reached through it', async (t) => {
  const proxy = ['--proxy', 'http://192.168.65.1:3128', '-o', '/dev/null', '-w', '%{http_code}'];
  for (const settled of [undefined, settings()]) {
    await network.useHttpProxy(settled);
    for (const host of [
      '127.0.0.1',
      'localhost',
      'a.localhost',
      '[::1]',
      '[::ffff:127.0.0.1]',
      '0.0.0.0',
      'rebound.example',
    ])
      t.equal(await curl(...proxy, `http://${host}:8000/`), '403', host);
    for (const host of ['127.1', '2130706433', '0177.0.0.1', '0x7f.1', '[fe80::1%25lo]', '127.0.0.1.'])
      t.match(await curl(...proxy, '--request-target', `http://${host}:8000/`, 'http://web.example/'), '400', host);
    t.match(await curl('-i', '--proxy', 'http://192.168.65.1:3128', '-p', 'http://127.0.0.1:8000/'), /403/, 'CONNECT');
  }
  t.equal(await curl(...proxy, 'http://half.example/'), '403', 'an upstream proxy might take the other address');
  t.same(asked, [], 'the upstream proxy was asked for none');
  await network.useHttpProxy(undefined);
});

t.test('nor by what an upstream proxy on this machine calls it', async (t) => {
  await network.useHttpProxy(settings());
  writeFileSync(join(folder, 'hosts'), '::1 own.name ip6-localhost\n169.254.169.254 metadata.internal\n');
  const proxy = ['--proxy', 'http://192.168.65.1:3128', '-o', '/dev/null', '-w', '%{http_code} %{http_connect}'];
  for (const name of ['localhost', 'ip6-localhost', 'localhost.localdomain', 'metadata.internal', 'a.localhost'])
    for (const words of [[`http://${name}:8000/`], ['-p', `http://${name}:8000/`]]) {
      const { text, asked } = await seen(...proxy, ...words);
      t.match(text, /403/, `${words}`);
      t.same(asked, []);
    }
  rmSync(join(folder, 'hosts'));
});

t.test('with an upstream proxy: by name, and without the guest’s knowing', async (t) => {
  await network.useHttpProxy(settings());
  const plain = await seen(...at('web.example', '10.9.0.1', 80), 'http://web.example/a?b');
  t.match(plain, { who: 'web', url: '/a?b', asked: ['GET http://web.example/a?b'], headers: { host: 'web.example' } });
  t.match(await seen(...at('web.example', '10.9.0.1'), 'https://web.example/'), {
    who: 'web',
    asked: ['CONNECT web.example:443'],
  });
  t.match(await seen('https://10.9.0.1/'), { asked: ['CONNECT 10.9.0.1:443'] }, 'no SNI: the address');
  t.match(await seen('http://10.9.0.1/'), { asked: ['GET http://10.9.0.1/'] });
  t.match(await seen(...at('only.there', '10.9.0.1'), 'https://only.there/'), { asked: ['CONNECT only.there:443'] });
  t.match(await seen(...at('web.example', '10.9.0.1', 80), '-d', 'body', 'http://web.example/'), {
    text: /body/,
    body: 'body',
  });
  const explicit = ['--proxy', 'http://192.168.65.1:3128'];
  t.match(await seen(...explicit, 'https://web.example/'), { who: 'web', asked: ['CONNECT web.example:443'] });
  t.match(await seen(...explicit, 'http://host.docker.internal:8000/'), { who: 'host', asked: [] }, 'ours alone');
  t.match(await seen('http://host.docker.internal:8000/', ...at('host.docker.internal', '192.168.65.2', 8000)), {
    who: 'host',
  });
  t.match(
    await curl(...at('web.example', '10.9.0.1', 81), 'http://web.example:81/'),
    /exit 7/,
    'other ports are left alone',
  );
});

t.test('names that a guest says may only narrow', async (t) => {
  await network.useHttpProxy(settings());
  t.match(await seen(...at('rebound.example', '10.9.0.1'), 'https://rebound.example/'), { text: /exit 35/, asked: [] });
  t.match(await curl('-i', '-H', 'Host: localhost', 'http://10.9.0.1/'), / 403 /);
  t.match(await curl('-i', '-H', 'Host: 127.0.0.1', 'http://10.9.0.1/'), / 403 /);
  t.match(await curl('-i', '-H', 'Host: 0x7f.1', 'http://10.9.0.1/'), / 400 /);
  t.match(await seen('-H', 'Host: web.example:8000', 'http://10.9.0.1/'), { asked: ['GET http://web.example/'] });
});

t.test('what is excluded goes straight: by name, by suffix, by network; HTTPS by SNI', async (t) => {
  for (const noProxy of ['direct.example', '.example', '10.9.0.2', '10.9.0.0/30', '*']) {
    await network.useHttpProxy(settings(noProxy));
    for (const scheme of ['http', 'https'] as const) {
      const words = [...at('direct.example', '10.9.0.2', scheme === 'http' ? 80 : 443), `${scheme}://direct.example/`];
      t.match(await seen(...words), { who: 'direct', asked: [] }, `${scheme}, ${noProxy}`);
      t.match(
        await seen('--proxy', 'http://192.168.65.1:3128', ...words),
        { who: 'direct', asked: [] },
        `asked for, ${noProxy}`,
      );
    }
  }
  await network.useHttpProxy(settings('direct.example'));
  const others = await seen(...at('web.example', '10.9.0.1'), 'https://web.example/');
  t.match(others, { who: 'web', asked: ['CONNECT web.example:443'] }, 'and the others do not');
});

t.test('only one scheme’s proxy; changes hold from the next connection on', async (t) => {
  const { http: proxy } = settings();
  await network.useHttpProxy({ http: proxy, noProxy: NoProxy.parse('') });
  t.match(await seen(...at('web.example', '10.9.0.1'), 'https://web.example/'), { who: 'web', asked: [] });
  t.match(await seen('http://10.9.0.1/'), { asked: ['GET http://10.9.0.1/'] });
  await network.useHttpProxy(undefined);
  t.match(await seen('http://10.9.0.1/'), { who: 'web', asked: [] });
});

t.test('credentials for the upstream proxy: given, never passed on, and wrong', async (t) => {
  wants = 'corp:s e:cret';
  await network.useHttpProxy(settings('', { credential: () => 'corp:s e:cret' }));
  const plain = await seen('http://10.9.0.1/');
  t.match(plain, { who: 'web' });
  t.notOk(plain.headers!['proxy-authorization']);
  t.match(await seen('https://10.9.0.1/'), { who: 'web' });
  await network.useHttpProxy(settings('', { credential: () => 'corp:wrong' }));
  const refused = await curl('-i', 'http://10.9.0.1/');
  t.match(refused, / 502 .*the upstream proxy wants other credentials/s);
  t.notMatch(refused, /407|Proxy-Authenticate|wrong/i, 'the guest is not to answer that');
  t.match(await curl('https://10.9.0.1/'), /exit 35/);
  const explicit = ['--proxy', 'http://192.168.65.1:3128', 'https://web.example/'];
  t.match(await curl(...explicit), /exit 56: .*502/s);
  wants = undefined;
});

t.test('an upstream proxy that is spoken to by TLS, and one whose certificate is not its own', async (t) => {
  const proxy = parseProxyUrl('https://127.0.0.1:3129');
  wants = 'me:secret';
  await network.useHttpProxy({ http: proxy, https: proxy, noProxy: NoProxy.parse(''), credential: () => 'me:secret' });
  t.match(await seen('http://10.9.0.1/'), { who: 'web', asked: ['GET http://10.9.0.1/'] });
  t.match(await seen('https://10.9.0.1/'), { who: 'web', asked: ['CONNECT 10.9.0.1:443'] });
  wants = undefined;
  const other = parseProxyUrl('https://localhost:3129');
  await network.useHttpProxy({ http: other, https: other, noProxy: NoProxy.parse(''), credential: () => 'me:secret' });
  const refused = await seen('-i', 'http://10.9.0.1/');
  t.match(refused, { text: / 502 .*cannot be reached: ERR_TLS_CERT_ALTNAME_INVALID/s, asked: [] });
});

t.test('the upstream proxy refuses, or is not there', async (t) => {
  await network.useHttpProxy(settings());
  refuses = 'web.example';
  t.match(await curl('--proxy', 'http://192.168.65.1:3128', 'https://web.example/'), /exit 56: .*403/s);
  t.match(await curl(...at('web.example', '10.9.0.1'), 'https://web.example/'), /exit 35/);
  refuses = undefined;
  const gone = parseProxyUrl('http://127.0.0.1:9');
  await network.useHttpProxy({ http: gone, https: gone, noProxy: NoProxy.parse('') });
  t.match(await curl('-i', 'http://10.9.0.1/'), / 502 .*the upstream proxy cannot be reached: ECONNREFUSED/s);
  t.match(await curl('https://10.9.0.1/'), /exit 35/);
});

t.test('a host that the policy refuses: 403, in the user’s words', async (t) => {
  await network.useHttpProxy(settings('', { refusal: 'Ask IT about %s.' }));
  const answer = await curl('-i', '--proxy', 'http://192.168.65.1:3128', 'http://169.254.169.254/latest');
  t.match(answer, /^HTTP\/1\.1 403 Forbidden\r\n[\s\S]*\r\n\r\nAsk IT about 169\.254\.169\.254\.\n$/);
  t.match(await curl('http://169.254.169.254/'), /exit 7/, 'not asked for: as without a proxy');
});

t.test('rules of the policy are about the name that is said, too', async (t) => {
  network.usePolicyRules(parsePolicyRules('deny .web.example'));
  await network.useHttpProxy(settings('', { refusal: 'not %s' }));
  t.match(await seen(...at('web.example', '10.9.0.1', 80), 'http://web.example/'), {
    text: 'not web.example\n',
    asked: [],
  });
  t.match(await seen(...at('web.example', '10.9.0.1'), 'https://web.example/'), { text: /exit 35/, asked: [] });
  t.match(await seen('--proxy', 'http://192.168.65.1:3128', 'http://web.example/'), { text: 'not web.example\n' });
  t.match(await seen(...at('direct.example', '10.9.0.2', 80), 'http://direct.example/'), { who: 'direct' });
  network.usePolicyRules([]);
});

t.test('connections are kept, and WebSockets pass', async (t) => {
  await network.useHttpProxy(settings());
  const verbose = await curl('-v', '--stderr', '-', 'http://10.9.0.1/1', 'http://10.9.0.1/2');
  t.match(verbose, /Re-using existing connection/);
  const heard = await guest.run(async ({ net }) => {
    const socket = net.connect(80, '10.9.0.1');
    socket.write('GET /chat HTTP/1.1\r\nHost: web.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n');
    let text = '';
    for await (const chunk of socket) {
      if (text === '') socket.write('ping');
      text += chunk;
      if (text.endsWith('ping')) break;
    }
    return text;
  });
  t.match(heard, /^HTTP\/1\.1 101 [\s\S]*web \/chat ping$/);
  t.ok(asked.includes('CONNECT web.example:80'), 'through the proxy as octets');
});

t.test('what is neither HTTP nor TLS goes to the address; who waits to be spoken to is not left waiting', async (t) => {
  await network.useHttpProxy(settings());
  asked = [];
  const greeting = await guest.run(async ({ net }) => {
    let text = '';
    for await (const chunk of net.connect(443, '10.9.0.8')) text += chunk;
    return text;
  });
  t.equal(greeting, '220 spoken first\r\n');
  t.same(asked, ['CONNECT 10.9.0.8:443']);
});

t.test('HTTP/1.0, answers without an end in sight, requests sent ahead', async (t) => {
  await network.useHttpProxy(settings());
  const ten = await curl('-0', '-i', ...at('web.example', '10.9.0.1', 80), 'http://web.example/slow');
  t.match(ten, /\r\n\r\nbegun \{.*\}$/s, 'no chunks for a client that knows none');
  t.notMatch(ten, /Transfer-Encoding/i);
  const many = (count: number): Promise<number> =>
    guest.run(async ({ net }, count) => {
      const socket = net.connect(80, '10.9.0.1');
      const last = 'GET /last HTTP/1.1\r\nHost: 10.9.0.1\r\nConnection: close\r\n\r\n';
      socket.write('GET / HTTP/1.1\r\nHost: 10.9.0.1\r\n\r\n'.repeat(count - 1) + last);
      let text = '';
      try {
        for await (const chunk of socket) text += chunk;
      } catch {
        return -1;
      }
      return text.match(/HTTP\/1\.1 200/g)?.length ?? 0;
    }, count);
  t.equal(await many(5), 5, 'answered in order');
  t.not(await many(500), 500, 'but not without bounds');
  asked = [];
  const preface = await guest.run(async ({ net }) => {
    const socket = net.connect(80, '10.9.0.1');
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    for await (const chunk of socket) return String(chunk).slice(0, 12);
    return '';
  });
  t.same([preface, asked], ['HTTP/1.1 400', ['CONNECT 10.9.0.1:80']], "HTTP/2 is the server's to answer");
});

t.test('who has ended its side after the request has its answer', async (t) => {
  for (const upstream of [settings(), settings('*')]) {
    await network.useHttpProxy(upstream);
    for (const [host, port, target] of [
      ['10.9.0.1', 80, '/x'],
      ['192.168.65.1', 3128, 'http://10.9.0.1/x'],
    ] as const) {
      const answer = await guest.run(
        async ({ net }, host, port, target) => {
          let text = '';
          const socket = net.connect({ host, port, allowHalfOpen: true });
          socket.end(`GET ${target} HTTP/1.1\r\nHost: 10.9.0.1\r\n\r\n`);
          for await (const chunk of socket) text += chunk;
          return text;
        },
        ...([host, port, target] as const),
      );
      t.match(answer, /^HTTP\/1\.1 200 [\s\S]*"url":"\/x"/, `${host} ${port}`);
    }
  }
});

t.test('a server that has vanished does not hold a tunnel for ever', async (t) => {
  await network.useHttpProxy(undefined);
  await guest.run(async ({ net, once }) => {
    const socket = net.connect(3128, '192.168.65.1');
    socket.write('CONNECT 10.9.0.2:443 HTTP/1.1\r\n\r\n');
    await once(socket, 'data');
    setTimeout(() => socket.destroy(), 10_000).unref();
  });
  const seen = execFileSync('ss', ['-tno', 'dst', '10.9.0.2:443'], { encoding: 'utf8' });
  t.match(seen, /ESTAB .*10\.9\.0\.2:443.*timer:\(keepalive,/);
});

t.test('connections of one guest are bounded, and what is over makes place again', async (t) => {
  await network.useHttpProxy(settings());
  const refused = await guest.run(async ({ net, once }) => {
    const open: Set<import('node:net').Socket> = new Set();
    let reset = 0;
    for (let i = 0; i < 1100; i++) {
      const socket = net.connect(i % 2 === 0 ? 80 : 3128, i % 2 === 0 ? '10.9.0.1' : '192.168.65.1');
      // Never to be a whole request.
      await once(socket, 'connect').then(
        () => open.add(socket.on('error', () => undefined)) && socket.write('GET /'),
        () => reset++,
      );
    }
    for (const socket of open) socket.destroy();
    return reset;
  });
  t.ok(refused >= 76, `${refused} refused`);
  t.equal(network.policy().denied['limit-http'], refused);
  t.match(await seen('http://10.9.0.1/'), { who: 'web' });
});

t.test('a connection to a server or proxy is one client’s, and ends with it', async (t) => {
  await network.useHttpProxy(settings('direct.example,10.9.0.2'));
  const sockets = new Set<number | undefined>();
  upstream.on('request', ({ socket }) => sockets.add(socket.remotePort));
  await curl('http://10.9.0.1/', 'http://10.9.0.1/');
  t.equal(sockets.size, 1, 'kept for one');
  await curl('http://10.9.0.1/');
  t.equal(sockets.size, 2, 'not for another');
  upstream.removeAllListeners('request').on('request', relayed);
  for (let left = 1; left > 0; ) {
    await new Promise((resolve) => setImmediate(resolve));
    left = await new Promise<number>((resolve) => upstream.getConnections((_, count) => resolve(count)));
  }
});

t.test('hostile octets at every door; it goes on serving', async (t) => {
  await network.useHttpProxy(settings());
  await guest.run(async ({ net, crypto, once }) => {
    for (let i = 0; i < 240; i++) {
      const [host, port] = [['192.168.65.1', 3128] as const, ['10.9.0.1', 80] as const, ['10.9.0.1', 443] as const][
        i % 3
      ]!;
      const socket = net.connect(port, host);
      socket.on('error', () => undefined);
      const bytes = crypto.randomBytes(1 + ((i * 13) % 900));
      if (i % 2 === 0) bytes.set(port === 443 ? [22, 3, 1, i & 7] : [...Buffer.from('GET ')].slice(0, bytes.length));
      socket.resume().end(bytes);
      await once(socket, 'close');
    }
  });
  t.match(await seen('http://10.9.0.1/'), { who: 'web' });
  t.match(await seen('https://10.9.0.1/'), { who: 'web' });
});
