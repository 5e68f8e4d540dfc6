/** An instance through what happens to it: asked twice, its processes killed, its VM replaced. Its containers and data stay. */

import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { exchange, freePort, listeners } from './host-ports.ts';
import { busybox, importBusybox } from './images.ts';
import { type Instance, withInstance } from './instance.ts';
import { Running, until } from './programs.ts';

const bootSteps = ['kernel', 'initramfs', 'init', 'network', 'disk', 'containerd', 'dockerd'];

withInstance('lifecycle', async (t, slipway) => {
  t.teardown(async () => {
    await slipway.remove('life');
    await slipway.tryDocker(['volume', 'rm', '-f', 'life']);
  });
  await importBusybox(slipway);
  const port = await freePort();
  const run = [
    'run',
    '-d',
    '--name',
    'life',
    '--restart',
    'always',
    '--stop-signal',
    'KILL',
    '-v',
    'life:/kept',
    '-p',
    `${port}:7`,
  ];
  await slipway.docker(...run, busybox, 'sh', '-c', 'echo persistent > /kept/file; exec peer 7');

  await t.test('up again finds it running', async (t) => {
    const before = await pids(slipway);
    t.match(await slipway.slipway('up'), /running/);
    t.same(await pids(slipway), before, 'the processes are the same');
  });

  await t.test('status tells where the boot time went', async (t) => {
    const { state, docker, boot, accelerator, acceleratorReason, network } = await slipway.status();
    t.match({ state, docker }, { state: 'running', docker: { ready: true } });
    t.match(network, { connected: true, link: 'vhost-user', mtu: 1500 });
    t.match(accelerator, /^(kvm|hvf|tcg)$/);
    t.type(acceleratorReason, 'string');
    const seconds = boot as Record<string, number>;
    for (const step of bootSteps) t.ok(seconds[step]! > 0, `${step} ${seconds[step]}`);
    const order = ['kernel', 'initramfs', 'init', 'dockerd'].map((step) => seconds[step]!);
    t.same(
      [...order].sort((a, b) => a - b),
      order,
      'in order',
    );
  });

  await t.test("a root shell on a terminal, with the size of the user's", async (t) => {
    const shell = `stty rows 31 cols 97; ${slipway.slipwayCommand('shell')}`;
    const terminal = new Running('script', ['-qec', shell, '/dev/null'], slipway.env);
    t.teardown(() => terminal.child.kill());
    await terminal.says(/[#$] /);
    terminal.write('echo $(id -u) $(stty size) $(tty); touch /root/marker; exit\n');
    await terminal.says(/0 31 97 \/dev\/pts\/\d/);
    await terminal.ended;
  });

  await t.test('logs has a component each for what runs on the host and in the guest', async (t) => {
    t.match(await slipway.slipway('logs', 'slipway'), /publishing: EXPOSE tcp/);
    t.match(await slipway.slipway('logs', 'vmm'), /\S/);
    t.match(await slipway.slipway('logs', 'dockerd'), /API listen/);
    await slipway.slipway('shell', 'echo said on the console > /dev/console');
    await until('the console to say it', async () =>
      (await slipway.slipway('logs', 'console')).includes('said on the'),
    );
    t.pass('console');
  });

  await t.test(
    'docker.sock answers while the network is dead; up brings ports back, containers never stopped',
    async (t) => {
      const started = await startedAt(slipway);
      const { slipway: daemon, hypervisor } = await pids(slipway);
      process.kill(daemon!, 'SIGKILL');
      await until('the listener to go with the process', () => listeners('tcp', port).length === 0);
      t.equal(await startedAt(slipway), started, 'docker.sock answers');
      t.equal((await slipway.tryDocker(['exec', 'life', 'cat', '/kept/file'])).stdout, 'persistent\n', 'with streams');
      await slipway.slipway('up');
      await until('the published port to come back', () => listeners('tcp', port).length === 2);
      t.equal(await echoed(port), 'hello', 'and its data path');
      t.equal(await startedAt(slipway), started, 'the container never stopped');
      t.equal((await pids(slipway)).hypervisor, hypervisor, 'nor did the VM');
    },
  );

  await t.test('streams, flows and Docker outlive a pause', async (t) => {
    const exec = slipway.startDocker('exec', '-i', 'life', 'cat');
    exec.write('before ');
    await exec.says(/before /);
    const socket = connect(port, '127.0.0.1');
    t.teardown(() => socket.destroy());
    let heard = '';
    socket.on('data', (octets) => {
      heard += octets;
    });
    socket.write('echo\nbefore ');
    await until('the echo', () => heard === 'before ');
    await slipway.slipway('pause');
    t.equal((await slipway.status()).state, 'paused');
    socket.write('meanwhile ');
    exec.write('meanwhile ');
    await slipway.slipway('resume');
    t.match(await slipway.status(), { state: 'running', docker: { ready: true } });
    await until('the echo of what was sent meanwhile', () => heard === 'before meanwhile ');
    exec.child.stdin.end('after');
    t.equal((await exec.ended).stdout, 'before meanwhile after');
    t.not(await startedAt(slipway), '', 'Docker answers');
  });

  await t.test('kill -9 of slipway-vmm leaves no VM; up starts a fresh one on the old data', async (t) => {
    const { vmm, hypervisor } = await pids(slipway);
    const image = await slipway.docker('image', 'inspect', '-f', '{{.Id}}', busybox);
    process.kill(vmm!, 'SIGKILL');
    await until('QEMU to end', () => !existsSync(`/proc/${hypervisor}`));
    await slipway.slipway('up');
    t.not((await pids(slipway)).hypervisor, hypervisor);
    t.equal(await slipway.docker('image', 'inspect', '-f', '{{.Id}}', busybox), image, 'the image is there');
    await until('the container to restart', async () => (await startedAt(slipway)) !== '');
    t.equal(await slipway.docker('exec', 'life', 'cat', '/kept/file'), 'persistent\n', 'the volume is there');
    await until('the published port to come back', () => listeners('tcp', port).length === 2);
    t.equal(await echoed(port), 'hello');
    t.equal((await slipway.trySlipway('shell', 'test ! -e /root/marker')).status, 0, 'the root is new');
  });

  await t.test('a kernel panic: the VM starts again by itself', async (t) => {
    const { hypervisor } = await pids(slipway);
    await slipway.trySlipway('shell', 'echo c > /proc/sysrq-trigger');
    await until('a new VM with Docker', async () => {
      const { docker, restarts } = await slipway.status();
      return restarts === 1 && (docker as { ready: boolean }).ready;
    });
    t.not((await pids(slipway)).hypervisor, hypervisor);
    await until('the published port to come back', () => listeners('tcp', port).length === 2);
    t.equal(await slipway.docker('exec', 'life', 'cat', '/kept/file'), 'persistent\n');
  });
});

async function pids(slipway: Instance): Promise<Record<string, number>> {
  return (await slipway.status()).pids as Record<string, number>;
}

async function startedAt(slipway: Instance): Promise<string> {
  return (await slipway.docker('inspect', '-f', '{{if .State.Running}}{{.State.StartedAt}}{{end}}', 'life')).trim();
}

/** What comes back of `hello`. */
async function echoed(port: number): Promise<string> {
  return (await exchange('127.0.0.1', port, 'echo\nhello')).toString();
}
