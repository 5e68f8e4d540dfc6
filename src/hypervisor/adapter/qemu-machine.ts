/**
 * One QEMU process, from its start to its end.
 *
 * State comes from QMP's events and from the process itself, never from what was asked of it:
 *
 *   starting --(QMP negotiated, query-status)--> running <--STOP/RESUME--> paused
 *   any --(shutdown, kill)--> stopping --(process gone)--> stopped
 *   any --(process gone unasked)--> stopped (the guest powered off or rebooted itself), else failed
 *
 * Why it ended is read from the SHUTDOWN event's reason, the guest's `panic` line and the console, the exit status and
 * QEMU's own last words. Timers: a command's answer (QmpClient), the guest's agent (2 s), the grace of an orderly
 * shutdown, QEMU's own quit (2 s) before SIGKILL. A full host disk (BLOCK_IO_ERROR with nospace) stops the guest's
 * clock, not its life: it is resumed as soon as there is room.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import type { Duplex, Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Accelerator, Machine, MachineStatus } from '../port.ts';
import type { Lifeline } from '../watchdog/lifeline.ts';
import { BootClock } from './boot-clock.ts';
import { askAgent, pingDocker } from './guest-agent.ts';
import type { GuestEvent } from './guest-events.ts';
import type { GuestLane } from './guest-lane.ts';
import { QMP_FD } from './qemu-arguments.ts';
import { QmpClient, type QmpEvent } from './qmp.ts';
import { lastLines, type RingFile } from './ring-file.ts';
import { StatusSubject } from './status-subject.ts';

const AGENT_MS = 2000;
const QUIT_MS = 2000;
const PING_MS = 100;
const SPACE_POLL_MS = 2000;
/** Free space at which a guest stopped by a full disk is let on. */
const SPACE_OCTETS = 64 << 20;
const STDERR_OCTETS = 4096;

type Ended = NonNullable<MachineStatus['ended']>;

export interface QemuMachineOptions {
  /** Program and arguments. */
  readonly command: readonly string[];
  readonly lifeline: Lifeline;
  readonly lane: GuestLane;
  readonly console: RingFile;
  /** A descriptor that QEMU inherits and holds while it lives: the disk's lock. */
  readonly heldFd: number;
  readonly accelerator: Accelerator;
  readonly acceleratorReason: string;
  readonly link: 'vhost-user' | 'stream';
  readonly linkReason?: string | undefined;
  /** Such as 'QEMU 10.0.13'. */
  readonly hypervisor: string;
  /** Octets free where the data disk lies. */
  readonly freeOctets: () => Promise<number>;
  readonly log: (line: string) => void;
}

export class QemuMachine implements Machine {
  readonly #options: QemuMachineOptions;
  readonly #status: StatusSubject;
  readonly #child: ChildProcess;
  readonly #qmp: QmpClient;
  readonly #untie: () => void;
  readonly #boot = new BootClock();
  readonly #startedAt = performance.now();
  readonly #signOfLife = Promise.withResolvers<void>();
  readonly #abort = new AbortController();
  #stderr = '';
  #spawnError: NodeJS.ErrnoException | undefined;
  #asked: 'shutdown' | 'kill' | undefined;
  #graceRanOut = false;
  #shutdownReason: string | undefined;
  #panic: string | undefined;
  #pinging = false;

  /** Starts QEMU; `launch` waits until it answers. */
  private constructor(options: QemuMachineOptions) {
    this.#options = options;
    this.#status = new StatusSubject({
      state: 'starting',
      accelerator: options.accelerator,
      acceleratorReason: options.acceleratorReason,
      channel: options.lane.channel,
      link: options.link,
      ...(options.linkReason !== undefined && { linkReason: options.linkReason }),
      hypervisor: options.hypervisor,
      startedAtMs: Date.now(),
      boot: {},
    });
    const [program = '', ...argv] = options.lifeline.wrap(options.command);
    const child = spawn(program, argv, { stdio: ['pipe', 'pipe', 'pipe', 'pipe', options.heldFd], cwd: '/' });
    this.#child = child;
    this.#qmp = new QmpClient(child.stdio[QMP_FD] as Duplex);
    this.#qmp.onEvent((event) => this.#onQmpEvent(event));
    child.stdin?.on('error', () => undefined);
    (child.stdout as Readable).on('data', (octets: Buffer) => {
      options.console.write(octets);
      this.#signOfLife.resolve();
    });
    (child.stderr as Readable).on('data', (octets: Buffer) => {
      const text = octets.toString('utf8');
      this.#stderr = (this.#stderr + text).slice(-STDERR_OCTETS);
      options.log(`qemu: ${lastLines(text, 20)}`);
    });
    child.on('error', (error) => {
      this.#spawnError = error;
      if (child.pid === undefined) this.#onEnd(null, null);
    });
    child.on('close', (code, signal) => this.#onEnd(code, signal));
    this.#untie = child.pid === undefined ? () => undefined : options.lifeline.attach(child);
    if (child.pid !== undefined) this.#status.set({ pid: child.pid });
  }

  /** Resolves when QEMU runs the guest; rejects, with nothing left behind, when it ended before. */
  static async launch(options: QemuMachineOptions): Promise<QemuMachine> {
    const machine = new QemuMachine(options);
    try {
      await machine.#qmp.negotiate();
      const answer = await machine.#qmp.execute('query-status');
      const running = (answer as { running?: unknown } | undefined)?.running === true;
      machine.#status.set({ state: running ? 'running' : 'paused' });
      return machine;
    } catch (error) {
      machine.#asked = undefined;
      machine.#child.kill('SIGKILL');
      const { reason } = await machine.#status.whenEnded();
      throw new Error(reason ?? String(error));
    }
  }

  status(): MachineStatus {
    return this.#status.current;
  }

  onStatus(listener: (status: MachineStatus) => void): () => void {
    return this.#status.subscribe(listener);
  }

  /** Resolves at the first console output or boot mark. */
  get signOfLife(): Promise<void> {
    return this.#signOfLife.promise;
  }

  /** Resolves with the final status once the process is gone. */
  whenEnded(): Promise<MachineStatus> {
    return this.#status.whenEnded();
  }

  console(): string {
    return this.#options.console.text();
  }

  async pause(): Promise<void> {
    this.#demand('running');
    this.#options.lane.hold(true);
    await this.#qmp.execute('stop');
  }

  async resume(): Promise<void> {
    this.#demand('paused');
    await this.#qmp.execute('cont');
    this.#options.lane.hold(false);
    // The guest's clock stood still meanwhile.
    const now = Date.now();
    const nanos = String((now % 1000) * 1_000_000).padStart(9, '0');
    await askAgent(this.#options.lane, `time ${Math.floor(now / 1000)}.${nanos}`, AGENT_MS).catch((error) =>
      this.#options.log(`the guest's clock was not set after the pause: ${(error as Error).message}`),
    );
  }

  async shutdown(graceMs: number): Promise<void> {
    if (this.#status.ended) return;
    if (this.#asked === undefined) {
      this.#asked = 'shutdown';
      const wasPaused = this.#status.current.state === 'paused';
      this.#status.set({ state: 'stopping' });
      this.#askGuestToPowerDown(wasPaused);
    }
    const grace = setTimeout(() => {
      this.#graceRanOut = true;
      void this.kill();
    }, graceMs);
    await this.#status.whenEnded();
    clearTimeout(grace);
  }

  async kill(): Promise<void> {
    if (this.#status.ended) return;
    if (this.#asked !== 'kill') {
      this.#asked = 'kill';
      this.#status.set({ state: 'stopping' });
      // QEMU's own quit leaves the disk's metadata tidy; whatever happens to it, the signal follows.
      const force = setTimeout(() => this.#child.kill('SIGKILL'), QUIT_MS);
      void this.#status.whenEnded().then(() => clearTimeout(force));
      this.#qmp.execute('quit').catch(() => this.#child.kill('SIGKILL'));
    }
    await this.#status.whenEnded();
  }

  /** Takes what the guest told on its event stream. */
  guestEvent(event: GuestEvent): void {
    if (event.kind === 'mark') {
      this.#signOfLife.resolve();
      this.#boot.guestMark(event.name, event.seconds, this.#sinceStart());
      this.#status.set({ boot: this.#boot.marks() });
      if (!this.#pinging) void this.#awaitDocker();
      this.#pinging = true;
    } else {
      this.#options.log(`guest: ${event.kind} ${event.text}`);
      if (event.kind === 'panic') this.#panic ??= event.text;
    }
  }

  #sinceStart(): number {
    return (performance.now() - this.#startedAt) / 1000;
  }

  #demand(state: 'running' | 'paused'): void {
    const now = this.#status.current.state;
    if (now !== state) throw new Error(`the machine is ${now}, not ${state}`);
  }

  async #awaitDocker(): Promise<void> {
    const { signal } = this.#abort;
    while (!(await pingDocker(this.#options.lane, AGENT_MS))) {
      if (signal.aborted) return;
      await sleep(PING_MS, undefined, { ref: false });
    }
    this.#boot.hostMark('dockerd', this.#sinceStart());
    this.#status.set({ boot: this.#boot.marks() });
  }

  async #askGuestToPowerDown(wasPaused: boolean): Promise<void> {
    try {
      if (wasPaused) await this.#qmp.execute('cont');
      this.#options.lane.hold(false);
      await askAgent(this.#options.lane, 'poweroff', AGENT_MS);
    } catch (error) {
      this.#options.log(`no agent in the guest (${(error as Error).message}): pressing the power button`);
      await this.#qmp.execute('system_powerdown').catch(() => undefined);
    }
  }

  #onQmpEvent({ name, data }: QmpEvent): void {
    if (name === 'STOP' && this.#asked === undefined) this.#status.set({ state: 'paused' });
    else if (name === 'RESUME' && this.#asked === undefined) this.#resumed();
    else if (name === 'SHUTDOWN') this.#shutdownReason = String(data.reason);
    else if (name === 'BLOCK_IO_ERROR' && data.nospace === true && data.action === 'stop') this.#awaitSpace();
  }

  #resumed(): void {
    const { reason: _, ...status } = this.#status.current;
    if (!this.#status.ended) this.#status.replace({ ...status, state: 'running' });
  }

  /** The host's disk is full: QEMU has stopped the guest; lets it on when there is room. */
  #awaitSpace(): void {
    this.#status.set({ reason: 'the host has no disk space left; free some and the machine goes on by itself' });
    const timer = setInterval(async () => {
      if (this.#status.ended || this.#status.current.state === 'running') clearInterval(timer);
      else if ((await this.#options.freeOctets().catch(() => 0)) >= SPACE_OCTETS)
        await this.#qmp.execute('cont').catch(() => undefined);
    }, SPACE_POLL_MS);
    timer.unref();
  }

  #onEnd(code: number | null, signal: NodeJS.Signals | null): void {
    if (this.#status.ended) return;
    this.#qmp.close();
    this.#untie();
    this.#abort.abort();
    this.#options.lane.close();
    const { reason: _, ...status } = this.#status.current;
    const end = this.#end(code, signal, status);
    this.#options.log(`the machine ended: ${end.ended}${end.reason ? `, ${end.reason}` : ''}`);
    this.#status.replace({ ...status, ...end });
  }

  #end(
    code: number | null,
    signal: NodeJS.Signals | null,
    status: MachineStatus,
  ): Pick<MachineStatus, 'state' | 'ended' | 'reason'> {
    const stopped = (ended: Ended, reason?: string) =>
      ({ state: 'stopped', ended, ...(reason && { reason }) }) as const;
    const failed = (ended: Ended, reason: string) => ({ state: 'failed', ended, reason }) as const;
    if (this.#graceRanOut) return stopped('asked', 'the guest did not power down in time and was ended');
    if (this.#asked === 'kill' || (this.#asked === 'shutdown' && code === 0)) return stopped('asked');
    if (this.#spawnError?.code === 'ENOENT')
      return failed('lost', 'QEMU is missing; install it (Debian: apt install qemu-system-x86)');
    if (this.#spawnError) return failed('lost', `QEMU cannot be started: ${this.#spawnError.message}`);
    if (code === 0 && this.#shutdownReason === 'guest-shutdown') {
      // A guest that gives up its boot says why on its way out.
      const words = this.#panic ?? ('dockerd' in status.boot ? '' : lastLines(this.console(), 2));
      return stopped('poweroff', `the guest powered off${words && `: ${words}`}`);
    }
    if (code === 0 && this.#shutdownReason?.startsWith('guest-')) {
      const panic = this.#panic ?? panicOnConsole(this.console());
      if (panic) return failed('panic', `the guest's kernel panicked: ${panic}; 'slipway logs' has its console`);
      return stopped('reboot', 'the guest rebooted');
    }
    const how = signal ? `was ended by ${signal}` : `ended with status ${code}`;
    const words = lastLines(this.#stderr, 3) || lastLines(this.console(), 3);
    return failed('lost', `QEMU ${how}${words ? `: ${words}` : ''}${remedy(this.#stderr)}`);
  }
}

function panicOnConsole(console: string): string | undefined {
  const match = /Kernel panic - not syncing: ([^\r\n]{1,200})/.exec(console);
  return match?.[1]?.replace(/\p{C}/gu, ' ').trim();
}

/** What to do about the complaints of QEMU's that a user can meet. */
function remedy(stderr: string): string {
  if (/cannot allocate|cannot set up guest memory|Failed to allocate|Address space limit/i.test(stderr))
    return '; lower the setting vm.memory';
  if (/Failed to get .* lock/.test(stderr)) return '; another QEMU has the data disk open';
  if (/Could not access KVM|failed to initialize kvm|HV_|whpx/i.test(stderr)) return '; set vm.accelerator to tcg';
  if (/No space left on device/.test(stderr)) return '; free some disk space';
  return '';
}
