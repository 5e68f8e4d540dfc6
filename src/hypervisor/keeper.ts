/**
 * Keeps one machine running: attaches to the one that runs or starts one, and starts it again after its guest panicked
 * or rebooted. A machine that ends otherwise (powered off in the guest, its process killed) stays down and says why:
 * starting it again is then the user's decision.
 *
 * Restarts are bounded: `RESTARTS` within `WINDOW_MS`, so that a guest that cannot boot does not spin.
 *
 * Events: `open`, `start`, `stop`, `pause`, `resume`, the machine's status. No timers.
 */

import { BehaviorSubject, type Observable } from 'rxjs';
import type { Machine, MachineSpec, MachineStatus } from './port.ts';

const RESTARTS = 5;
const WINDOW_MS = 10 * 60_000;

/** Where machines run: a process apart that outlives us, or a fake. */
export interface MachineHost {
  /** The machine that runs already; undefined when there is none. */
  attach(): Promise<Machine | undefined>;
  start(spec: MachineSpec): Promise<Machine>;
}

const stopped: MachineStatus = { state: 'stopped', boot: {} };

export class MachineKeeper {
  /** How often the machine was started again by itself. */
  restarts = 0;
  readonly #host: MachineHost;
  readonly #specify: () => MachineSpec;
  readonly #nowMs: () => number;
  readonly #log: (line: string) => void;
  readonly #status = new BehaviorSubject<MachineStatus>(stopped);
  #machine: Machine | undefined;
  #unsubscribe: () => void = () => undefined;
  #recent: number[] = [];
  /** Ours to start again when it ends; off while it is being stopped. */
  #kept = false;

  constructor(host: MachineHost, specify: () => MachineSpec, nowMs: () => number, log: (line: string) => void) {
    this.#host = host;
    this.#specify = specify;
    this.#nowMs = nowMs;
    this.#log = log;
  }

  get status(): MachineStatus {
    return this.#status.value;
  }

  /** The status now, then at each change. */
  get changes(): Observable<MachineStatus> {
    return this.#status;
  }

  /** Takes over the machine that runs; false when there is none. */
  async attach(): Promise<boolean> {
    const machine = await this.#host.attach();
    if (!machine) return false;
    this.#log('attached to the running VM');
    this.#adopt(machine);
    return true;
  }

  /** Starts the machine; rejects, and the status says why, when it cannot. */
  async start(): Promise<void> {
    this.#status.next({ state: 'starting', boot: {} });
    try {
      this.#adopt(await this.#host.start(this.#specify()));
    } catch (error) {
      this.#status.next({ state: 'failed', reason: (error as Error).message, boot: {} });
      throw error;
    }
  }

  async stop(graceMs: number): Promise<void> {
    this.#kept = false;
    await this.#machine?.shutdown(graceMs);
    this.#drop();
    this.#status.next(stopped);
  }

  async pause(): Promise<void> {
    await this.#machine?.pause();
  }

  async resume(): Promise<void> {
    await this.#machine?.resume();
  }

  /** Lets go of the machine, which runs on. */
  release(): void {
    this.#kept = false;
    this.#drop();
    this.#status.complete();
  }

  #adopt(machine: Machine): void {
    this.#drop();
    this.#machine = machine;
    this.#kept = true;
    this.#unsubscribe = machine.onStatus((status) => this.#follow(machine, status));
    this.#follow(machine, machine.status());
  }

  #drop(): void {
    this.#unsubscribe();
    this.#unsubscribe = () => undefined;
    this.#machine = undefined;
  }

  #follow(machine: Machine, status: MachineStatus): void {
    if (machine !== this.#machine) return;
    const over = status.state === 'stopped' || status.state === 'failed';
    if (over && this.#kept) void this.#over(machine, status);
    else this.#status.next(status);
  }

  /** The machine ended, and not because we asked. */
  async #over(machine: Machine, status: MachineStatus): Promise<void> {
    this.#kept = false;
    this.#drop();
    this.#log(`the VM ended: ${status.ended ?? status.state}${status.reason ? `, ${status.reason}` : ''}`);
    if (status.ended !== 'panic' && status.ended !== 'reboot') {
      this.#status.next(status);
      return;
    }
    const tooOften = this.#tooOften();
    if (tooOften) {
      this.#status.next({ ...status, state: 'failed', reason: [status.reason, tooOften].filter(Boolean).join('; ') });
      return;
    }
    this.restarts++;
    this.#log('starting it again');
    this.#status.next({ state: 'starting', boot: {} });
    try {
      // It has ended: this waits until it has put everything away.
      await machine.shutdown(0);
      await this.start();
    } catch (error) {
      this.#log(`cannot start it again: ${(error as Error).message}`);
    }
  }

  /** Counts a restart, or says why there is none. */
  #tooOften(): string | undefined {
    const since = this.#nowMs() - WINDOW_MS;
    this.#recent = this.#recent.filter((at) => at > since);
    if (this.#recent.length === RESTARTS)
      return `it has been started again ${RESTARTS} times within ${WINDOW_MS / 60_000} minutes; see 'slipway logs console'`;
    this.#recent.push(this.#nowMs());
    return undefined;
  }
}
