/**
 * Starting, awaiting and stopping an instance from the command line: what the VM needs is brought first, then the
 * daemon is started in a session of its own, and its status followed until Docker answers.
 */

import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, rmSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { PlatformStatus } from '../api/port.ts';
import { type Home, makeHome } from '../home.ts';
import { VmmHost, type VmmMachine } from '../hypervisor/vmm-client.ts';
import { type ApiClient, withApi } from './api-client.ts';
import { prepare } from './prepare.ts';
import { Progress } from './progress.ts';

/** Docker answers within 20 s of a cold start under emulation; much later than that something is wrong. */
const READY_MS = 180_000;
/** Time for the guest to stop its containers and power down. */
const GRACE_MS = 30_000;
const DAEMON_MS = 20_000;
const POLL_MS = 100;

/** Brings the instance up and waits until Docker answers; says whether it was up before. */
export async function startInstance(home: Home): Promise<{ status: PlatformStatus; wasUp: boolean }> {
  const progress = new Progress();
  makeHome(home);
  return withApi(home, async (api) => {
    const before = await settled(api, progress);
    if (before?.state === 'running' && before.docker.ready) return { status: before, wasUp: true };
    if (before?.state === 'paused') await api.post('/v1/resume');
    if (!before || before.state === 'failed' || before.state === 'stopped') {
      await prepare(progress);
      if (before) await stopInstance(home);
      await progress.step('Starting the daemon', () => startDaemon(home, api));
    }
    const status = await progress.step('Starting the VM', () => untilReady(api, progress));
    return { status, wasUp: false };
  });
}

/** Stops the VM in order, then the daemon; false when nothing ran. */
export async function stopInstance(home: Home): Promise<boolean> {
  const progress = new Progress();
  return withApi(home, async (api) => {
    const status = await api.statusIfRunning();
    if (!status) return stopOrphan(home, progress);
    await progress.step('Stopping', async () => {
      await api.post('/v1/shutdown');
      for (const pid of Object.values(status.pids)) while (alive(pid)) await sleep(POLL_MS / 2);
    });
    return true;
  });
}

/** A VM that runs though its daemon was killed. */
export async function attachOrphan(home: Home): Promise<VmmMachine | undefined> {
  return new VmmHost({ paths: home, tools: () => Promise.reject(new Error('nothing is started here')) }).attach();
}

async function stopOrphan(home: Home, progress: Progress): Promise<boolean> {
  const machine = await attachOrphan(home);
  if (!machine) return false;
  await progress.step('Stopping the VM, whose daemon is gone', () => machine.shutdown(GRACE_MS));
  return true;
}

/** The instance's status, once it is not stopping any more; undefined when no daemon runs. */
async function settled(api: ApiClient, progress: Progress): Promise<PlatformStatus | undefined> {
  const status = await api.statusIfRunning();
  if (status?.state !== 'stopping') return status;
  return progress.step('Waiting for the instance to stop', async () => {
    for (;;) {
      const now = await api.statusIfRunning();
      if (now?.state !== 'stopping') return now;
      await sleep(POLL_MS);
    }
  });
}

async function startDaemon(home: Home, api: ApiClient): Promise<void> {
  rmSync(home.crashLog, { force: true });
  const crash = openSync(home.crashLog, 'ax', 0o600);
  const main = fileURLToPath(new URL(import.meta.url.endsWith('.ts') ? './main.ts' : './main.js', import.meta.url));
  const daemon = spawn(process.execPath, [main, 'daemon'], {
    cwd: '/',
    detached: true,
    env: { ...process.env, SLIPWAY_HOME: home.directory },
    stdio: ['ignore', crash, crash],
  });
  closeSync(crash);
  let ended = false;
  daemon.once('error', () => (ended = true));
  daemon.once('exit', () => (ended = true));
  const deadline = performance.now() + DAEMON_MS;
  // A daemon that fails while it starts resets the connection.
  while (!(await api.statusIfRunning().catch(() => undefined))) {
    if (ended) throw new Error(lastWords(home));
    if (performance.now() > deadline)
      throw new Error(`the daemon (process ${daemon.pid}) does not answer; see 'slipway logs slipway'`);
    await sleep(POLL_MS / 2);
  }
  daemon.unref();
}

/** Why the daemon ended: what it printed last. */
function lastWords(home: Home): string {
  const text = existsSync(home.crashLog) ? readFileSync(home.crashLog, 'utf8').trim() : '';
  const line = text
    .split('\n')
    .at(-1)
    ?.replace(/^slipway: /, '');
  return line || `the daemon ended at once; see 'slipway logs slipway'`;
}

async function untilReady(api: ApiClient, progress: Progress): Promise<PlatformStatus> {
  const deadline = performance.now() + READY_MS;
  for (;;) {
    const status = await api.status();
    if (status.state === 'running' && status.docker.ready) return status;
    if (status.state === 'failed' || status.state === 'stopped')
      throw new Error(status.reason ?? "the VM ended; see 'slipway logs'");
    if (performance.now() > deadline)
      throw new Error(`Docker does not answer after ${READY_MS / 1000} s; see 'slipway logs' and 'slipway status'`);
    progress.detail(latestStep(status));
    await sleep(POLL_MS);
  }
}

function latestStep({ state, boot }: PlatformStatus): string {
  const [step] = Object.entries(boot).sort((a, b) => b[1] - a[1]);
  return step ? `${step[0]} after ${step[1].toFixed(1)} s` : state === 'running' ? 'booting' : state;
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  try {
    // One that has ended and that its new parent has not yet taken note of.
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return process.platform !== 'linux';
  }
}
