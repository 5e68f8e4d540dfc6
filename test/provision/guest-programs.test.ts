/**
 * The guest's agent and userland proxy, compiled for this host with a channel directory of the test's own: the same
 * sources, behind unix sockets as on the portable lane.
 */

import { spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer, text } from 'node:stream/consumers';
import { setTimeout as pause } from 'node:timers/promises';
import t from 'tap';
import { run } from '../../src/provision/host-tools.ts';
import { readRecipe, vmDirectory } from '../../src/provision/image-recipe.ts';

const { programs } = await readRecipe();
const folder = mkdtempSync(join(tmpdir(), 'slipway-guest-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

async function compile(name: string): Promise<string> {
  const defines = [`-DCHANNEL_DIRECTORY="${folder}"`, `-DDOCKER_SOCKET="${folder}/docker.sock"`];
  const flags = ['-std=gnu11', '-O1', '-g', '-Wall', '-Wextra', '-Werror', '-fsanitize=address,undefined', ...defines];
  await run('gcc', [...flags, '-o', join(folder, name), ...programs.root[name]!], { cwd: join(vmDirectory, 'guest') });
  return join(folder, name);
}

t.test('the agent', async (t) => {
  const agent = spawn(await compile('slipway-agent'), { stdio: 'inherit' });
  t.teardown(() => agent.kill());
  const path = (port: number): string => join(folder, 'port', String(port));
  while (!existsSync(path(2224))) await pause(5);
  const dial = async (port: number): Promise<Socket> => {
    for (;;) {
      const socket = connect({ path: path(port), allowHalfOpen: true });
      const connected = await Promise.race([once(socket, 'connect').then(() => true), once(socket, 'error')]).catch(
        () => false,
      );
      if (connected === true) return socket;
      await pause(5);
    }
  };

  await t.test('control: a line each, answered in order', async (t) => {
    const socket = await dial(2224);
    socket.end('ping\nnonsense\nping\n');
    t.equal(
      await text(socket),
      'ok\nerror unknown command; there are poweroff, reboot, time SECONDS.NANOS, ping\nok\n',
    );
  });

  await t.test('control: a line without an end is no command', async (t) => {
    const socket = await dial(2224);
    socket.end('x'.repeat(4096));
    t.equal(await text(socket).catch((error: NodeJS.ErrnoException) => error.code), 'ECONNRESET');
  });

  await t.test('a command: stdin, both outputs, exit status', async (t) => {
    t.same(await command('cat; echo to stderr >&2; exit 7', 'typed'), { out: 'typed', err: 'to stderr\n', exit: '7' });
    t.same(await command('kill -9 $$'), { out: '', err: '', exit: '137' });
    const megabytes = 'm'.repeat(3 << 20);
    t.equal((await command('cat', megabytes)).out, megabytes);
  });

  await t.test('a command that nobody listens to any more is hung up', async (t) => {
    const socket = await dial(2223);
    // Nothing is forked once it has started: dash loses a trap that meets it in the middle of a vfork.
    const words = `trap 'echo gone > ${folder}/gone; exit' HUP; sleep 1000 & echo started; wait`;
    socket.write(`${words.length}\n${words}`);
    await once(socket, 'data');
    socket.destroy();
    while (!existsSync(join(folder, 'gone'))) await pause(5);
    t.pass('it got its hangup');
  });

  await t.test('lengths that are none, and texts that end early, end the stream', async (t) => {
    for (const said of ['\n', '-1\n', '99999999999\n', 'x\n', '10\nshort']) {
      const socket = await dial(2223);
      socket.end(said);
      t.equal((await buffer(socket)).length, 0, JSON.stringify(said));
    }
  });

  await t.test('a shell on a pty of the size asked for', async (t) => {
    const socket = await dial(2222);
    let shown = '';
    socket.on('data', (chunk: Buffer) => (shown += chunk.toString()));
    socket.on('error', () => undefined);
    socket.write('99 33 xterm\n');
    socket.write('echo $TERM $(stty size); exit\n');
    await once(socket, 'end');
    t.match(shown, /xterm 33 99\r\n/);
    socket.destroy();
  });

  await t.test('Docker: a client that came first is kept waiting; half-close passes both ways', async (t) => {
    const early = await dial(2376);
    early.end('early');
    const docker = await listen(join(folder, 'docker.sock'), async (socket) => {
      const said = await text(socket);
      socket.end(`heard ${said}`);
    });
    t.teardown(() => docker.close());
    t.equal(await text(early), 'heard early');
    const socket = await dial(2376);
    const bulk = 'b'.repeat(5 << 20);
    socket.end(bulk);
    t.equal(await text(socket), `heard ${bulk}`);
  });

  await t.test('Docker: each side learns that the other is gone', async (t) => {
    rmSync(join(folder, 'docker.sock'), { force: true });
    const docker = await listen(join(folder, 'docker.sock'), (socket) => {
      socket.once('data', (said) => {
        if (String(said) === 'leave') socket.destroy();
      });
      // Half a close would let it write for ever.
      socket.once('end', () => {
        const writing = setInterval(() => socket.write('are you there?'), 5);
        socket.once('close', () => clearInterval(writing));
      });
      socket.once('close', () => docker.emit('left'));
    });
    t.teardown(() => docker.close());
    const left = await dial(2376);
    left.write('leave');
    t.equal((await buffer(left)).length, 0, 'dockerd went: the client sees the end');
    left.destroy();
    const leaving = await dial(2376);
    const gone = once(docker, 'left');
    leaving.write('stay');
    leaving.destroy();
    await gone;
    t.pass('the client went: dockerd sees it');
  });

  async function command(words: string, stdin = ''): Promise<{ out: string; err: string; exit: string }> {
    const socket = await dial(2223);
    socket.write(`${Buffer.byteLength(words)}\n${words}`);
    socket.end(stdin);
    const octets = await buffer(socket);
    const said = ['', '', '', ''];
    for (let at = 0; at < octets.length; ) {
      const length = octets.readUInt32LE(at + 1);
      said[octets[at]!] += octets.toString('utf8', at + 5, at + 5 + length);
      at += 5 + length;
    }
    return { out: said[1]!, err: said[2]!, exit: said[3]! };
  }
});

t.test("dockerd's userland proxy", async (t) => {
  const program = await compile('slipway-proxy');
  const argv = ['tcp', '0.0.0.0', '8080', '172.17.0.2', '80'];
  const names = ['-proto', '-host-ip', '-host-port', '-container-ip', '-container-port'];
  /** Starts it as dockerd does: descriptor 3 is the write end of a pipe. */
  const start = (values: readonly string[]) => {
    const child = spawn(
      program,
      names.flatMap((name, i) => [name, values[i]!]),
      {
        stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
      },
    );
    t.teardown(() => child.kill('SIGKILL'));
    return { child, reply: text(child.stdio[3] as Readable) };
  };
  const requests: string[] = [];
  let answer = 'OK 8080\n';
  const streams: Socket[] = [];
  const host = async (): Promise<Server> => {
    rmSync(join(folder, 'connect'), { force: true });
    return listen(join(folder, 'connect'), (socket) => {
      let said = '';
      socket.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        const lines = said.split('\n');
        if (lines.length === 2 && lines[0] === '00000002.0000f3a8' && !said.includes('EXPOSE')) socket.write('OK\n');
        if (lines.length < 3) return;
        requests.push(lines[1]!);
        streams.push(socket);
        hostEvents.emit('request');
        socket.write(answer);
      });
    });
  };
  const hostEvents = new EventEmitter();
  let server = await host();
  t.teardown(() => server.close());

  await t.test('published: 0, and the listener asked for anew when the host is replaced', async (t) => {
    const { child, reply } = start(argv);
    t.equal(await reply, '0\n');
    t.same(requests, ['EXPOSE tcp 0.0.0.0 8080 172.17.0.2 80']);
    t.equal(child.exitCode, null, 'it stays');
    server.close();
    for (const stream of streams.splice(0)) stream.destroy();
    const again = once(hostEvents, 'request');
    server = await host();
    await again;
    t.same(requests.splice(0), Array(2).fill('EXPOSE tcp 0.0.0.0 8080 172.17.0.2 80'));
    child.kill('SIGINT');
    t.same(await once(child, 'exit'), [null, 'SIGINT']);
  });

  await t.test("refused: the host's text is dockerd's", async (t) => {
    answer = 'ERROR listen tcp4 0.0.0.0:8080: bind: address already in use\n';
    const { child, reply } = start(argv);
    t.equal(await reply, '1\nlisten tcp4 0.0.0.0:8080: bind: address already in use');
    t.same(await once(child, 'exit'), [1, null]);
  });

  await t.test('a protocol that cannot be published is refused without asking', async (t) => {
    requests.length = 0;
    const { reply } = start(['sctp', ...argv.slice(1)]);
    t.equal(await reply, '1\nonly TCP and UDP ports can be published');
    t.same(requests, []);
  });
});

async function listen(path: string, serve: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    serve(socket);
  }).listen(path);
  await once(server, 'listening');
  return server;
}
