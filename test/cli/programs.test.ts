/** The command line as its users run it: every command's help, usage errors, and what works without a VM. */

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import t from 'tap';
import { homeAt, makeHome } from '../../src/home.ts';
import { lockFile } from '../../src/hypervisor/disk/lock-file.ts';

const launcher = join(import.meta.dirname, '../../bin/slipway');
const folder = mkdtempSync(join(tmpdir(), 'slipway-cli-'));
t.teardown(() => rmSync(folder, { recursive: true }));
t.jobs = 2;
t.setTimeout(180_000);

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

t.test('the version is the package’s', async (t) => {
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8'));
  for (const word of ['--version', '-V', 'version'])
    t.match(await slipway([word]), { status: 0, stdout: `slipway ${version}\n`, stderr: '' });
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

t.test('settings in the database, without a daemon', async (t) => {
  const home = join(folder, 'settings');
  const git = (...argv: readonly string[]): string =>
    execFileSync('git', ['-C', join(home, 'database'), ...argv], { encoding: 'utf8' });
  const config = (...argv: readonly string[]) => slipway(['config', ...argv], home);
  t.match(JSON.parse((await config('list', '--json')).stdout), { 'vm.memory': { value: 2048, chosen: false } });
  t.notOk(existsSync(home), 'reading makes nothing');
  const set = await config('set', 'vm.memory=4096', 'ports.bind=0.0.0.0', '-m', 'More room');
  t.equal(set.status, 0, set.stderr);
  t.match(set.stderr, /vm\.memory: in force when the VM next starts/);
  t.equal(statSync(join(home, 'database')).mode & 0o777, 0o700);
  t.equal(statSync(home).mode & 0o777, 0o700);
  t.equal((await config('get', 'vm.memory')).stdout, '4096\n');
  t.equal((await config('get', '--json', 'ports.bind')).stdout, '"0.0.0.0"\n');
  t.match(await config('set', 'vm.memory', '1'), {
    status: 1,
    stderr: /^slipway: vm\.memory must be from 512 to \d+ MiB, not 1\n$/,
  });
  t.equal(git('show', '--format=%s', '--name-only', 'user'), 'More room\n\nports/bind\nvm/memory\n', 'one commit');
  await config('unset', 'vm.memory');
  t.equal(git('ls-tree', '-r', '--name-only', 'user'), 'ports/bind\nschema-version\n');
  const list = JSON.parse((await config('list', '--json')).stdout);
  t.match(list, { 'vm.memory': { value: 2048, chosen: false }, 'ports.bind': { value: '0.0.0.0', chosen: true } });
  t.match((await config('list')).stdout, /^ports\.bind +0\.0\.0\.0 +set /m);

  const log = await config('log', '--json');
  t.match(JSON.parse(log.stdout), [
    { message: 'unset vm.memory', changes: [{ name: 'vm.memory', from: '4096' }] },
    { message: 'More room' },
    { message: 'Begin with the defaults', changes: [] },
  ]);
  t.match((await config('log', 'ports.bind')).stdout, /^COMMIT +WHEN +WHO +WHAT\n[0-9a-f]{10} .* More room\n$/);
  t.equal((await config('diff', 'HEAD')).stdout, 'vm.memory: 4096 -> (not set)\n');
  t.equal((await config('diff', 'HEAD', 'HEAD~1')).stdout, 'vm.memory: (not set) -> 4096\n');
  t.match(await config('diff'), { status: 1, stderr: /nothing has been in force yet; 'slipway up'/ });
  t.equal((await config('revert', 'HEAD')).stderr, "vm.memory: in force when the VM next starts ('slipway restart')\n");
  t.equal((await config('get', 'vm.memory')).stdout, '4096\n');
  await config('set', 'ports.bind=127.0.0.1');
  t.match(await config('revert', git('rev-parse', 'user~3').slice(0, 12)), {
    status: 1,
    stderr: /cannot undo [0-9a-f]{10}: ports\.bind changed again later; revert that first/,
  });
  t.match(await config('revert', 'xyz'), { status: 2, stderr: /'xyz' is not a commit: HEAD, HEAD~N or at least/ });
  const first = git('rev-list', '--max-parents=0', 'user').trim();
  t.match(await config('revert', first), { status: 1, stderr: /cannot undo [0-9a-f]{10}: it is the first/ });
  t.match(await config('revert', 'abcd'), { status: 1, stderr: /there is no commit abcd/ });
  t.equal(git('fsck', '--strict', '--no-dangling').trim(), '');

  const reset = await slipway(['reset', '--yes'], home);
  t.equal(reset.status, 0, reset.stderr);
  t.notOk(existsSync(join(home, 'database')));
});

t.test('settings in an editor', async (t) => {
  const home = join(folder, 'edited');
  const edit = (script: string) =>
    slipway(['config', 'edit', '-m', 'By hand'], home, { VISUAL: '', EDITOR: `sh -c '${script}' sh` });
  const changed = await edit('echo vm.cpus = 3 >>$1; echo network.dns=1.1.1.1,9.9.9.9 >>$1');
  t.equal(changed.status, 0, changed.stderr);
  t.equal((await slipway(['config', 'get', 'network.dns'], home)).stdout, '1.1.1.1,9.9.9.9\n');
  t.equal((await edit('true')).stderr, 'nothing was changed\n');
  const wrong = await edit('echo vm.cpus = 0 >>$1');
  t.match(wrong, { status: 1, stderr: /vm\.cpus must be from 1 to 64.*nothing has changed, and your text is kept in/ });
  rmSync(dirname(/kept in (\S+)/.exec(wrong.stderr)![1]!), { recursive: true });
  t.match(await edit('exit 3'), { status: 1, stderr: /the editor .* ended with 3/ });
  await edit('sed -i /^vm.cpus/d $1');
  t.match(JSON.parse((await slipway(['config', 'list', '--json'], home)).stdout), {
    'vm.cpus': { value: 2, chosen: false },
    'network.dns': { chosen: true },
  });

  const rules = 'deny 10.0.0.0/8 # not ours\nallow any';
  await slipway(['config', 'set', `policy.rules=${rules}`], home);
  t.equal((await edit('true')).stderr, 'nothing was changed\n', 'a value of several lines is one line');
  t.equal((await edit('sed -i "/^policy/s/10/11/" $1')).status, 0);
  t.equal((await slipway(['config', 'get', 'policy.rules'], home)).stdout, `${rules.replace('10', '11')}\n`);
  t.match(
    (await slipway(['config', 'diff', 'HEAD'], home)).stdout,
    /^policy\.rules: "deny 10[^\n]*" -> "deny 11[^\n]*"\n$/,
  );
});

t.test('a settings file of before is taken over, a bad one named', async (t) => {
  const home = join(folder, 'before');
  mkdirSync(home);
  writeFileSync(join(home, 'settings.json'), '{"vm.cpus": 0}');
  t.match(await slipway(['config', 'list'], home), {
    status: 1,
    stderr: /settings\.json: vm\.cpus must be from 1 to 64, not 0; mend it, or remove the file for the defaults/,
  });
  writeFileSync(join(home, 'settings.json'), '{"vm.cpus": 4, "ports.bind": "::1"}');
  t.equal((await slipway(['config', 'get', 'vm.cpus'], home)).stdout, '4\n');
  t.same(
    ['settings.json', 'settings.json.taken-over', 'database'].map((name) => existsSync(join(home, name))),
    [false, true, true],
  );
  t.match((await slipway(['config', 'log'], home)).stdout, /Take over the settings of settings\.json\n.*Begin with/);
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
