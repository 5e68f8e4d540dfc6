/** The QMP client against a server that keeps the protocol, and against one that does not. */

import { duplexPair, PassThrough } from 'node:stream';
import fc from 'fast-check';
import t from 'tap';
import { QmpClient, type QmpEvent } from '../../../src/hypervisor/adapter/qmp.ts';

interface Command {
  execute: string;
  arguments?: unknown;
  id: number;
}

/** Both ends: the client, and what the server sees and says. */
function pair(options?: { timeoutMs: number }) {
  const [ours, theirs] = duplexPair();
  const client = new QmpClient(ours, options);
  const commands: Command[] = [];
  let held = '';
  let wake: () => void = () => undefined;
  theirs.on('error', () => undefined);
  theirs.on('data', (chunk) => {
    held += chunk;
    for (let at = held.indexOf('\n'); at >= 0; at = held.indexOf('\n')) {
      commands.push(JSON.parse(held.slice(0, at)));
      held = held.slice(at + 1);
    }
    wake();
  });
  const next = async (): Promise<Command> => {
    while (commands.length === 0) await new Promise<void>((resolve) => (wake = resolve));
    return commands.shift()!;
  };
  return { client, server: theirs, next, say: (message: unknown) => theirs.write(`${JSON.stringify(message)}\r\n`) };
}

const greeting = { QMP: { version: {}, capabilities: [] } };

async function negotiated() {
  const it = pair();
  const done = it.client.negotiate();
  it.say(greeting);
  it.say({ return: {}, id: (await it.next()).id });
  await done;
  return it;
}

t.test('negotiates, then matches answers to commands by id', async (t) => {
  const { client, next, say } = await negotiated();
  const one = client.execute('query-status');
  const two = client.execute('human-monitor-command', { 'command-line': 'info' });
  const [first, second] = [await next(), await next()];
  t.match(first, { execute: 'query-status' });
  t.match(second, { arguments: { 'command-line': 'info' } });
  say({ return: 'two', id: second.id });
  say({ error: { class: 'GenericError', desc: 'no such thing' }, id: first.id });
  t.equal(await two, 'two');
  await t.rejects(one, { code: 'GenericError', message: 'QEMU refused query-status: no such thing' });
  t.equal(client.malformed, 0);
});

t.test('events reach listeners, also in the middle of an answer and in pieces', async (t) => {
  const { client, server, next } = await negotiated();
  const events: QmpEvent[] = [];
  const stop = client.onEvent((event) => events.push(event));
  const answer = client.execute('stop');
  const { id } = await next();
  const text = `{"event":"STOP"}\r\n{"event":"SHUTDOWN","data":{"guest":true}}\r\n{"return":{},"id":${id}}\r\n`;
  for (const octet of text) server.write(octet);
  await answer;
  t.same(events, [
    { name: 'STOP', data: {} },
    { name: 'SHUTDOWN', data: { guest: true } },
  ]);
  stop();
});

t.test('what is no message is counted and skipped', async (t) => {
  const { client, server, next, say } = await negotiated();
  server.write('{"event":\n[1,2]\nnull\n{}\n{"return":1}\n{"return":1,"id":99999}\n{"id":1,"error":"text"}\n\n');
  const answer = client.execute('query-status');
  say({ return: 7, id: (await next()).id });
  t.equal(await answer, 7);
  t.equal(client.malformed, 7);
});

t.test('a line without end ends the connection', async (t) => {
  const { client, server } = await negotiated();
  const answer = client.execute('query-status');
  server.write(Buffer.alloc((1 << 20) + 1, 'x'));
  await t.rejects(answer, { code: 'ECONNRESET' });
});

t.test('the end of the stream rejects what waits, and what comes after', async (t) => {
  const { client, server } = await negotiated();
  const answer = client.execute('query-status');
  server.destroy();
  await t.rejects(answer, { code: 'ECONNRESET' });
  await t.rejects(client.execute('stop'), { code: 'ECONNRESET' });
  const silent = new PassThrough();
  const never = new QmpClient(silent).negotiate();
  silent.end();
  await t.rejects(never, { code: 'ECONNRESET' });
});

t.test('a server that says nothing is given up', async (t) => {
  const { client, say } = pair({ timeoutMs: 1 });
  await t.rejects(client.negotiate(), { code: 'ETIMEDOUT' });
  const later = pair({ timeoutMs: 1 });
  later.say(greeting);
  await t.rejects(later.client.negotiate(), { code: 'ETIMEDOUT' }, 'nor does it answer a command');
  say({ return: {}, id: 1 });
});

t.test('property: no octets throw, and the client still works or has ended with an error', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.oneof(fc.uint8Array({ maxLength: 64 }), fc.json())), async (pieces) => {
      const { client, server, next, say } = await negotiated();
      for (const piece of pieces) server.write(typeof piece === 'string' ? `${piece}\n` : piece);
      server.write('\n');
      const answer = client.execute('query-status');
      say({ return: 'alive', id: (await next()).id });
      return (await answer) === 'alive';
    }),
    { numRuns: 100 },
  );
  t.pass();
});
