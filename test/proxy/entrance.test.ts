/** The host's way to guests and containers, by curl and by hand: a real Linux guest behind the whole network core. */

import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';
import t from 'tap';
import { QemuStreamLink } from '../../src/hypervisor/link/qemu-stream.ts';
import { Network } from '../../src/network.ts';
import { parseEntrance } from '../../src/proxy/entrance/place.ts';
import { parseAddress } from '../../src/stack/wire/address.ts';
import { Guest } from '../clients/guest.ts';

try {
  execFileSync('curl', ['--version']);
} catch {
  execFileSync('apt-get', ['install', '-y', '-qq', 'curl'], { stdio: 'ignore' });
}

const folder = mkdtempSync(join(tmpdir(), 'slipway-entrance-'));
const guestSocket = join(folder, 'guest.sock');
const path = join(folder, 'entrance.sock');
const network = new Network({ subnet: '192.168.65.0/24', mtu: 1500, resolvConf: join(folder, 'none') });
network.attach(await QemuStreamLink.listen(guestSocket, { mtu: 1500 }));
const guest = await Guest.start(guestSocket);
t.teardown(async () => {
  network.close();
  await guest.stop();
  rmSync(folder, { recursive: true });
});

let dockerAnswers = true;
const names = {
  addressOf: async (name: string) => {
    if (!dockerAnswers) throw new Error('docker does not answer');
    return name.toLowerCase() === 'web_1' ? parseAddress('192.168.65.3') : undefined;
  },
};
const credential = 'me:pass word';
const umask = process.umask(0);
await network.openEntrance({ at: { path }, credential: undefined, names });
process.umask(umask);
const { port } = await network.openEntrance({ at: parseEntrance('127.0.0.1:0'), credential, names });

/** In the guest: an HTTP server that says what it was asked, and an echo that half-closes. */
await guest.run(async ({ net, once, exec }) => {
  exec('ip', ['addr', 'add', '192.168.65.9/32', 'dev', 'lo']);
  const web = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    let head = '';
    socket.on('data', (chunk) => {
      head += chunk;
      for (let end = head.indexOf('\r\n\r\n'); end >= 0; end = head.indexOf('\r\n\r\n')) {
        const text = `${socket.remoteAddress} ${head.slice(0, end)}`;
        head = head.slice(end + 4);
        if (/upgrade: websocket/i.test(text))
          socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n${text}`);
        else socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${Buffer.byteLength(text)}\r\nX-A: b\r\n\r\n${text}`);
      }
    });
  });
  await once(web.listen(80, '0.0.0.0'), 'listening');
  const echo = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  await once(echo.listen(7, '0.0.0.0'), 'listening');
});

const run = promisify(execFile);
async function curl(...words: string[]): Promise<string> {
  try {
    return (await run('curl', ['-sS', '--max-time', '20', ...words])).stdout;
  } catch (error) {
    const { code, stderr } = error as { code: number; stderr: string };
    return `exit ${code}: ${stderr.trim()}`;
  }
}

t.test('the socket is the owner’s alone, whatever the umask', (t) => {
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.end();
});

t.test('curl by SOCKS: names, any case, the guest, addresses', async (t) => {
  const socks = ['--proxy', `socks5h://localhost${path}`];
  t.match(await curl(...socks, 'http://web_1.container.slipway.internal/a'), /^192\.168\.65\.1 GET \/a HTTP\/1.1/);
  t.match(await curl(...socks, 'http://WEB_1.Container.Slipway.Internal/'), /GET \//);
  t.match(await curl(...socks, 'http://vm.docker.internal/'), /GET \//);
  t.match(await curl(...socks, 'http://192.168.65.3/'), /GET \//);
  t.match(
    await curl('--socks5-hostname', `127.0.0.1:${port}`, '--proxy-user', credential, 'http://192.168.65.3/'),
    /GET \//,
  );
});

t.test('curl by SOCKS: what is refused, and how', async (t) => {
  const socks = ['--proxy', `socks5h://localhost${path}`];
  t.match(await curl(...socks, 'http://192.168.65.3:82/'), /\(5\)$/m, 'refused');
  t.match(await curl(...socks, 'http://nobody.container.slipway.internal/'), /\(4\)/, 'no such name');
  t.match(await curl(...socks, 'http://example.org/'), /\(4\)/, 'the world is not behind it');
  for (const own of [
    '127.0.0.1',
    '192.168.65.1',
    '192.168.65.2',
    '0.0.0.0',
    '169.254.169.254',
    '192.168.65.255',
    '224.0.0.1',
  ])
    t.match(await curl(...socks, `http://${own}/`), /\(2\)/, own);
  t.match(await curl(...socks, 'http://[::ffff:127.0.0.1]/'), /\(2\)/, 'mapped');
  dockerAnswers = false;
  t.match(await curl(...socks, 'http://web_1.container.slipway.internal/'), /\(1\)/, 'nobody can say');
  dockerAnswers = true;
  t.match(await curl('--socks5-hostname', `127.0.0.1:${port}`, 'http://192.168.65.3/'), /exit 97/, 'no credential');
  t.match(await curl('--socks5-hostname', `me:wrong@127.0.0.1:${port}`, 'http://192.168.65.3/'), /exit 97/);
});

t.test('curl by HTTP: absolute form, kept connections, CONNECT, the credential', async (t) => {
  const proxy = ['--proxy', `http://me:pass%20word@127.0.0.1:${port}`];
  const url = 'http://web_1.container.slipway.internal/x?y';
  const answer = await curl(...proxy, '-i', '-H', 'Proxy-Secret: 1', '-H', 'Connection: proxy-secret', url, url);
  t.equal(answer.match(/GET \/x\?y HTTP\/1\.1/g)?.length, 2);
  t.match(answer, /X-A: b/);
  t.match(answer, /Host: web_1\.container\.slipway\.internal\r\n/i);
  t.match(answer, /Via: 1\.1 slipway/);
  t.notMatch(answer, /proxy-authorization|proxy-secret: 1/i, 'what is for the proxy stays with it');
  t.match(await curl(...proxy, '-p', 'http://192.168.65.3/tunnelled'), /GET \/tunnelled/);
  t.match(await curl('-i', '--proxy', `http://127.0.0.1:${port}`, url), /407 [\s\S]*Proxy-Authenticate: Basic/);
  t.match(await curl('--proxy', `http://127.0.0.1:${port}`, '-p', url), /407/);
  t.match(await curl('--proxy', `http://me:wrong@127.0.0.1:${port}`, '-i', url), / 407 /);
});

t.test('curl by HTTP: what is refused, and how', async (t) => {
  const proxy = ['-o', '/dev/null', '-w', '%{http_code}', '--proxy', `http://me:pass%20word@127.0.0.1:${port}`];
  t.equal(await curl(...proxy, 'http://192.168.65.3:81/'), '502', 'refused');
  t.equal(await curl(...proxy, 'http://nobody.container.slipway.internal/'), '404');
  t.equal(await curl(...proxy, 'http://127.0.0.1/'), '403');
  t.equal(await curl(...proxy, 'http://192.168.65.77/'), '504', 'nobody has the address');
  dockerAnswers = false;
  t.equal(await curl(...proxy, 'http://web_1.container.slipway.internal/'), '503');
  dockerAnswers = true;
});

async function dial(): Promise<net.Socket> {
  const socket = net.connect({ path, allowHalfOpen: true });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

const connectTo = (port: number): Buffer => Buffer.from([5, 1, 0, 5, 1, 0, 1, 192, 168, 65, 3, port >> 8, port & 255]);

t.test('octets pass both ways, intact and to their end; what came with the request as well', async (t) => {
  const socket = await dial();
  const sent = randomBytes(3 << 20);
  // Everything at once, before anything is answered.
  socket.end(Buffer.concat([connectTo(7), sent]));
  const got = await buffer(socket);
  t.same(
    [...got.subarray(0, 12)],
    [5, 0, 5, 0, 0, 1, 192, 168, 65, 1, got[10], got[11]],
    'where it comes from is said',
  );
  t.ok(got.subarray(12).equals(sent));
});

t.test('datagrams: to guests by address and by name, for as long as the connection is there', async (t) => {
  await guest.run(async ({ dgram, once }) => {
    const echo = dgram
      .createSocket('udp4')
      .on('message', (bytes, { port, address }) => echo.send(bytes, port, address));
    await once(echo.bind(7), 'listening');
  });
  const control = net.connect(port, '127.0.0.1');
  const [user, password] = credential.split(':').map((part) => Buffer.from(part)) as [Buffer, Buffer];
  control.write(
    Buffer.of(5, 1, 2, 1, user.length, ...user, password.length, ...password, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0),
  );
  let said = Buffer.alloc(0);
  while (said.length < 14) said = Buffer.concat([said, (await once(control, 'data'))[0]]);
  t.same([...said.subarray(0, 12)], [5, 2, 1, 0, 5, 0, 0, 1, 127, 0, 0, 1]);
  const relay = said.readUInt16BE(12);
  const socket = dgram.createSocket('udp4');
  await once(socket.bind(0, '127.0.0.1'), 'listening');
  t.teardown(() => socket.close());
  /** Again where it is lost: the guest's MAC address may have to be asked for. */
  const ask = async (datagram: Buffer): Promise<Buffer> => {
    const again = setInterval(() => socket.send(datagram, relay, '127.0.0.1'), 500);
    socket.send(datagram, relay, '127.0.0.1');
    const [answer] = (await once(socket, 'message')) as [Buffer];
    clearInterval(again);
    return answer;
  };
  const toGuest = Buffer.of(0, 0, 0, 1, 192, 168, 65, 3, 0, 7);
  t.same(await ask(Buffer.concat([toGuest, Buffer.from('hello')])), Buffer.concat([toGuest, Buffer.from('hello')]));
  const name = Buffer.from('web_1.container.slipway.internal');
  const byName = Buffer.concat([Buffer.of(0, 0, 0, 3, name.length), name, Buffer.of(0, 7), randomBytes(5000)]);
  t.same((await ask(byName)).subarray(10), byName.subarray(name.length + 7), 'longer than a packet');
  // Nobody's: a fragment, the host, another sender.
  for (const bytes of [[0, 0, 1, 1, 192, 168, 65, 3, 0, 7, 1], [0, 0, 0, 1, 127, 0, 0, 1, 0, 7, 1], [0], []])
    socket.send(Buffer.from(bytes), relay, '127.0.0.1');
  const other = dgram.createSocket('udp4');
  other.send(Buffer.concat([toGuest, Buffer.from('not mine')]), relay, '127.0.0.1');
  t.same((await ask(Buffer.concat([toGuest, Buffer.from('last')]))).subarray(10), Buffer.from('last'));
  other.close();
  control.end();
  await once(control, 'close');
});

t.test('a WebSocket through the proxy: asked for in origin form, then octets', async (t) => {
  const socket = await dial();
  socket.write('GET http://192.168.65.3/chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  let got = '';
  for await (const chunk of socket) {
    got += chunk;
    if (got.includes('upgrade: websocket') || got.includes('Upgrade: websocket\r\n\r\n192')) break;
  }
  t.match(got, /^HTTP\/1\.1 101 /);
  t.match(got, /GET \/chat HTTP\/1\.1/);
  socket.destroy();
});

t.test('a guest does not get to it by the host alias', async (t) => {
  const dialled = guest.run(async ({ net, once }, port) => {
    const socket = net.connect(port, '192.168.65.2');
    await once(socket, 'connect');
    socket.destroy();
  }, port);
  await t.rejects(dialled, { message: /EHOSTUNREACH|ECONNREFUSED/ });
});

t.test('commands and types that are not served, and octets that are nothing', async (t) => {
  const answer = async (...bytes: number[]): Promise<number[]> => {
    const socket = await dial();
    socket.end(Buffer.from(bytes));
    return [...(await buffer(socket))];
  };
  const ipv4 = [1, 192, 168, 65, 3, 0, 80];
  t.equal((await answer(5, 1, 0, 5, 2, 0, ...ipv4))[3], 7, 'BIND');
  t.equal((await answer(5, 1, 0, 5, 1, 0, 2, 0, 0, 0))[3], 8, 'an address of another type');
  t.equal((await answer(5, 1, 0, 5, 1, 0, 1, 192, 168, 65, 3, 0, 0))[3], 2, 'port 0');
  t.same(await answer(5, 1, 1), [5, 255], 'no method that would do');
  t.same(await answer(5, 1, 0, 4), [5, 0], 'another version halfway');
  t.same(await answer(5), []);
  t.match(Buffer.from(await answer(4, 1, 0, 80, 1, 2, 3, 4, 0, 13, 10, 13, 10)).toString(), /^HTTP\/1\.1 400 /);
  t.match(
    Buffer.from(await answer(...Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n'))).toString(),
    /^HTTP\/1\.1 400 /,
  );
});

t.test('a guest that answers and resets at once', async (t) => {
  await guest.run(async ({ net, once }) => {
    const server = net.createServer((socket) => socket.resetAndDestroy());
    await once(server.listen(81), 'listening');
  });
  for (let i = 0; i < 50; i++) {
    const socket = await dial();
    socket.resume().write(connectTo(81));
    await Promise.race([once(socket, 'end'), once(socket, 'close')]);
    socket.destroy();
  }
  for (let i = 0; i < 10; i++) {
    const answer = await curl(
      '--proxy',
      `http://127.0.0.1:${port}`,
      '--proxy-user',
      credential,
      'http://192.168.65.3:81/',
    );
    t.match(answer, /cannot be reached|no answer/);
  }
});

t.test('hostile octets do not stop it from serving', async (t) => {
  for (let i = 0; i < 200; i++) {
    const socket = await dial();
    const bytes = randomBytes(1 + ((i * 7) % 700));
    if (i % 2 === 0) bytes[0] = 5;
    socket.resume().end(bytes);
    await once(socket, 'close');
  }
  t.match(await curl('--proxy', `socks5h://localhost${path}`, 'http://192.168.65.3/'), /GET \//);
});

t.test('where it may listen', async (t) => {
  t.same(parseEntrance('unix:/tmp/x'), { path: '/tmp/x' });
  t.same(parseEntrance('[::1]:0'), { address: '::1', port: 0 });
  for (const bad of ['', 'unix:', '0.0.0.0:1080', '127.0.0.1', '127.0.0.1:99999', '192.168.1.1:1', '127.0.0.999:1'])
    t.throws(() => parseEntrance(bad), /is neither unix:PATH nor/, bad);
  const at = parseEntrance('127.0.0.1:0');
  await t.rejects(network.openEntrance({ at, credential: undefined, names }), { message: /needs a credential/ });
  await t.rejects(network.openEntrance({ at: parseEntrance(`127.0.0.1:${port}`), credential, names }), {
    message: /cannot listen on 127\.0\.0\.1:\d+: .*EADDRINUSE/,
  });
  await t.rejects(network.openEntrance({ at: { path }, credential: undefined, names }), { message: /somebody does/ });
  const file = join(folder, 'file');
  writeFileSync(file, 'mine');
  await t.rejects(network.openEntrance({ at: { path: file }, credential: undefined, names }), {
    message: /is not a socket/,
  });
  t.equal(readFileSync(file, 'utf8'), 'mine');
  await t.rejects(network.openEntrance({ at: { path: join(folder, 'x'.repeat(100)) }, credential, names }), {
    message: /must be shorter than 104 octets/,
  });
});

t.test('closing the network ends it', async (t) => {
  const socket = (await dial()).resume();
  network.close();
  await once(socket, 'end');
  t.notOk(existsSync(path));
});
