/**
 * A hypervisor without a hypervisor, for tests of what stands on one: its machines keep the port's rules, and a test
 * plays the guest (`mark`, `print`, `powerOff`, `reboot`, `panic`) and the accident (`crash`).
 */

import type { HypervisorPort, Machine, MachineSpec, MachineStatus } from '../port.ts';
import { StatusSubject } from './status-subject.ts';

export class FakeHypervisor implements HypervisorPort {
  readonly name = 'fake';
  /** Every machine started, in order. */
  readonly machines: FakeMachine[] = [];
  /** The next starts reject with it. */
  refusal: string | undefined;
  readonly #nowMs: () => number;

  constructor(nowMs: () => number = () => 0) {
    this.#nowMs = nowMs;
  }

  /** The machine that runs, for a host that is attached to. */
  attach(): Promise<FakeMachine | undefined> {
    return Promise.resolve(this.machines.find((machine) => !machine.ended));
  }

  start(spec: MachineSpec): Promise<FakeMachine> {
    if (this.refusal !== undefined) return Promise.reject(new Error(this.refusal));
    const { path } = spec.dataDisk;
    if (this.machines.some((machine) => !machine.ended && machine.spec.dataDisk.path === path))
      return Promise.reject(new Error(`the data disk ${path} is in use by another machine`));
    const machine = new FakeMachine(spec, this.#nowMs());
    this.machines.push(machine);
    return Promise.resolve(machine);
  }
}

export class FakeMachine implements Machine {
  readonly spec: MachineSpec;
  /** Whether the guest heeds an orderly shutdown. */
  obedient = true;
  readonly #status: StatusSubject;
  #console = '';

  constructor(spec: MachineSpec, startedAtMs: number) {
    this.spec = spec;
    this.#status = new StatusSubject({
      state: 'running',
      accelerator: spec.accelerator === 'auto' ? 'tcg' : spec.accelerator,
      acceleratorReason: 'a fake has no processor',
      channel: spec.channel === 'auto' ? 'vsock' : spec.channel,
      hypervisor: 'fake',
      pid: 1,
      startedAtMs,
      boot: {},
    });
  }

  get ended(): boolean {
    return this.#status.ended;
  }

  status(): MachineStatus {
    return this.#status.current;
  }

  onStatus(listener: (status: MachineStatus) => void): () => void {
    return this.#status.subscribe(listener);
  }

  async pause(): Promise<void> {
    this.#demand('running');
    this.#status.set({ state: 'paused' });
  }

  async resume(): Promise<void> {
    this.#demand('paused');
    this.#status.set({ state: 'running' });
  }

  async shutdown(_graceMs: number): Promise<void> {
    this.#status.set({ state: 'stopping' });
    const reason = 'the guest did not power down in time and was ended';
    this.#status.set({ state: 'stopped', ended: 'asked', ...(!this.obedient && { reason }) });
  }

  async kill(): Promise<void> {
    this.#status.set({ state: 'stopping' });
    this.#status.set({ state: 'stopped', ended: 'asked' });
  }

  console(): string {
    return this.#console;
  }

  /** The guest has reached a step of its boot. */
  mark(name: string, seconds: number): void {
    this.#status.set({ boot: { ...this.#status.current.boot, [name]: seconds } });
  }

  /** The guest writes to its console. */
  print(text: string): void {
    this.#console = (this.#console + text).slice(-65_536);
  }

  powerOff(): void {
    this.#status.set({ state: 'stopped', ended: 'poweroff', reason: 'the guest powered off' });
  }

  reboot(): void {
    this.#status.set({ state: 'stopped', ended: 'reboot', reason: 'the guest rebooted' });
  }

  panic(words: string): void {
    this.#status.set({ state: 'failed', ended: 'panic', reason: `the guest's kernel panicked: ${words}` });
  }

  /** The hypervisor's process ends by accident. */
  crash(reason: string): void {
    this.#status.set({ state: 'failed', ended: 'lost', reason });
  }

  #demand(state: 'running' | 'paused'): void {
    const now = this.#status.current.state;
    if (now !== state) throw new Error(`the machine is ${now}, not ${state}`);
  }
}
