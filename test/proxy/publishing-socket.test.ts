import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firstValueFrom } from 'rxjs';
import t from 'tap';
import { PublishingSocket } from '../../src/proxy/adapter/publishing-socket.ts';
import { unprivilegedPortStart } from '../../src/proxy/adapter/unprivileged-ports.ts';
import { PublishedPorts } from '../../src/proxy/published-ports.ts';

const folder = mkdtempSync(join(tmpdir(), 'slipway-publishing-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const path = join(folder, '00000002.0000f3a8');

const rules = { bind: ['127.0.0.1'], reserved: [], limit: 100, unprivilegedFrom: 1024, hostAddresses: [], ipv6: true };

async function setUp(busy = false) {
  const closed: number[] = [];
  const exposer = {
    async expose({ hostPort }: { hostPort: number }) {
      if (busy) throw Object.assign(new Error('EADDRINUSE'), { code: 'EADDRINUSE' });
      return { port: hostPort, close: () => void closed.push(hostPort) };
    },
  };
  const ports = new PublishedPorts(exposer, rules, async () => undefined);
  const umask = process.umask(0);
  const socket = await PublishingSocket.listen({ path, ports });
  process.umask(umask);
  return { ports, socket, closed };
}

/** Writes `text` and gives what comes back up to a line's end or the stream's. */
function say(text: string): Promise<{ answer: string; stream: Socket }> {
  return new Promise((resolve, reject) => {
    const stream = connect(path, () => void stream.write(text));
    let answer = '';
    stream.on('error', reject);
    stream.on('close', () => resolve({ answer, stream }));
    stream.on('data', (octets) => {
      answer += octets;
      if (answer.endsWith('\n')) resolve({ answer, stream });
    });
  });
}

t.test('a port lives as long as its stream', async (t) => {
  writeFileSync(path, 'stale');
  const { ports, socket, closed } = await setUp();
  t.equal(statSync(path).mode & 0o777, 0o600);
  const { answer, stream } = await say('EXPOSE tcp 0.0.0.0 8080 172.17.0.2 80\n');
  t.equal(answer, 'OK 8080\n');
  t.match(ports.list(), [{ hostPort: 8080, bound: ['127.0.0.1'] }]);
  const gone = firstValueFrom(ports.changes);
  stream.destroy();
  await gone;
  t.same(closed, [8080]);
  t.same(ports.list(), []);
  socket.close();
});

t.test('octets after the line end the stream, and the port', async (t) => {
  const { ports, socket, closed } = await setUp();
  const { stream } = await say('EXPOSE tcp 0.0.0.0 8081 172.17.0.2 80\n');
  const gone = firstValueFrom(ports.changes);
  stream.write('more');
  await gone;
  t.same(closed, [8081]);
  socket.close();
});

t.test('refusals and malformed requests', async (t) => {
  const { ports, socket } = await setUp(true);
  t.equal(
    (await say('EXPOSE tcp 0.0.0.0 8080 172.17.0.2 80\n')).answer,
    'ERROR listen tcp4 0.0.0.0:8080: bind: address already in use\n',
  );
  t.equal((await say('GET / HTTP/1.1\n')).answer, 'ERROR malformed request\n');
  t.equal((await say('x'.repeat(300))).answer, '', 'a line that is too long gets no answer');
  t.equal((await say('EXPOSE tcp 0.0.0.0 8080 172.17.0.2 80\nEXPOSE')).answer, '', 'nor do two at once');
  t.same(ports.list(), []);
  socket.close();
});

t.test('closing ends every stream and every port', async (t) => {
  const { socket, closed } = await setUp();
  const streams = await Promise.all([1, 2, 3].map((i) => say(`EXPOSE udp :: ${9000 + i} 172.17.0.2 53\n`)));
  socket.close();
  await Promise.all(streams.map(({ stream }) => new Promise((resolve) => stream.once('close', resolve))));
  t.same(closed, [], 'a wildcard without an address to bind has no listener');
  t.notOk(existsSync(path));
});

t.test('the privileged ports of the host', async (t) => {
  const file = join(folder, 'start');
  t.equal(unprivilegedPortStart(file), 1024, 'unknown');
  for (const [text, port] of [
    ['80\n', 80],
    ['0\n', 0],
    ['x', 1024],
    ['-1', 1024],
  ] as const) {
    writeFileSync(file, text);
    t.equal(unprivilegedPortStart(file), port, text);
  }
});
