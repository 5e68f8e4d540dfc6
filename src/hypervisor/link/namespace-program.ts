/**
 * The program that does in a namespace what cannot be done from outside. Node is threaded and cannot enter a user
 * namespace, so `nsenter` or `unshare` starts this one inside (namespace-helper.ts). It makes a TAP device, sets it up,
 * and passes its descriptor on. If it was told a command, it waits until whoever has the device is ready, and becomes
 * that command: same process, so that its exit status and the signals sent to it are the command's own.
 *
 * What goes wrong before that is one line on stderr and status 1; a command that cannot be run is 126 or 127, as in a
 * shell. The command dies with the process that started it (PR_SET_PDEATHSIG).
 */

import { existsSync, mkdtempSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import koffi from 'koffi';
import { close, codeOf } from '../../native/system-calls.ts';
import { sendDescriptor } from './descriptor-passing.ts';
import { CONTROL_FD, type NamespaceRequest, STDERR_FD } from './namespace-request.ts';
import { configureInterface, openTap } from './tap-device.ts';

const RESOLV_CONF = '/etc/resolv.conf';
/** Ways to the host's resolver that lead past the network: they answer to nobody in here. */
const RESOLVER_SOCKETS = ['/run/systemd/resolve/io.systemd.Resolve', '/run/nscd/socket', '/var/run/nscd/socket'];
/** Where bin/node.sh has Node keep compiled code: ours, and nothing to a command that runs on Node too. */
const OWN_CACHE = '/slipway/code';
const MS_BIND = 4096;
const PR_SET_PDEATHSIG = 1;
const F_SETFD = 2;
const SIGKILL = 9;
const SIGPIPE = 13;
const SIGXFSZ = 25;
const ENOENT = koffi.os.errno.ENOENT!;

const libc = koffi.load(null);
const mount = libc.func('int mount(const char *, const char *, const char *, unsigned long, const void *)');
const prctl = libc.func('int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)');
const dup2 = libc.func('int dup2(int, int)');
const fcntl = libc.func('int fcntl(int, int, int)');
const signal = libc.func('intptr_t signal(int, intptr_t)');
const execvp = libc.func('int execvp(const char *, const char **)');

/** Written by system call: whose stderr descriptor 2 is changes underneath Node. */
function say(line: string): void {
  writeSync(2, `${line}\n`);
}

function bind(source: string, target: string): void {
  if (mount(source, target, null, MS_BIND, null) < 0)
    throw new Error(`cannot cover ${target} with ${source}: ${codeOf(koffi.errno())}`);
}

function coverResolver(resolvConf: string): void {
  // A link that leads nowhere counts as absent: there is no place to cover.
  if (existsSync(RESOLV_CONF)) {
    const folder = mkdtempSync(join(tmpdir(), 'slipway-'));
    try {
      const file = join(folder, 'resolv.conf');
      writeFileSync(file, resolvConf, { mode: 0o644 });
      bind(file, RESOLV_CONF);
    } finally {
      // The mount keeps the file.
      rmSync(folder, { recursive: true });
    }
  } else
    process.stderr.write(
      `there is no ${RESOLV_CONF} to cover, so names may not resolve: create an empty one as root\n`,
    );
  for (const socket of RESOLVER_SOCKETS) if (existsSync(socket)) bind('/dev/null', socket);
}

function become(command: readonly string[]): never {
  dup2(STDERR_FD, 2);
  close(STDERR_FD);
  close(CONTROL_FD);
  // Node starts by having every descriptor closed on exec, these too.
  for (const fd of [0, 1]) fcntl(fd, F_SETFD, 0);
  if (process.env.NODE_COMPILE_CACHE?.endsWith(OWN_CACHE)) delete process.env.NODE_COMPILE_CACHE;
  // Node ignores these two, and what is ignored stays so across exec.
  signal(SIGPIPE, 0);
  signal(SIGXFSZ, 0);
  execvp(command[0]!, [...command, null]);
  const code = koffi.errno();
  const why = code === ENOENT ? 'there is no such command' : codeOf(code);
  say(`slipway: cannot run '${command[0]}': ${why}`);
  process.exit(code === ENOENT ? 127 : 126);
}

function main(request: NamespaceRequest, command: readonly string[]): void {
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  const tap = openTap(request.name, request.offload);
  if (request.addresses) configureInterface(tap.name, request.addresses);
  if (request.resolvConf !== undefined) coverResolver(request.resolvConf);
  sendDescriptor(CONTROL_FD, tap.fd, tap.name);
  close(tap.fd);
  if (command.length === 0) return;
  // One octet says go; none, that nobody is there any more.
  if (readSync(CONTROL_FD, new Uint8Array(1)) === 0) process.exit(1);
  become(command);
}

try {
  const [request, ...command] = process.argv.slice(2);
  main(JSON.parse(request!) as NamespaceRequest, command);
} catch (error) {
  say((error as Error).message);
  process.exitCode = 1;
}
