/**
 * One instance of Slipway as a test's subject. `npm test` starts a VM and names it in SLIPWAY_HOME; a file run alone
 * brings up a VM of its own and takes it down. Docker's client runs with a configuration of its own (DOCKER_CONFIG),
 * so the user's contexts are never touched.
 */

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import t, { type Test } from 'tap';
import { putDockerClients } from './docker-clients.ts';
import { cleanEnvironment, type Outcome, Running, run } from './programs.ts';

const launcher = join(import.meta.dirname, '../../bin/slipway');

/** Bounds a file that is stuck outside any deadline of its own. */
const FILE_MS = 600_000;

export class Instance {
  readonly home: string;
  readonly env: NodeJS.ProcessEnv;

  private constructor(home: string, env: NodeJS.ProcessEnv) {
    this.home = home;
    this.env = env;
  }

  static async at(home: string): Promise<Instance> {
    const { DOCKER_HOST: _host, DOCKER_CONTEXT: _context, ...env } = cleanEnvironment();
    const clients = join(home, 'clients');
    await putDockerClients(clients, env);
    return new Instance(home, {
      ...env,
      PATH: `${clients}:${env.PATH}`,
      SLIPWAY_HOME: home,
      DOCKER_CONFIG: dockerConfig(home),
      DOCKER_BUILDKIT: '0',
    });
  }

  get dockerSocket(): string {
    return join(this.home, 'docker.sock');
  }

  /** Runs `slipway ARGV`; throws with its words unless it exits 0. */
  async slipway(...argv: readonly string[]): Promise<string> {
    return succeed(['slipway', ...argv], await this.trySlipway(...argv));
  }

  trySlipway(...argv: readonly string[]): Promise<Outcome> {
    return run(launcher, argv, this.env);
  }

  /** `slipway status --json`. */
  async status(): Promise<Record<string, unknown>> {
    return JSON.parse(await this.slipway('status', '--json')) as Record<string, unknown>;
  }

  /** Runs `docker --context slipway ARGV`; throws with its words unless it exits 0. */
  async docker(...argv: readonly string[]): Promise<string> {
    return succeed(['docker', ...argv], await this.tryDocker(argv));
  }

  tryDocker(argv: readonly string[], input?: string | Uint8Array): Promise<Outcome> {
    return run('docker', ['--context', 'slipway', ...argv], this.env, input);
  }

  /** The same client through DOCKER_HOST, without the context. */
  async dockerByHost(...argv: readonly string[]): Promise<string> {
    const env = { ...this.env, DOCKER_HOST: `unix://${this.dockerSocket}` };
    return succeed(['docker', ...argv], await run('docker', argv, env));
  }

  /** Runs `docker-buildx ARGV`: BuildKit, whose session travels by the same socket. */
  async buildx(...argv: readonly string[]): Promise<string> {
    const env = { ...this.env, DOCKER_HOST: `unix://${this.dockerSocket}` };
    return succeed(['docker-buildx', ...argv], await run('docker-buildx', argv, env));
  }

  /** `docker --context slipway ARGV`, left running. */
  startDocker(...argv: readonly string[]): Running {
    return new Running('docker', ['--context', 'slipway', ...argv], this.env);
  }

  /** The same with its stdout left for the caller to read, or not. */
  spawnDocker(...argv: readonly string[]): ChildProcessByStdio<null, Readable, null> {
    return spawn('docker', ['--context', 'slipway', ...argv], { env: this.env, stdio: ['ignore', 'pipe', 'inherit'] });
  }

  /** The command line of `docker --context slipway ARGV`, for a shell. */
  dockerCommand(...argv: readonly string[]): string {
    return ['docker', '--context', 'slipway', ...argv].map((word) => `'${word}'`).join(' ');
  }

  slipwayCommand(...argv: readonly string[]): string {
    return [launcher, ...argv].map((word) => `'${word}'`).join(' ');
  }

  /** Removes containers, running or not, and their anonymous volumes. */
  async remove(...names: readonly string[]): Promise<void> {
    await this.tryDocker(['rm', '-fv', ...names]);
  }

  /** Process ids that belong to this home (its path is in their arguments or environment), by the program's name. */
  processes(): Map<number, string> {
    const found = new Map<number, string>();
    for (const name of readdirSync('/proc')) {
      const pid = Number(name);
      if (!(pid > 0) || pid === process.pid || pid === process.ppid) continue;
      try {
        const text = (file: string): string => readFileSync(`/proc/${pid}/${file}`, 'latin1');
        const environment = text('environ').split('\0');
        const argv = text('cmdline').split('\0');
        const ours = environment.includes(`SLIPWAY_HOME=${this.home}`) || argv.some((word) => word.includes(this.home));
        if (ours) found.set(pid, argv.join(' '));
      } catch {
        // The process has ended, or is not ours to read.
      }
    }
    return found;
  }

  /** The one process of this home whose command line or program matches. */
  process(pattern: RegExp): number | undefined {
    for (const [pid, argv] of this.processes()) {
      if (pattern.test(argv) || pattern.test(programOf(pid))) return pid;
    }
    return undefined;
  }
}

/** Resident memory of a process, in octets. */
export function residentOctets(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))![1]) * 1024;
}

/**
 * A file's tests, given the instance that SLIPWAY_HOME names, up and answering; without one, an instance of their own.
 * They are one test with parts, as tap ends a file's root when it waits for something outside a test.
 */
export function withInstance(name: string, tests: (t: Test, instance: Instance) => Promise<void>): void {
  t.setTimeout(FILE_MS);
  t.test(name, async (t) => {
    t.setTimeout(FILE_MS);
    const given = process.env.SLIPWAY_HOME;
    const instance = await (given === undefined ? makeInstance(t) : Instance.at(given));
    await instance.slipway('up');
    await tests(t, instance);
  });
}

/** An instance in a fresh home with `settings`, not up yet; it goes when the test ends. */
export async function makeInstance(t: Test, settings: Readonly<Record<string, string>> = {}): Promise<Instance> {
  const home = mkdtempSync(join(tmpdir(), 'slipway-vm-'));
  const instance = await Instance.at(home);
  if (Object.keys(settings).length > 0) writeFileSync(join(home, 'settings.json'), JSON.stringify(settings));
  t.teardown(async () => {
    await instance.trySlipway('down');
    rmSync(home, { recursive: true, force: true });
  });
  return instance;
}

function dockerConfig(home: string): string {
  return join(home, 'docker-config');
}

function programOf(pid: number): string {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return '';
  }
}

function succeed(words: readonly string[], { status, stdout, stderr }: Outcome): string {
  if (status !== 0) throw new Error(`${words.join(' ')}: exit ${status}: ${stderr || stdout}`);
  return stdout;
}
