/** `--record` and `slipway net replay` as their users run them: what was recorded with a real guest is done again, octet for octet. */

import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer as createWebServer } from 'node:http';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode, encode } from 'dns-packet';
import t, { type Test } from 'tap';
import { replayFile, resultData, resultText } from '../../src/cli/net-replay.ts';
import { RecordEncoder, type Value } from '../../src/proxy/recording/record-encoder.ts';
import { ensureDebianPackages } from '../../tools/debian.ts';
import { changed } from '../proxy/recording/sources.ts';

ensureDebianPackages([
  { name: 'curl', proof: 'curl' },
  { name: 'iputils-ping', proof: 'ping' },
  { name: 'socat', proof: 'socat' },
]);

const root = join(import.meta.dirname, '../..');
t.setTimeout(120_000);
const folder = mkdtempSync(join(tmpdir(), 'slipway-replay-'));
t.teardown(() => rmSync(folder, { recursive: true }));

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

class Slipway {
  readonly child: ChildProcess;
  readonly ended: Promise<Outcome>;
  stdout = '';
  stderr = '';
  #heard: (() => void)[] = [];

  constructor(argv: readonly string[], launcher = join(root, 'bin/slipway')) {
    // tap's hooks are put into every child's environment, and must not reach the programs under test.
    this.child = spawn('env', ['-u', 'NODE_OPTIONS', launcher, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stdout!.on('data', (octets) => {
      this.stdout += octets;
      for (const heard of this.#heard) heard();
    });
    this.child.stderr!.on('data', (octets) => (this.stderr += octets));
    this.ended = new Promise((resolve) => {
      this.child.once('close', (status) => resolve({ status, stdout: this.stdout, stderr: this.stderr }));
    });
  }

  /** Resolves with what stdout matches; rejects when the program ends before. */
  said(pattern: RegExp): Promise<RegExpExecArray> {
    return new Promise((resolve, reject) => {
      const heard = (): void => {
        const match = pattern.exec(this.stdout);
        if (match) resolve(match);
      };
      this.#heard.push(heard);
      heard();
      void this.ended.then(({ stderr }) => reject(new Error(`it ended without saying ${pattern}: ${stderr}`)));
    });
  }
}

const slipway = (...argv: string[]): Promise<Outcome> => new Slipway(argv).ended;

/** A host with a web server, a name server and an echo of datagrams. */
async function host(t: Test) {
  const content = randomBytes(600_000);
  const web = createWebServer((request, response) => {
    if (request.method === 'GET') response.end(content);
    else request.resume().on('end', () => response.end('stored'));
  });
  const names = createSocket('udp4', (message, from) => {
    const { id, questions } = decode(message);
    const answers = [{ type: 'A' as const, name: questions![0]!.name, ttl: 60, data: '192.0.2.7' }];
    names.send(encode({ type: 'response', id: id!, flags: 0x180, questions: questions!, answers }), from.port);
  });
  const echo = createSocket('udp4', (message, from) => echo.send(message, from.port));
  await Promise.all([
    new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve)),
    new Promise<void>((resolve) => names.bind(0, '127.0.0.1', resolve)),
    new Promise<void>((resolve) => echo.bind(0, '127.0.0.1', resolve)),
  ]);
  t.teardown(() => {
    web.close();
    names.close();
    echo.close();
  });
  return {
    content,
    webPort: (web.address() as AddressInfo).port,
    dns: `127.0.0.1#${names.address().port}`,
    echoPort: echo.address().port,
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const sha256 = (octets: Buffer): string => createHash('sha256').update(octets).digest('hex');

/** Sends octets to a port of the host's; false: it was reset, as nobody listens behind it yet. */
const push = (port: number, octets: Buffer): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => undefined).on('close', (failed) => resolve(!failed));
    socket.resume().end(octets);
  });

/** A session of everything at once, recorded; its file. */
async function recorded(t: Test, name: string, ...options: string[]): Promise<string> {
  const { content, webPort, dns, echoPort } = await host(t);
  const path = join(folder, name);
  const upload = join(folder, `${name}.upload`);
  writeFileSync(upload, randomBytes(300_000));
  const web = `http://192.168.65.2:${webPort}/`;
  const script = [
    `curl -s ${web} | sha256sum`,
    `curl -s -T ${upload} ${web}file`,
    'curl -s http://192.168.65.2:1/ || echo refused',
    'curl -s -m 5 http://169.254.169.254/ || echo denied',
    `until echo datagram | socat -T 2 - UDP:192.168.65.2:${echoPort},readbytes=9 | grep datagram; do :; done`,
    'curl -s -m 1 http://name.example:1/ || echo resolved',
    'curl -s -m 5 -6 http://host.docker.internal:1/ || echo sixth',
    'until ping -c 1 -W 2 192.168.65.2 | grep "1 received"; do :; done',
    'echo listening; socat -u TCP-LISTEN:80 - | sha256sum',
  ].join('\n');
  const hostPort = await freePort();
  const run = new Slipway([
    ...['net', 'run', '--record', path, '--dns', dns, '--publish', `127.0.0.1:${hostPort}:80`, ...options],
    ...['--', 'sh', '-c', script],
  ]);
  await run.said(/listening/);
  const pushed = randomBytes(100_000);
  while (!(await push(hostPort, pushed)));
  const { status, stdout, stderr } = await run.ended;
  t.equal(status, 0, stderr);
  t.equal(stderr, '');
  t.match(stdout, sha256(content));
  t.match(stdout, sha256(pushed));
  for (const words of ['stored', 'refused', 'denied', 'datagram', 'resolved', '1 received']) t.match(stdout, words);
  t.equal(statSync(path).mode & 0o777, 0o600);
  return path;
}

t.test('a session with a real guest is done again, octet for octet', async (t) => {
  const path = await recorded(t, 'session');
  const { status, stdout, stderr } = await slipway('net', 'replay', path);
  t.equal(status, 0, `${stdout}${stderr}`);
  t.match(stdout, /^identical: \d+ records of \d+\.\d+ s, \d+ frames \(\d+ octets\) in, \d+ \(\d+\) out\n$/);

  await t.test('in words', async (t) => {
    const { status, stdout } = await slipway('net', 'replay', '--list', path);
    t.equal(status, 0);
    t.match(stdout, /sends by link 0: TCP 192\.168\.65\.2:\d+ > 192\.168\.65\.3:\d+ \[S\.\]/);
    t.match(stdout, /UDP 192\.168\.65\.3:\d+ > 192\.168\.65\.1:53/);
    t.match(stdout, /TCP \[fd[0-9a-f:]+\]:\d+ > \[fd[0-9a-f:]+\]:1 \[S\]/);
    t.match(stdout, /end\n$/);
  });

  await t.test('one octet of a frame that was sent is another: it is said which', async (t) => {
    const encoder = new RecordEncoder();
    let commits = 0;
    const other = changed(readFileSync(path), ({ name, values, bytes }) => {
      if (name !== 'commit' || ++commits !== 20) return bytes;
      const head = (values.head as Uint8Array).slice();
      head[30]! ^= 1;
      encoder.clear();
      encoder.record(name, Object.values({ ...values, head }) as Value[]);
      return encoder.bytes;
    });
    const file = join(folder, 'flipped');
    writeFileSync(file, other);
    const result = await replayFile(file);
    const stdout = resultText(file, result);
    t.match(stdout, /^different: \S+, record \d+, octet \d+, after \d+\.\d{6} s/);
    t.match(stdout, /recorded: sends by link 0: .*\n {2}replayed: sends by link 0: /);
    t.match(stdout, /octet 30 of head was 0x\w\w and is 0x\w\w\n$/);
    t.match(resultData(result), { identical: false, difference: { recorded: /^sends by link 0/, what: /octet 30/ } });
    const { status, stdout: json } = await slipway('net', 'replay', '--json', file);
    t.equal(status, 1);
    t.same(JSON.parse(json), resultData(result));
  });

  await t.test('a stack that offers another window is noticed', async (t) => {
    const copy = join(folder, 'mutant');
    for (const part of ['src', 'bin', 'package.json']) cpSync(join(root, part), join(copy, part), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
    const file = join(copy, 'src/stack/wire/tcp.ts');
    const source = readFileSync(file, 'utf8');
    const mutant = source.replace(/setUint16\(at \+ WINDOW, window\)/, 'setUint16(at + WINDOW, window ^ 1)');
    t.not(mutant, source);
    writeFileSync(file, mutant);
    const { status, stdout } = await new Slipway(['net', 'replay', path], join(copy, 'bin/slipway')).ended;
    t.equal(status, 1);
    t.match(stdout, /replayed: sends by link 0: TCP .* win \d+/);
  });

  await t.test('a file that was cut off, and what is no recording', async (t) => {
    const file = join(folder, 'cut');
    writeFileSync(file, readFileSync(path).subarray(0, 100_000));
    const cut = await slipway('net', 'replay', file);
    t.equal(cut.status, 1);
    t.match(cut.stderr, /^slipway: \S+cut: at octet \d+: the file ends within a chunk, it was cut off\n$/);
    writeFileSync(file, 'something else');
    await t.rejects(replayFile(file), { message: /cut: it is no recording of slipway$/ });
    await t.rejects(replayFile(join(folder, 'none')), { message: /cannot be read: ENOENT/ });
  });
});

t.test("portable sockets, a bad network, and the network's own process killed", async (t) => {
  const path = await recorded(t, 'bad', '--host-sockets', 'portable', '--conditions', 'delay=2ms,loss=2%,seed=5');
  const result = await replayFile(path);
  t.equal(result.difference, undefined, resultText(path, result));
  const killed = join(folder, 'killed');
  const run = new Slipway([
    'net',
    'run',
    '--record',
    killed,
    '--',
    'sh',
    '-c',
    'echo up; exec sleep 3 >/dev/null 2>&1',
  ]);
  await run.said(/up/);
  while (statSync(killed).size < 400) await new Promise((resolve) => setTimeout(resolve, 20));
  run.child.kill('SIGKILL');
  await once(run.child, 'exit');
  t.match(
    resultText(killed, await replayFile(killed)),
    /^identical: .*; the recording has no end, as when its process is killed\n$/,
  );
});

t.test('what cannot be recorded is refused', async (t) => {
  for (const other of [
    ['--http-proxy', 'http://127.0.0.1:1'],
    ['--entrance', 'unix:/tmp/none'],
  ])
    t.match(await slipway('net', 'run', '--record', join(folder, 'refused'), ...other, '--', 'true'), {
      status: 2,
      stderr: new RegExp(`--record does not go with ${other[0]}`),
    });
  t.match(await slipway('net', 'run', '--record', join(folder, 'no/folder'), '--', 'true'), {
    status: 1,
    stderr: /--record \S+: the file cannot be written: ENOENT/,
  });
});

t.test('a disk that is full ends the recording, not the network', async (t) => {
  const { content, webPort } = await host(t);
  const url = `http://192.168.65.2:${webPort}/`;
  const { status, stdout, stderr } = await slipway(
    ...['net', 'run', '--record', '/dev/full', '--', 'sh', '-c', `curl -s ${url} | sha256sum`],
  );
  t.equal(status, 0);
  t.match(stdout, sha256(content));
  t.match(stderr, /^slipway: the recording into \/dev\/full has ended: ENOSPC: .*; the network goes on\n$/);
});
