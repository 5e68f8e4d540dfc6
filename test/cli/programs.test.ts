/** The command line as its users run it: every command's help, usage errors, and what works without a VM. */

import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { homeAt, makeHome } from '../../src/home.ts';
import { lockFile } from '../../src/hypervisor/disk/lock-file.ts';

const launcher = join(import.meta.dirname, '../../bin/slipway');
const folder = mkdtempSync(join(tmpdir(), 'slipway-cli-'));
t.teardown(() => rmSync(folder, { recursive: true }));
t.jobs = 2;

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function slipway(argv: readonly string[], home = join(folder, 'home'), env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  const { NODE_OPTIONS: _, ...inherited } = process.env;
  const child = spawn(launcher, argv, {
    env: { ...inherited, SLIPWAY_HOME: home, DOCKER_CONFIG: join(folder, 'docker'), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (octets) => {
    stdout += octets;
  });
  child.stderr.on('data', (octets) => {
    stderr += octets;
  });
  return new Promise((resolve) => child.once('close', (status) => resolve({ status, stdout, stderr })));
}

t.test('every command explains itself, with an example', async (t) => {
  const { stdout, status } = await slipway(['--help']);
  t.equal(status, 0);
  const names = [...stdout.matchAll(/^ {2}(\S+(?: \S+)?) {2,}/gm)].map(([, name]) => name!);
  t.ok(names.length > 12, names.join(', '));
  for (const name of names) {
    const help = await slipway([...name.split(' '), '--help']);
    t.equal(help.status, 0, `${name}: ${help.stderr}`);
    t.match(help.stdout, new RegExp(`^usage: slipway ${name}`, 'i'), name);
    t.match(help.stdout, /example/i, `${name} has an example`);
    t.match(help.stdout, new RegExp(`slipway ${name}`), name);
  }
});

t.test('wrong usage: status 2 and one line', async (t) => {
  for (const argv of [
    ['nonsense'],
    ['toString'],
    ['status', '--nonsense'],
    ['status', 'more'],
    ['ports'],
    ['config'],
    ['config', 'nonsense'],
    ['config', 'get'],
    ['config', 'get', 'nope'],
    ['config', 'set', 'vm.memory'],
    ['config', 'set', 'nope=1'],
    ['context'],
    ['logs', 'nope'],
    ['reset'],
  ]) {
    const { status, stdout, stderr } = await slipway(argv);
    t.equal(status, 2, `${argv.join(' ')}: ${stderr}`);
    t.match(stderr, /^slipway: .+\n$/, argv.join(' '));
    t.equal(stdout, '');
  }
});

t.test('without a daemon: failures say what to do, with status 1', async (t) => {
  for (const argv of [
    ['pause'],
    ['resume'],
    ['ports', 'list'],
    ['shell', '--', 'true'],
    ['logs', 'dockerd'],
    ['proof'],
  ]) {
    const { status, stderr } = await slipway(argv);
    t.equal(status, 1, argv.join(' '));
    t.match(stderr, /slipway: .*'slipway up' starts it\n$/, argv.join(' '));
  }
  const status = await slipway(['status', '--json']);
  t.match(JSON.parse(status.stdout), { state: 'stopped', docker: { ready: false } });
  t.match((await slipway(['status'])).stdout, /^state: +stopped\n/);
  t.match(await slipway(['down']), { status: 0, stderr: 'slipway is not running\n' });
});

t.test('settings in the file', async (t) => {
  const home = join(folder, 'settings');
  const set = await slipway(['config', 'set', 'vm.memory=4096', 'ports.bind=0.0.0.0'], home);
  t.equal(set.status, 0, set.stderr);
  t.match(set.stderr, /vm\.memory: in force when the VM next starts/);
  t.equal(statSync(join(home, 'settings.json')).mode & 0o777, 0o600);
  t.equal(statSync(home).mode & 0o777, 0o700);
  t.equal((await slipway(['config', 'get', 'vm.memory'], home)).stdout, '4096\n');
  t.equal((await slipway(['config', 'get', '--json', 'ports.bind'], home)).stdout, '"0.0.0.0"\n');
  t.match(await slipway(['config', 'set', 'vm.memory', '1'], home), {
    status: 1,
    stderr: /^slipway: vm\.memory must be from 512 to \d+ MiB, not 1\n$/,
  });
  await slipway(['config', 'unset', 'vm.memory'], home);
  t.same(JSON.parse(readFileSync(join(home, 'settings.json'), 'utf8')), { 'ports.bind': '0.0.0.0' });
  const list = JSON.parse((await slipway(['config', 'list', '--json'], home)).stdout);
  t.match(list, { 'vm.memory': { value: 2048, chosen: false }, 'ports.bind': { value: '0.0.0.0', chosen: true } });
  t.match((await slipway(['config', 'list'], home)).stdout, /^ports\.bind +0\.0\.0\.0 +set /m);
  const reset = await slipway(['reset', '--yes'], home);
  t.equal(reset.status, 0, reset.stderr);
  t.notOk(existsSync(join(home, 'settings.json')));
});

t.test('a home whose sockets would not fit', async (t) => {
  const { status, stderr } = await slipway(['status'], `/${'long/'.repeat(20)}`);
  t.equal(status, 1);
  t.match(stderr, /is too long: a unix socket's path may have 104 octets, so the home may have 85; set SLIPWAY_HOME/);
});

t.test('a home that cannot be made', async (t) => {
  const file = join(folder, 'file');
  writeFileSync(file, '');
  for (const home of ['/proc/slipway', '/proc/a/b', join(file, 'home'), file]) {
    const { status, stderr } = await slipway(['config', 'set', 'vm.cpus=1'], home);
    t.match({ status, stderr }, { status: 1, stderr: /^slipway: cannot make \/\S+: \w+; set SLIPWAY_HOME/ }, home);
  }
});

t.test('one daemon a home', async (t) => {
  const home = homeAt(join(folder, 'taken'));
  makeHome(home);
  const lock = (await lockFile(home.lockFile, 0))!;
  const { status, stderr } = await slipway(['daemon'], home.directory);
  t.equal(status, 1);
  t.match(stderr, /^slipway: another instance \(process \d+\) runs in .*taken; 'slipway status' shows it\n$/);
  lock.release();
});

t.test('root commands in the guest: streams, status, stdin', async (t) => {
  const home = homeAt(join(folder, 'guest'));
  makeHome(home);
  const asked: string[] = [];
  const frame = (kind: number, text: string): Buffer => {
    const head = Buffer.alloc(5);
    head[0] = kind;
    head.writeUInt32LE(Buffer.byteLength(text), 1);
    return Buffer.concat([head, Buffer.from(text)]);
  };
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    let text = '';
    socket.on('data', (octets) => {
      text += octets;
    });
    socket.on('end', () => {
      asked.push(text);
      const answer = Buffer.concat([frame(1, 'out\n'), frame(2, 'err\n'), frame(1, 'more\n'), frame(3, '7')]);
      for (let i = 0; i < answer.length; i += 3) socket.write(answer.subarray(i, i + 3));
      socket.end();
    });
  }).listen(home.connectSocket);
  const outcome = await slipway(['shell', '--', 'echo', "it's", '-n'], home.directory);
  t.same(outcome, { status: 7, stdout: 'out\nmore\n', stderr: 'err\n' });
  t.same(asked, [`00000003.000008af\n21\n'echo' 'it'\\''s' '-n'`]);
  await slipway(['shell', 'ls | wc'], home.directory);
  t.equal(asked[1], '00000003.000008af\n7\nls | wc');
  server.close();
});
