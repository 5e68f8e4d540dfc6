/**
 * Settings in force in the running guest, whoever set them: the command line, `git push`, a 9P client of the host's. How
 * soon is told as a comment; how long the guest's own machine takes is not for a test to bound.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from '../fs/ninep/client.ts';
import { withInstance } from './instance.ts';
import { cleanEnvironment, type Outcome, run, until } from './programs.ts';

const launcher = join(import.meta.dirname, '../../bin/slipway');

withInstance('settings in the running guest', async (t, slipway) => {
  const clone = mkdtempSync(join(tmpdir(), 'slipway-clone-'));
  t.teardown(async () => {
    await slipway.slipway('config', 'unset', 'vm.hostname', 'vm.sysctl', 'docker.daemonJson', 'network.httpProxy');
    rmSync(clone, { recursive: true, force: true });
  });
  const guest = (script: string): Promise<Outcome> => run(launcher, ['shell', script], slipway.env);
  /** Waits in the guest for a command to succeed. */
  const seen = async (what: string, command: string): Promise<void> => {
    const startedMs = performance.now();
    const { status, stderr } = await guest(
      `n=0; until ${command}; do n=$((n + 1)); test $n -lt 600 || exit 1; usleep 50000; done`,
    );
    t.equal(status, 0, `${what} ${stderr}`);
    t.comment(`${what}: ${Math.round(performance.now() - startedMs)} ms, a shell's start included`);
  };
  const git = (...argv: readonly string[]): string =>
    execFileSync('git', ['-c', 'user.name=Test', '-c', 'user.email=test@example.org', ...argv], {
      cwd: clone,
      env: cleanEnvironment(),
      encoding: 'utf8',
      stdio: 'pipe',
    });

  await t.test('by the command line: the name, and kernel settings, which come back when they are unset', async (t) => {
    const before = (await guest('cat /proc/sys/net/core/somaxconn')).stdout;
    await slipway.slipway('config', 'set', 'vm.hostname=by-cli', 'vm.sysctl=net.core.somaxconn=4321;vm.swappiness=7');
    await seen('set', 'test "$(hostname)" = by-cli -a "$(cat /proc/sys/vm/swappiness)" = 7');
    t.equal((await guest('cat /proc/sys/net/core/somaxconn; grep -c by-cli /etc/hosts')).stdout, '4321\n1\n');
    await slipway.slipway('config', 'set', 'vm.sysctl=vm.swappiness=8');
    await seen(
      'unset',
      `test "$(cat /proc/sys/net/core/somaxconn)" = ${before.trim()} -a "$(cat /proc/sys/vm/swappiness)" = 8`,
    );
    await slipway.slipway('config', 'revert', 'HEAD');
    await seen('reverted', 'test "$(cat /proc/sys/vm/swappiness)" = 7');
    const log = (): string => readFileSync(join(slipway.home, 'logs', 'vmm.log'), 'utf8');
    await slipway.slipway('config', 'set', 'vm.sysctl=vm.no_such_thing=1');
    await until('what the kernel refuses to be told', () => /vm\.no_such_thing cannot be set to '1'/.test(log()));
  });

  await t.test('by git push', async (t) => {
    git('clone', '--quiet', join(slipway.home, 'database'), '.');
    writeFileSync(join(clone, 'vm/hostname'), 'by-push\n');
    git('commit', '--quiet', '--all', '-m', 'By push');
    git('push', '--quiet');
    await seen('pushed', 'test "$(hostname)" = by-push');
    t.match(await slipway.slipway('config', 'log'), /By push/);
  });

  await t.test("by 9P, as DataKit has it: a transaction of a client of the host's", async (t) => {
    const { client, close } = await Client.connect(join(slipway.home, 'db.9p.sock'), '9P2000.L');
    await client.mkdir('branch/user/transactions', 'mine');
    await client.write('branch/user/transactions/mine/rw/vm/hostname', 'by-ninep\n');
    await client.write('branch/user/transactions/mine/msg', 'By 9P\n');
    await client.write('branch/user/transactions/mine/ctl', 'commit');
    close();
    await seen('committed', 'test "$(hostname)" = by-ninep');
    t.match(await slipway.slipway('config', 'log'), /By 9P/);
    t.equal(await slipway.slipway('config', 'diff'), '', 'what is set is in force');
  });

  await t.test('what the guest may not write, it does not', async (t) => {
    for (const path of ['branch/user/transactions/x', 'branch/state/transactions/x', 'branch/defaults/transactions/x'])
      t.equal((await guest(`mkdir /db/${path}`)).status, 1, path);
    t.equal((await guest('echo x > /Database/vm/hostname')).status, 1);
    t.equal((await guest('ls /db/remotes')).status, 1, 'nor are there remotes');
  });

  await t.test(
    "dockerd's own: what it takes while it runs, what it is started again for, what it refuses",
    async (t) => {
      const info = async (format: string): Promise<string> =>
        (await slipway.tryDocker(['info', '-f', format])).stdout.trim();
      const pid = async (): Promise<string> => (await guest('pidof dockerd')).stdout.trim();
      const first = await pid();
      await slipway.slipway('config', 'set', 'docker.daemonJson={"labels": ["slipway.test=1"]}');
      await until('the label', async () => (await info('{{.Labels}}')) === '[slipway.test=1]');
      t.equal(await pid(), first, 'without a restart');
      t.match(
        await info('{{.RegistryConfig.InsecureRegistryCIDRs}}'),
        /192\.168\.\d+\.2\/32/,
        "the host's registry stays",
      );
      const log = (): string => readFileSync(join(slipway.home, 'logs', 'vmm.log'), 'utf8');
      await slipway.slipway('config', 'set', 'docker.daemonJson={"no-such-key": true}');
      await until('the refusal', () => /docker\.daemonJson: dockerd refuses it: .*no-such-key/.test(log()));
      t.equal(await info('{{.Labels}}'), '[slipway.test=1]');
      await slipway.slipway('config', 'set', 'docker.daemonJson={"log-driver": "local", "log-opts": {}}');
      await until('another log driver', async () => (await info('{{.LoggingDriver}}')) === 'local');
      t.not(await pid(), first);
      await slipway.slipway('config', 'unset', 'docker.daemonJson');
      await until("the image's own", async () => (await info('{{.LoggingDriver}}')) === 'json-file');
    },
  );
});
