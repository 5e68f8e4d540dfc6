/** The data path's event loop beside libuv's: neither keeps the other waiting, and the process is Node's as ever. */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { Duplex } from 'node:stream';
import { setTimeout as after } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { EventLoop } from '../../src/native/event-loop.ts';
import { Readiness, type ReadyHandler } from '../../src/native/readiness.ts';
import {
  close,
  EPOLLET,
  EPOLLIN,
  EPOLLOUT,
  eventfd,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
} from '../../src/native/system-calls.ts';

const program = fileURLToPath(new URL('./loop-program.ts', import.meta.url));

function start(deed: string): { child: ChildProcessWithoutNullStreams; line: () => Promise<string> } {
  const child = spawn(process.execPath, [program, deed], { env: { ...process.env, NODE_OPTIONS: '' } });
  child.stderr.pipe(process.stderr);
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return { child, line: async () => (await lines.next()).value ?? 'nothing' };
}

/** Until `stop`, a descriptor that is always ready. */
function busy(readiness: Readiness, ready: () => void): () => void {
  const fd = eventfd(1, SOCK_CLOEXEC | SOCK_NONBLOCK);
  const registration = readiness.add(fd, EPOLLIN, { ready });
  return () => {
    readiness.remove(registration);
    close(fd);
  };
}

t.test('Node goes on while the loop is never idle', async (t) => {
  let turns = 0;
  const stop = busy(new Readiness(), () => turns++);
  const before = turns;
  await after(5);
  await new Promise((resolve) => setImmediate(resolve));
  const server = net.createServer((socket) => socket.end('hello')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  const [greeting] = (await once(client, 'data')) as [Buffer];
  t.equal(greeting.toString(), 'hello');
  const worker = new Worker('require("node:worker_threads").parentPort.postMessage("from a worker")', { eval: true });
  t.same(await once(worker, 'message'), ['from a worker']);
  await worker.terminate();
  client.destroy();
  server.close();
  t.ok(turns > before + 10, 'and so does the loop');
  stop();
});

t.test('a timer set in a handler has its time, however long the loop has been waiting', async (t) => {
  const readiness = new Readiness();
  const fd = eventfd(0, SOCK_CLOEXEC | SOCK_NONBLOCK);
  const registration = readiness.add(fd, EPOLLIN | EPOLLOUT | EPOLLET, {
    ready: () => {
      const setAt = performance.now();
      setTimeout(() => {
        // Never early by more than libuv's clock is coarse; lateness is the machine's affair.
        t.ok(performance.now() - setAt >= 48, 'not before its time');
        done();
      }, 50);
    },
  });
  let done: () => void = () => {};
  await new Promise<void>((resolve) => {
    done = resolve;
  });
  readiness.remove(registration);
  close(fd);
});

t.test('promises and ticks of a handler are done before the next turn', async (t) => {
  const told: string[] = [];
  const readiness = new Readiness(() => told.push('turn over'));
  await new Promise<void>((resolve) => {
    let turn = 0;
    const stop = busy(readiness, () => {
      told.push(`ready ${++turn}`);
      if (turn === 2) {
        stop();
        resolve();
        return;
      }
      process.nextTick(() => told.push('tick'));
      void Promise.resolve().then(() => told.push('promise'));
      readiness.soon(() => told.push('soon'));
      readiness.defer({ deferred: () => told.push('deferred') });
    });
  });
  t.same(told.slice(0, 7), ['ready 1', 'deferred', 'turn over', 'soon', 'tick', 'promise', 'ready 2']);
});

t.test('what waits for quiet is done when nothing comes, and after a few turns in any case', async (t) => {
  let turns = 0;
  const readiness = new Readiness();
  await new Promise<void>((resolve) => readiness.quiet(resolve));
  const stop = busy(readiness, () => turns++);
  const waited = await new Promise<number>((resolve) => {
    readiness.soon(() => {
      const before = turns;
      readiness.quiet(() => resolve(turns - before));
    });
  });
  t.ok(waited >= 2 && waited <= 5, `done after ${waited} busy turns`);
  stop();
  await new Promise<void>((resolve) => readiness.quiet(() => readiness.quiet(resolve)));
});

t.test('HTTP may be parsed that comes by a stream from a handler', async (t) => {
  const server = http.createServer((request, response) => response.end(`hello ${request.url}`));
  const answer = await new Promise<string>((resolve) => {
    let text = '';
    const stream = new Duplex({
      read: () => {},
      write: (chunk: Buffer, _encoding, done) => {
        text += chunk.toString();
        done();
        if (text.includes('hello')) resolve(text);
      },
    });
    server.emit('connection', stream);
    const stop = busy(new Readiness(), () => {
      stop();
      process.nextTick(() => stream.push('GET /there HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'));
    });
  });
  t.match(answer, /^HTTP\/1.1 200 OK.*hello \/there$/s);
});

t.test('each owner is told once that its turn is over, and only when it had one', async (t) => {
  const told: string[] = [];
  const [first, second, third] = ['first', 'second', 'third'].map((name) => new Readiness(() => told.push(name))) as [
    Readiness,
    Readiness,
    Readiness,
  ];
  const stops: (() => void)[] = [];
  const end = (): void => {
    for (const stop of stops) stop();
  };
  stops.push(
    busy(first, () => {}),
    busy(first, () => {}),
    busy(second, () => setImmediate(end)),
  );
  t.ok(third);
  await new Promise((resolve) => setTimeout(resolve, 5));
  t.notOk(told.includes('third'));
  t.ok(told.includes('first') && told.includes('second'));
  t.ok(
    told.every((name, i) => name !== told[i + 1]),
    'in turn',
  );
});

t.test('handlers come and go within a turn', async (t) => {
  const readiness = new Readiness();
  const told: number[] = [];
  const fds = Array.from({ length: 20 }, () => eventfd(1, SOCK_CLOEXEC | SOCK_NONBLOCK));
  const registrations: number[] = [];
  await new Promise<void>((resolve) => {
    for (const [i, fd] of fds.entries()) {
      const handler: ReadyHandler = {
        ready: () => {
          told.push(i);
          // The first to be told removes all others, whose events are in the same turn.
          for (const registration of registrations) readiness.remove(registration);
          for (const one of fds) close(one);
          setImmediate(resolve);
        },
      };
      registrations.push(readiness.add(fd, EPOLLIN, handler));
    }
  });
  t.equal(told.length, 1);
  t.ok(readiness.add(-1, EPOLLIN, { ready: () => {} }) < 0, 'a descriptor that is none');
});

t.test('there is one, the main thread has it', async (t) => {
  t.equal(EventLoop.get(), EventLoop.get());
  const url = JSON.stringify(new URL('../../src/native/event-loop.ts', import.meta.url).href);
  const worker = new Worker(
    `import(${url}).then(({ EventLoop }) => EventLoop.get()).catch((error) =>
      require('node:worker_threads').parentPort.postMessage(error.message))`,
    { eval: true },
  );
  t.match(await once(worker, 'message'), [/main thread/]);
  await worker.terminate();
});

t.test('a process ends when nothing holds it', async (t) => {
  const { child, line } = start('unheld');
  t.equal(await line(), 'started');
  t.same(await once(child, 'exit'), [0, null]);
});

t.test('but not before what is to be done soon, or when it is quiet, is done', async (t) => {
  const { child, line } = start('soon');
  t.equal(await line(), 'soon');
  t.equal(await line(), 'and again');
  t.equal(await line(), 'quiet');
  t.same(child.exitCode ?? (await once(child, 'exit'))[0], 0);
});

t.test('and no longer, when both are asked for at once', async (t) => {
  const { child, line } = start('both');
  t.equal(await line(), 'soon');
  t.equal(await line(), 'quiet');
  t.same(child.exitCode ?? (await once(child, 'exit'))[0], 0);
});

t.test('a handler that throws, and a rejection nobody handles, end the process as ever', async (t) => {
  const throwing = start('throwing');
  t.equal(await throwing.line(), 'caught a bug');
  t.same(throwing.child.exitCode ?? (await once(throwing.child, 'exit'))[0], 3);
  const rejecting = start('rejecting');
  t.equal(await rejecting.line(), 'unhandled nobody');
  t.same(rejecting.child.exitCode ?? (await once(rejecting.child, 'exit'))[0], 4);
});

t.test('signals are heard, busy or waiting', async (t) => {
  const { child, line } = start('signalled');
  t.equal(await line(), 'started');
  child.kill('SIGUSR2');
  t.equal(await line(), 'once');
  child.kill('SIGUSR2');
  t.equal(await line(), 'twice');
  t.same(child.exitCode ?? (await once(child, 'exit'))[0], 0);
});

t.test('Node wakes the loop, and the loop Node', async (t) => {
  const { child, line } = start('woken');
  t.equal(await line(), 'started');
  child.stdin.write('\n');
  t.equal(await line(), 'woken');
  t.same(child.exitCode ?? (await once(child, 'exit'))[0], 0);
});
