/** `slipway net run` and `net serve --tap` as their users run them: real commands in real namespaces. */

import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createWebServer } from 'node:http';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode, encode } from 'dns-packet';
import t, { type Test } from 'tap';
import { namespaceRemedy } from '../../src/cli/namespace-remedy.ts';
import { ensureDebianPackages } from '../../tools/debian.ts';

t.setTimeout(120_000);

ensureDebianPackages([
  { name: 'curl', proof: 'curl' },
  { name: 'iproute2', proof: 'ip' },
  { name: 'socat', proof: 'socat' },
  { name: 'util-linux', proof: 'setpriv' },
  { name: 'bsdutils', proof: 'script' },
]);

const launcher = join(import.meta.dirname, '../../bin/slipway');
const folder = mkdtempSync(join(tmpdir(), 'slipway-net-run-'));
t.teardown(() => rmSync(folder, { recursive: true }));
const isRoot = process.getuid?.() === 0;

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

class Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Outcome>;
  stdout = '';
  stderr = '';
  #waiting: { condition: () => boolean; resolve: () => void }[] = [];

  constructor(
    program: string,
    argv: readonly string[],
    input: string | undefined,
    stdin: 'ignore' | 'pipe' = input === undefined ? 'ignore' : 'pipe',
  ) {
    // tap's hooks are put into every child's environment, and must not reach the programs under test.
    this.child = spawn('env', ['-u', 'NODE_OPTIONS', program, ...argv], { stdio: [stdin, 'pipe', 'pipe'] });
    if (input !== undefined) this.child.stdin!.end(input);
    this.child.stdout!.on('data', (octets) => this.#said((this.stdout += octets)));
    this.child.stderr!.on('data', (octets) => this.#said((this.stderr += octets)));
    this.ended = new Promise((resolve) => {
      this.child.once('close', (status) => resolve({ status, stdout: this.stdout, stderr: this.stderr }));
    });
  }

  #said(_: string): void {
    this.#waiting = this.#waiting.filter(({ condition, resolve }) => !condition() || void resolve());
  }

  /** Resolves when stdout matches, or the program has ended. */
  said(pattern: RegExp): Promise<void> {
    const condition = (): boolean => pattern.test(this.stdout);
    if (condition()) return Promise.resolve();
    const said = new Promise<void>((resolve) => this.#waiting.push({ condition, resolve }));
    return Promise.race([said, this.ended.then(() => undefined)]);
  }
}

const running = (argv: readonly string[], input?: string): Running => new Running(launcher, argv, input);
const netRun = (...argv: string[]): Promise<Outcome> => running(['net', 'run', ...argv]).ended;

async function webServer(t: Test, content: Buffer): Promise<string> {
  const server = createWebServer(async (request, response) => {
    if (request.method !== 'PUT') return response.end(content);
    const hash = createHash('sha256');
    for await (const chunk of request) hash.update(chunk as Buffer);
    return response.end(hash.digest('hex'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return `http://host.docker.internal:${(server.address() as AddressInfo).port}/`;
}

const sha256 = (octets: Buffer): string => createHash('sha256').update(octets).digest('hex');

t.test('the exit status is the command’s', async (t) => {
  t.same(await netRun('true'), { status: 0, stdout: '', stderr: '' });
  t.equal((await netRun('--', 'sh', '-c', 'exit 7')).status, 7);
  t.equal((await netRun('sh', '-c', 'kill -TERM $$')).status, 128 + 15);
  const absent = await netRun('slipway-nonesuch');
  t.equal(absent.status, 127);
  t.equal(absent.stderr, "slipway: cannot run 'slipway-nonesuch': there is no such command\n");
  t.equal((await netRun('/etc/passwd')).status, 126);
});

t.test('wrong usage: status 2 and one line', async (t) => {
  for (const argv of [
    [],
    ['--'],
    ['--nonsense', 'true'],
    ['--mtu', 'x', 'true'],
    ['--publish', 'x', 'true'],
    ['--mtu'],
  ]) {
    const { status, stdout, stderr } = await netRun(...argv);
    t.equal(status, 2, argv.join(' '));
    t.match(stderr, /^slipway: .+\n$/, argv.join(' '));
    t.equal(stdout, '');
  }
  const taken = createServer().listen(0, '127.0.0.1');
  t.teardown(() => taken.close());
  await new Promise((resolve) => taken.once('listening', resolve));
  const { port } = taken.address() as AddressInfo;
  const refused = await netRun('--publish', `127.0.0.1:${port}:80`, 'true');
  t.equal(refused.status, 1, 'what cannot be published keeps the command from running');
  t.match(refused.stderr, /^slipway: .*\n$/);
});

t.test('stdio, arguments and environment are passed as they are', async (t) => {
  const echo = await running(['net', 'run', 'cat'], 'from stdin').ended;
  t.same(echo, { status: 0, stdout: 'from stdin', stderr: '' });
  const script = 'printf "%s|" "$@"; echo; echo to stderr >&2; grep -E "Sig(Ign|Blk)" /proc/self/status; env';
  const { stdout, stderr } = await netRun('sh', '-c', script, '-', '--mtu', 'a b', '', "'");
  t.match(stdout, /^--mtu\|a b\|\|'\|$/m);
  t.match(stdout, /^SigIgn:\s+0+$/m, 'no signal is ignored');
  t.match(stdout, /^SigBlk:\s+0+$/m, 'or blocked');
  t.notMatch(stdout, /NODE_COMPILE_CACHE=.*slipway/);
  t.equal(stderr, 'to stderr\n');
});

t.test('inside: root of its own, one interface, a resolver, and nothing else', async (t) => {
  const script = `id -u; ip -o link; ip -4 -o addr; ip route; cat /etc/resolv.conf; getent ahosts host.docker.internal`;
  const { stdout, stderr } = await netRun('--mtu', '9000', '--subnet', '10.77.0.0/16', 'sh', '-c', script);
  t.equal(stderr, '');
  t.match(stdout, /^0$/m);
  t.same(
    [...stdout.matchAll(/^\d+: ([^:@\s]+): /gm)].map(([, name]) => name),
    ['lo', 'tap0'],
  );
  t.match(stdout, /tap0: <.*UP.*> mtu 9000/);
  t.match(stdout, /inet 10\.77\.0\.3\/16/);
  t.match(stdout, /^default via 10\.77\.0\.1 dev tap0/m);
  t.match(stdout, /^nameserver 10\.77\.0\.1\nnameserver fd53:6c69:a4d::1$/m);
  t.match(stdout, /^10\.77\.0\.2\s+STREAM/m);
  t.match(stdout, /^fd53:6c69:a4d::2\s+STREAM/m);
  t.notMatch(readFileSync('/etc/resolv.conf', 'utf8'), /10\.77\.0\.1/, 'the host keeps its own');
  t.same(
    readdirSync(tmpdir()).filter((name) => /^slipway-......$/.test(name)),
    [],
    'no file is left',
  );
});

for (const flags of [[], ['--no-offload'], ['--mtu', '65520']])
  t.test(`some megabytes each way ${flags.join(' ')}`, async (t) => {
    const content = randomBytes(6 << 20);
    const url = await webServer(t, content);
    const copy = join(folder, 'copy');
    const { status, stdout, stderr } = await netRun(
      ...[...flags, '--', 'sh', '-c', `curl -sS ${url} | tee ${copy} | curl -sS -T - ${url}`],
    );
    t.same([status, stderr], [0, '']);
    t.equal(sha256(readFileSync(copy)), sha256(content), 'down');
    t.equal(stdout, sha256(content), 'up');
  });

t.test('names are asked of --dns, with any record type', async (t) => {
  const server = createSocket('udp4');
  const asked: string[] = [];
  server.on('message', (query, from) => {
    const { id, questions = [] } = decode(query);
    const { name, type } = questions[0]!;
    asked.push(`${type} ${name.toLowerCase()}`);
    const answers = type === 'A' ? [{ type: 'A' as const, name, ttl: 60, data: '10.1.2.3' }] : [];
    server.send(encode({ type: 'response', id: id!, flags: 0x180, questions, answers }), from.port, from.address);
  });
  await new Promise<void>((resolve) => server.bind(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const { stdout } = await netRun(
    '--dns',
    `127.0.0.1#${server.address().port}`,
    'getent',
    'ahostsv4',
    'name.example.test',
  );
  t.match(stdout, /^10\.1\.2\.3\s/m);
  t.ok(asked.includes('A name.example.test'));
});

t.test('a published port; signals reach the command', async (t) => {
  const probe = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => probe.once('listening', resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  const script = `trap 'echo told; exit 3' USR1; socat TCP-LISTEN:80,fork,reuseaddr EXEC:cat & until ss -ltn | grep -q :80; do sleep 0.05; done; echo up; wait`;
  const guest = running(['net', 'run', '--publish', `127.0.0.1:${port}:80`, '--', 'sh', '-c', script]);
  await guest.said(/up/);
  const client = spawn('socat', ['-t30', '-', `TCP:127.0.0.1:${port}`], { stdio: ['pipe', 'pipe', 'inherit'] });
  const content = randomBytes(1 << 20);
  const chunks: Buffer[] = [];
  client.stdout.on('data', (chunk) => chunks.push(chunk));
  client.stdin.end(content);
  await new Promise((resolve) => client.once('close', resolve));
  t.equal(sha256(Buffer.concat(chunks)), sha256(content));
  guest.child.kill('SIGUSR1');
  const { status, stdout } = await guest.ended;
  t.match(stdout, /told/);
  t.equal(status, 3);
  for (const [signal, number] of [
    ['SIGTERM', 15],
    ['SIGINT', 2],
    ['SIGHUP', 1],
  ] as const) {
    const sleeping = running(['net', 'run', 'sh', '-c', 'echo up; exec sleep 600']);
    await sleeping.said(/up/);
    sleeping.child.kill(signal);
    t.equal((await sleeping.ended).status, 128 + number, signal);
  }
});

t.test('on a terminal, Ctrl-C reaches the command once: from the terminal, not from us as well', async (t) => {
  const script = `trap 'echo interrupted' INT; echo up; while ! read line; do :; done; echo "got $line"; exit 4`;
  writeFileSync(join(folder, 'script'), script);
  // The shell inside says the status: the terminal's end may reach 'script' before its child's, which it then loses.
  const inside = `trap : INT; '${launcher}' net run sh ${join(folder, 'script')}; echo "status $?"`;
  const terminal = new Running('script', ['-qc', inside, '/dev/null'], undefined, 'pipe');
  await terminal.said(/up/);
  terminal.child.stdin!.write('\x03');
  await terminal.said(/interrupted/);
  terminal.child.stdin!.write('line\n');
  const { stdout } = await terminal.ended;
  t.match(stdout, /^status 4\r$/m);
  t.equal(stdout.match(/interrupted/g)?.length, 1);
  t.match(stdout, /got line/);
});

t.test('what the command sent arrives, though it has ended', async (t) => {
  const content = randomBytes(5 << 20);
  writeFileSync(join(folder, 'sent'), content);
  const hash = createHash('sha256');
  const server = createServer((socket: Socket) => {
    // Slower than the command: at its end, much is still in the kernel of its namespace.
    socket.on('data', (chunk) => {
      hash.update(chunk);
      socket.pause();
      setImmediate(() => socket.resume());
    });
    socket.on('end', () => server.close());
  });
  const closed = new Promise((resolve) => server.once('close', resolve));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  t.same(await netRun('socat', '-u', `OPEN:${join(folder, 'sent')}`, `TCP:host.docker.internal:${port}`), {
    status: 0,
    stdout: '',
    stderr: '',
  });
  await closed;
  t.equal(hash.digest('hex'), sha256(content));
});

/** Processes of this user in the network namespace. */
function members(namespace: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/ns/net`) === namespace;
    } catch {
      return false;
    }
  });
}

t.test('nothing stays behind, however it ends', async (t) => {
  const left = running([
    'net',
    'run',
    'sh',
    '-c',
    'readlink /proc/self/ns/net; setsid sleep 600 >/dev/null 2>&1 & exit 5',
  ]);
  const { status, stdout } = await left.ended;
  t.equal(status, 5);
  t.match(stdout, /^net:\[\d+\]\n$/);
  t.same(members(stdout.trim()), [], 'what it left running is gone');
  const killed = running(['net', 'run', 'sh', '-c', 'readlink /proc/self/ns/net; exec sleep 600']);
  await killed.said(/net:/);
  t.not(members(killed.stdout.trim()).length, 0);
  killed.child.kill('SIGKILL');
  // The command holds stdout: its end is seen there.
  await killed.ended;
  // A process closes its files a moment before it leaves its namespaces.
  while (members(killed.stdout.trim()).length > 0) await new Promise(setImmediate);
  t.pass('the command dies with the core');
});

t.test('an ordinary user', async (t) => {
  const inside = `"${launcher}" net run sh -c 'id -u; cat /proc/self/uid_map; getent ahostsv4 host.docker.internal'`;
  const argv = isRoot ? ['unshare', '-m', 'sh', '-c', asNobody(inside)] : ['sh', '-c', inside];
  const { status, stdout, stderr } = await new Running(argv[0]!, argv.slice(1), undefined).ended;
  t.equal(status, 0, stderr);
  const uid = isRoot ? 65534 : process.getuid!();
  t.match(stdout, new RegExp(`^0\\n\\s+0\\s+${uid}\\s+1\\n192\\.168\\.65\\.2`), 'is root inside, by a map of one');
  // Only root can take rights away from others.
  if (!isRoot) return;
  const closed = asNobody(`"${launcher}" net run true`, '0600');
  const refused = await new Running('unshare', ['-m', 'sh', '-c', closed], undefined).ended;
  t.equal(refused.status, 1);
  t.match(refused.stderr, /^slipway: this user may not open \/dev\/net\/tun: .*chmod 0666.*\n$/);
  // Somebody else's namespace, made by an ordinary user.
  const serve = asNobody(`sh -c '
    unshare -rn sh -c "echo ready; exec sleep 600" > "${folder}/own" & own=$!
    until [ -s "${folder}/own" ]; do sleep 0.05; done
    "${launcher}" net serve --tap tap0 --netns /proc/$own/ns/net --configure --mtu 4000 > "${folder}/serve" & serve=$!
    until grep -q ready "${folder}/serve" || ! kill -0 $serve; do sleep 0.05; done
    nsenter -t $own -U --preserve-credentials -n sh -c "ip -o link show tap0; getent -s dns hosts host.docker.internal; ip -4 -o addr show tap0"
    kill $serve; wait $serve; echo "status $?"; kill $own'`);
  const served = await new Running('unshare', ['-m', 'sh', '-c', serve], undefined).ended;
  t.match(served.stdout, /tap0: .* mtu 4000/, served.stderr);
  t.match(served.stdout, /inet 192\.168\.65\.3\/24/);
  t.match(served.stdout, /status 0/);
});

/** A script for a private mount namespace: /dev/net/tun open to `mode`, then `command` as nobody. */
function asNobody(command: string, mode = '0666'): string {
  const home = join(folder, 'nobody');
  mkdirSync(home, { recursive: true, mode: 0o777 });
  return `set -e; chmod 755 "${folder}"; chmod 777 "${home}"
    mount -t tmpfs none /mnt; mknod /mnt/tun c 10 200; chmod ${mode} /mnt/tun; mount --bind /mnt/tun /dev/net/tun
    cd "${home}"; touch "${folder}/own" "${folder}/serve"; chmod 666 "${folder}/own" "${folder}/serve"; : > "${folder}/own"; : > "${folder}/serve"
    exec setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="${home}" TMPDIR="${home}" ${command}`;
}

t.test('where namespaces are forbidden, the remedy is named', (t) => {
  const settings = join(folder, 'sys');
  mkdirSync(join(settings, 'kernel'), { recursive: true });
  mkdirSync(join(settings, 'user'));
  const said = 'unshare: unshare failed: Operation not permitted';
  t.match(namespaceRemedy(said, settings), /cannot make a user and network namespace \(unshare: .*run this as root/);
  writeFileSync(join(settings, 'user/max_user_namespaces'), '0\n');
  t.match(namespaceRemedy(said, settings), /user\.max_user_namespaces is 0\): 'sysctl -w user\.max_user_namespaces=/);
  writeFileSync(join(settings, 'kernel/apparmor_restrict_unprivileged_userns'), '1\n');
  t.match(namespaceRemedy(said, settings), /sysctl -w kernel\.apparmor_restrict_unprivileged_userns=0/);
  t.equal(namespaceRemedy('there is no /dev/net/tun', settings), 'there is no /dev/net/tun');
  t.end();
});
