/**
 * The hypervisor on QEMU: checks image and disk, chooses the accelerator by proof, opens the stream channel, starts
 * QEMU, and starts it once more under tcg when hardware acceleration did not prove itself.
 *
 * One machine holds the data disk's lock from before the disk is touched until its QEMU is gone.
 */

import { chmodSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { availableOctets, prepareDataDisk } from '../disk/data-disk.ts';
import { checkGuestImage, type GuestImage } from '../disk/guest-image.ts';
import { type FileLock, lockFile, lockOwner } from '../disk/lock-file.ts';
import type { HypervisorPort, MachineSpec } from '../port.ts';
import { checkSocketPath, hostPortName } from '../vsock/socket-path.ts';
import { chooseLifeline, type Lifeline } from '../watchdog/lifeline.ts';
import {
  type AcceleratorChoice,
  AcceleratorMemory,
  chooseAccelerator,
  type HostFacts,
  hostFacts,
} from './accelerator.ts';
import { GuestEvents } from './guest-events.ts';
import type { GuestLane, OpenLane } from './guest-lane.ts';
import { qemuArguments } from './qemu-arguments.ts';
import { QemuMachine } from './qemu-machine.ts';
import { RingFile } from './ring-file.ts';

const CONSOLE_OCTETS = 256 << 10;
/** For an owner of the disk that is ending: QEMU follows its killed parent as soon as its memory is given back. */
const LOCK_PATIENCE_MS = 10_000;
/** Far more than a guest under hardware acceleration takes to its first mark. */
const TRIAL_MS = 10_000;
/** Host port of the guest's events (vm/README.md). */
const EVENTS_PORT = 62377;

export interface QemuOptions {
  /** QEMU's program for the guest's architecture and what must stand before its arguments, and its version. */
  readonly qemu: { readonly command: readonly string[]; readonly version: string };
  readonly qemuImg: readonly string[];
  readonly openLane: OpenLane;
  /** File of the console's ring. */
  readonly consoleLog?: string;
  /** File that remembers which accelerator proved to work. */
  readonly acceleratorFile: string;
  readonly facts?: HostFacts;
  readonly lifeline?: Lifeline;
  readonly trialMs?: number;
  readonly lockPatienceMs?: number;
  readonly log?: (line: string) => void;
}

export class QemuHypervisor implements HypervisorPort {
  readonly name = 'qemu';
  readonly #options: QemuOptions;
  readonly #facts: HostFacts;
  readonly #lifeline: Lifeline;
  readonly #log: (line: string) => void;

  constructor(options: QemuOptions) {
    this.#options = options;
    this.#facts = options.facts ?? hostFacts();
    this.#lifeline = options.lifeline ?? chooseLifeline(this.#facts.platform);
    this.#log = options.log ?? (() => undefined);
  }

  async start(spec: MachineSpec): Promise<QemuMachine> {
    checkSocketPath(spec.networkSocket);
    if (spec.vhostUserSocket !== undefined) checkSocketPath(spec.vhostUserSocket);
    checkSocketPath(join(spec.socketDirectory, hostPortName(EVENTS_PORT)));
    const image = await checkGuestImage(spec.imageDirectory);
    const lock = await lockDisk(spec.dataDisk.path, this.#options.lockPatienceMs ?? LOCK_PATIENCE_MS);
    try {
      const disk = await prepareDataDisk({ ...spec.dataDisk, qemuImg: this.#options.qemuImg });
      this.#log(`data disk ${disk.outcome}: ${disk.virtualOctets} octets`);
      const machine = await this.#startProven(spec, image, lock.fd);
      void machine.whenEnded().then(() => lock.release());
      return machine;
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  async #startProven(spec: MachineSpec, image: GuestImage, heldFd: number): Promise<QemuMachine> {
    const { acceleratorFile, qemu, trialMs = TRIAL_MS } = this.#options;
    if (spec.accelerator !== 'auto') {
      const reason = 'chosen by the setting vm.accelerator';
      return this.#launch(spec, image, heldFd, { accelerator: spec.accelerator, reason, trial: false });
    }
    const memory = new AcceleratorMemory(acceleratorFile, this.#facts, qemu.version, image.arch);
    const choice = memory.recall() ?? chooseAccelerator(this.#facts, image.arch);
    if (!choice.trial) return this.#launch(spec, image, heldFd, choice);
    const trial = await this.#try(spec, image, heldFd, choice, trialMs);
    if (trial instanceof QemuMachine) {
      memory.remember({ ...choice, reason: `${choice.reason}, proven by a start` });
      return trial;
    }
    this.#log(`${choice.accelerator} does not work here, falling back to tcg: ${trial}`);
    const fallback = { accelerator: 'tcg', reason: `${choice.accelerator} was tried: ${trial}`, trial: false } as const;
    const machine = await this.#launch(spec, image, heldFd, fallback);
    memory.remember(fallback);
    return machine;
  }

  /** A start on trial: the machine when it has shown a sign of life, else what went wrong. */
  async #try(spec: MachineSpec, image: GuestImage, heldFd: number, choice: AcceleratorChoice, trialMs: number) {
    let machine: QemuMachine;
    try {
      machine = await this.#launch(spec, image, heldFd, choice);
    } catch (error) {
      return (error as Error).message;
    }
    const silence = Promise.withResolvers<'silent'>();
    const timer = setTimeout(() => silence.resolve('silent'), trialMs);
    const outcome = await Promise.race([
      machine.signOfLife.then(() => 'alive' as const),
      machine.whenEnded().then((status) => status.reason ?? 'it ended at once'),
      silence.promise,
    ]);
    clearTimeout(timer);
    if (outcome === 'alive') return machine;
    await machine.kill();
    return outcome === 'silent' ? `no sign of life within ${trialMs / 1000} s` : outcome;
  }

  /** 'auto' is vsock on Linux, where guest memory can be shared, unless that does not come about. */
  async #openLane(spec: MachineSpec): Promise<GuestLane> {
    const { openLane } = this.#options;
    if (spec.channel !== 'auto') return openLane(spec.channel, spec);
    if (this.#facts.platform !== 'linux') return openLane('serial', spec);
    try {
      return await openLane('vsock', spec);
    } catch (error) {
      this.#log(`no vsock, so streams travel over virtio-serial: ${(error as Error).message}`);
      return openLane('serial', spec);
    }
  }

  /**
   * By vhost-user where guest memory is shared, which vsock proves, unless that does not come about: QEMU does not know
   * it, or the network core does not dial before QEMU should have greeted.
   */
  async #launch(spec: MachineSpec, image: GuestImage, heldFd: number, choice: AcceleratorChoice): Promise<QemuMachine> {
    if (spec.vhostUserSocket === undefined) return this.#run(spec, image, heldFd, choice);
    try {
      return await this.#run(spec, image, heldFd, choice, spec.vhostUserSocket);
    } catch (error) {
      const reason = (error as Error).message;
      this.#log(`no vhost-user, so frames travel by a stream: ${reason}`);
      return this.#run(spec, image, heldFd, choice, undefined, reason);
    }
  }

  async #run(
    spec: MachineSpec,
    image: GuestImage,
    heldFd: number,
    { accelerator, reason }: AcceleratorChoice,
    vhostUserSocket?: string,
    linkReason?: string,
  ): Promise<QemuMachine> {
    const { qemu, consoleLog } = this.#options;
    const sockets = [spec.networkSocket, ...(spec.vhostUserSocket === undefined ? [] : [spec.vhostUserSocket])];
    const removeSockets = (): void => {
      for (const path of sockets) rmSync(path, { force: true });
    };
    removeSockets();
    const console = new RingFile(consoleLog, CONSOLE_OCTETS);
    let machine: QemuMachine | undefined;
    const events = new GuestEvents(join(spec.socketDirectory, hostPortName(EVENTS_PORT)), (event) =>
      machine?.guestEvent(event),
    );
    const cleanUp = (): void => {
      events.close();
      console.close();
      removeSockets();
    };
    try {
      await events.listen();
      const lane = await this.#openLane(spec);
      try {
        const { version } = qemu;
        const { platform } = this.#facts;
        const link = vhostUserSocket !== undefined && lane.channel === 'vsock' ? 'vhost-user' : 'stream';
        const input = { spec, image, accelerator, version, platform, channel: lane, link, nowMs: Date.now() } as const;
        const argv = qemuArguments(input);
        machine = await QemuMachine.launch({
          command: [...qemu.command, ...argv],
          lifeline: this.#lifeline,
          lane,
          console,
          heldFd,
          accelerator,
          acceleratorReason: reason,
          link,
          linkReason: link === 'stream' && vhostUserSocket !== undefined ? 'guest memory is not shared' : linkReason,
          hypervisor: `QEMU ${version}`,
          freeOctets: () => availableOctets(dirname(spec.dataDisk.path)),
          log: this.#log,
        });
      } catch (error) {
        lane.close();
        throw error;
      }
    } catch (error) {
      cleanUp();
      throw error;
    }
    for (const path of sockets) if (existsSync(path)) chmodSync(path, 0o600);
    void machine.whenEnded().then(cleanUp);
    return machine;
  }
}

async function lockDisk(diskPath: string, patienceMs: number): Promise<FileLock> {
  const path = `${diskPath}.lock`;
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const lock = await lockFile(path, patienceMs);
  if (lock) return lock;
  throw new Error(
    `the data disk ${diskPath} is in use by another slipway-vmm (process ${lockOwner(path)}); 'slipway down' ends it, or set SLIPWAY_HOME for an instance of its own`,
  );
}
