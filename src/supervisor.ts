/**
 * The running platform: a machine kept (hypervisor/keeper), its network core, its published ports and whether Docker
 * answers, as one status. Operations that change the machine run one at a time.
 *
 * Settings that ask for a restart of the VM are those of the machine's start, the rest are current: `inForce` says
 * which. They are handed to whoever can store them, so that a daemon that attaches to a running VM knows them.
 */

import { BehaviorSubject, map, merge, type Observable, ReplaySubject, Subject, type Subscription } from 'rxjs';
import { type PlatformPort, type PlatformStatus, StateError } from './api/port.ts';
import type { SettingsPort } from './config/port.ts';
import { type Settings, schema, settingNames } from './config/schema.ts';
import { type MachineHost, MachineKeeper } from './hypervisor/keeper.ts';
import type { MachineSpec, MachineStatus } from './hypervisor/port.ts';
import { type PortExposer, PublishedPorts, type PublishRules } from './proxy/published-ports.ts';
import type { Capture } from './stack/link/capture.ts';
import type { FlowRecord } from './stack/port.ts';

/** Time for the guest to stop its containers and power down. */
const GRACE_MS = 30_000;
const RETRY_MS = 50;

/** The network core, as the platform uses it. */
export interface NetworkCore extends PortExposer {
  /** Whether the guest's link is up. */
  readonly connected: boolean;
  flows(): readonly FlowRecord[];
  drops(): Readonly<Record<string, number>>;
  capture: PlatformPort['capture'];
  dns: PlatformPort['dns'];
  addressesOf: PlatformPort['addressesOf'];
  policy: PlatformPort['policy'];
  checkPolicy: PlatformPort['checkPolicy'];
  /** Takes over the settings that need no restart. */
  apply(settings: Settings): void;
  close(): void;
}

export interface DockerReadiness {
  readonly state: { readonly ready: boolean; readonly version?: string };
  readonly changes: Observable<unknown>;
  start(): void;
  stop(): void;
}

/** The guest's networks, as they were chosen; `subnet6` may be `off`. */
export interface Subnets {
  readonly subnet: string;
  readonly subnet6: string;
}

/** What a machine runs with. */
export interface InForce extends Subnets {
  /** Of its start where a change asks for a restart, current otherwise. */
  readonly settings: Settings;
}

export interface SupervisorParts {
  readonly settings: SettingsPort;
  readonly machines: MachineHost;
  readonly docker: DockerReadiness;
  readonly specify: (inForce: InForce) => MachineSpec;
  readonly openNetwork: (inForce: InForce) => NetworkCore;
  readonly publishRules: (inForce: InForce) => PublishRules;
  /** What the settings say, or others where the host has those itself. */
  readonly chooseSubnets: (settings: SettingsPort) => Subnets;
  /** What the running machine was started with, and the place to keep it. */
  readonly inForce: { load(): InForce | undefined; store(inForce: InForce): void };
  /** What of the status does not change: home, sockets, versions, process ids. */
  readonly facts: () => Pick<PlatformStatus, 'home' | 'sockets' | 'versions' | 'pids'>;
  readonly nowMs: () => number;
  readonly log: (line: string) => void;
}

export class Supervisor implements PlatformPort {
  readonly settings: SettingsPort;
  readonly ports: PublishedPorts;
  readonly #parts: SupervisorParts;
  readonly #keeper: MachineKeeper;
  readonly #nudges = new Subject<void>();
  readonly #changes: BehaviorSubject<PlatformStatus>;
  readonly #inForceChanges = new ReplaySubject<Settings>(1);
  readonly #subscriptions: Subscription[] = [];
  readonly #finished: Promise<void>;
  #finish: () => void = () => undefined;
  #network: NetworkCore | undefined;
  #inForce: InForce;
  #busy: string | undefined;
  /** Settles, never rejects, when the operation under way is done. */
  #underWay: Promise<void> = Promise.resolve();

  constructor(parts: SupervisorParts) {
    this.#parts = parts;
    this.settings = parts.settings;
    this.#inForce = this.#chosenNow();
    this.#finished = new Promise((resolve) => {
      this.#finish = resolve;
    });
    const specify = (): MachineSpec => {
      parts.inForce.store(this.#inForce);
      return parts.specify(this.#inForce);
    };
    this.#keeper = new MachineKeeper(parts.machines, specify, parts.nowMs, parts.log);
    const exposer: PortExposer = {
      expose: (what) => this.#network?.expose(what) ?? Promise.reject(new Error('the network is not up')),
    };
    const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    this.ports = new PublishedPorts(exposer, parts.publishRules(this.#inForce), pause);
    this.#changes = new BehaviorSubject(this.status());
    this.#subscribe();
  }

  /** Resolves when `shutdown` has done its work. */
  get finished(): Promise<void> {
    return this.#finished;
  }

  get changes(): Observable<PlatformStatus> {
    return this.#changes;
  }

  /** What is in force of a machine that has run, now and at each change; the subnets are those that were chosen. */
  get inForce(): Observable<Settings> {
    return this.#inForceChanges;
  }

  /** Attaches to the VM that runs, or starts one; a failure to start is the status's to tell. */
  open(): Promise<void> {
    return this.#alone('starting', async () => {
      try {
        if (await this.#attach()) return;
        await this.#start();
      } catch (error) {
        this.#parts.log(`cannot start: ${(error as Error).message}`);
      }
    });
  }

  status(): PlatformStatus {
    const { settings, docker, facts } = this.#parts;
    const machine = this.#keeper.status;
    const reason = machine.reason;
    const pending = settingNames.filter(
      (name) => schema[name].restarts === 'vm' && settings.current[name] !== this.#inForce.settings[name],
    );
    const { home, sockets, versions, pids } = facts();
    return {
      state: this.#busy === 'stopping' ? 'stopping' : machine.state,
      ...(reason !== undefined && { reason }),
      docker: docker.state,
      ...(machine.accelerator && { accelerator: machine.accelerator }),
      ...(machine.acceleratorReason !== undefined && { acceleratorReason: machine.acceleratorReason }),
      ...(machine.channel && { channel: machine.channel }),
      versions: {
        ...versions,
        ...(machine.hypervisor !== undefined && { hypervisor: machine.hypervisor }),
        ...(docker.state.version !== undefined && { docker: docker.state.version }),
      },
      boot: machine.boot,
      ...(machine.startedAtMs !== undefined && { startedAtMs: machine.startedAtMs }),
      home,
      sockets,
      pids: { ...pids, ...(machine.pid !== undefined && { hypervisor: machine.pid }) },
      network: {
        subnet: this.#inForce.subnet,
        mtu: this.#inForce.settings['network.mtu'],
        connected: this.#network?.connected ?? false,
        ...(machine.link && { link: machine.link }),
        ...(machine.linkReason !== undefined && { linkReason: machine.linkReason }),
      },
      ports: this.ports.list(),
      restarts: this.#keeper.restarts,
      ...(settings.problem !== undefined && { settingsProblem: settings.problem }),
      pendingRestart: pending,
    };
  }

  flows(): readonly FlowRecord[] {
    return this.#network?.flows() ?? [];
  }

  drops(): Readonly<Record<string, number>> {
    return this.#network?.drops() ?? {};
  }

  capture(options: Parameters<PlatformPort['capture']>[0]): Capture {
    return this.#runningNetwork('to capture').capture(options);
  }

  dns(after?: number): ReturnType<PlatformPort['dns']> {
    return this.#runningNetwork('that is asked for names').dns(after);
  }

  addressesOf(name: string): ReturnType<PlatformPort['addressesOf']> {
    return this.#runningNetwork('that finds names').addressesOf(name);
  }

  policy(): ReturnType<PlatformPort['policy']> {
    return this.#runningNetwork('with a policy').policy();
  }

  checkPolicy(...question: Parameters<PlatformPort['checkPolicy']>): ReturnType<PlatformPort['checkPolicy']> {
    return this.#runningNetwork('with a policy').checkPolicy(...question);
  }

  restart(): Promise<void> {
    return this.#alone('stopping', async () => {
      await this.#stop();
      this.#busy = 'starting';
      await this.#start();
    });
  }

  async pause(): Promise<void> {
    this.#mustBe('running');
    await this.#alone('pausing', () => this.#keeper.pause());
  }

  async resume(): Promise<void> {
    this.#mustBe('paused');
    await this.#alone('resuming', () => this.#keeper.resume());
  }

  async shutdown(): Promise<void> {
    await this.#underWay;
    await this.#alone('stopping', () => this.#stop());
    this.#finish();
  }

  /** Lets go of everything; the VM runs on. */
  async release(): Promise<void> {
    for (const subscription of this.#subscriptions) subscription.unsubscribe();
    this.ports.close();
    this.#keeper.release();
    this.#parts.docker.stop();
    this.#closeNetwork();
    this.#changes.complete();
    this.#inForceChanges.complete();
  }

  async #attach(): Promise<boolean> {
    this.#inForce = this.#parts.inForce.load() ?? this.#chosenNow();
    if (!(await this.#keeper.attach())) return false;
    await this.#openNetwork();
    return true;
  }

  async #start(): Promise<void> {
    this.#inForce = this.#chosenNow();
    await this.#openNetwork();
    await this.#keeper.start();
  }

  async #stop(): Promise<void> {
    this.#parts.docker.stop();
    await this.#keeper.stop(GRACE_MS);
    this.#closeNetwork();
  }

  async #openNetwork(): Promise<void> {
    this.#closeNetwork();
    const inForce = this.#takeOver(this.settings.current);
    this.#network = this.#parts.openNetwork(inForce);
    this.#tellInForce(inForce);
    await this.ports.reconcile(this.#parts.publishRules(inForce));
  }

  #closeNetwork(): void {
    this.#network?.close();
    this.#network = undefined;
  }

  #chosenNow(): InForce {
    const { settings, chooseSubnets } = this.#parts;
    return { settings: settings.current, ...chooseSubnets(settings) };
  }

  /** Puts of `settings` into force what asks for no restart of the VM. */
  #takeOver(settings: Settings): InForce {
    const { settings: before, ...subnets } = this.#inForce;
    const fixed = settingNames.filter((name) => schema[name].restarts === 'vm');
    const kept = Object.fromEntries(fixed.map((name) => [name, before[name]]));
    this.#inForce = { settings: { ...settings, ...kept } as Settings, ...subnets };
    return this.#inForce;
  }

  #tellInForce({ settings, subnet, subnet6 }: InForce): void {
    this.#inForceChanges.next({ ...settings, 'network.subnet': subnet, 'network.subnet6': subnet6 });
  }

  #subscribe(): void {
    const { docker, log } = this.#parts;
    this.#subscriptions.push(
      this.#keeper.changes.subscribe((machine) => this.#follow(machine)),
      this.settings.changes.subscribe((settings) => {
        const inForce = this.#takeOver(settings);
        this.#network?.apply(settings);
        if (this.#network) this.#tellInForce(inForce);
        void this.ports.reconcile(this.#parts.publishRules(inForce));
      }),
      merge(this.#nudges, this.#keeper.changes, docker.changes, this.ports.changes, this.settings.changes)
        .pipe(map(() => this.status()))
        .subscribe((status) => this.#changes.next(status)),
    );
    log(`settings: ${JSON.stringify(this.settings.chosen)}`);
  }

  /** Docker is worth asking once dockerd is there; a stream to a guest that is not yet up would only hang. */
  #follow({ state, boot }: MachineStatus): void {
    if (state === 'running') {
      if (boot.dockerd !== undefined) this.#parts.docker.start();
    } else if (state !== 'paused') this.#parts.docker.stop();
  }

  #runningNetwork(what: string): NetworkCore {
    if (!this.#network) throw new StateError(`the VM is ${this.status().state}: it has no network ${what}`);
    return this.#network;
  }

  #mustBe(state: MachineStatus['state']): void {
    const now = this.status().state;
    if (now !== state) throw new StateError(`the VM is ${now}, not ${state}`);
  }

  async #alone(what: string, work: () => Promise<void>): Promise<void> {
    if (this.#busy) throw new StateError(`the platform is ${this.#busy}; try again when it is done`);
    this.#busy = what;
    this.#nudges.next();
    const done = work().finally(() => {
      this.#busy = undefined;
      this.#nudges.next();
    });
    this.#underWay = done.catch(() => undefined);
    await done;
  }
}
