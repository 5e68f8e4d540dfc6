/** `--entrance` of the network core's commands: a program in a namespace, reached by curl at the guest's own address. */

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';

const program = fileURLToPath(new URL('../../bin/slipway', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'slipway-cli-entrance-'));
t.teardown(() => rmSync(folder, { recursive: true }));

const server = `require('http').createServer((q, r) => r.end('at ' + q.url)).listen(8080, () => console.log('listening'))`;

t.test('net run --entrance unix:PATH', async (t) => {
  const path = join(folder, 'entrance.sock');
  const words = ['net', 'run', '--entrance', `unix:${path}`, '--', process.execPath, '-e', server];
  const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  t.equal(statSync(path).mode & 0o777, 0o600);
  const curl = ['-sS', '--max-time', '20', '--proxy', `socks5h://localhost${path}`];
  const { stdout } = await promisify(execFile)('curl', [...curl, 'http://192.168.65.3:8080/socks']);
  t.equal(stdout, 'at /socks');
  child.kill('SIGTERM');
  await once(child, 'exit');
});

t.test('wrong usage', async (t) => {
  const file = join(folder, 'credential');
  writeFileSync(file, 'me:secret\n');
  chmodSync(file, 0o644);
  for (const [words, said] of [
    [['--entrance', '0.0.0.0:1080'], /--entrance: '0\.0\.0\.0:1080' is neither unix:PATH nor a loopback address/],
    [['--entrance', '127.0.0.1:1080'], /needs --entrance-credential FILE/],
    [['--entrance', '127.0.0.1:1080', '--entrance-credential', file], /others can read .*; chmod 600/],
    [['--entrance-credential', file], /goes with --entrance/],
  ] as [string[], RegExp][]) {
    const child = spawn(program, ['net', 'serve', '--qemu', join(folder, 'q.sock'), ...words]);
    const [err, [status]] = await Promise.all([text(child.stderr), once(child, 'close')]);
    t.equal(status, 2);
    t.match(err, said);
    t.notMatch(err, 'secret');
  }
});
