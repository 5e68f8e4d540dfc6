/**
 * Which accelerator to run under, decided by proof and remembered with its reason.
 *
 * A device node proves little: /dev/kvm may belong to a software KVM (module kvm_pvm, or no vmx or svm flag on x86)
 * that accepts every ioctl and then hangs a stock kernel for ever. So on x86 the processor's flag is asked first; and
 * where hardware acceleration looks possible, the first start under it is on trial: a guest that shows no sign of life
 * (console output or a boot mark) within the trial's time is ended and started again under tcg. The verdict is kept in
 * a file, keyed by what could change it: the host's kernel and QEMU's version.
 */

import { accessSync, constants, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import type { GuestImage } from '../disk/guest-image.ts';
import type { Accelerator } from '../port.ts';

/** What the host shows of itself; an argument, so that tests need no such host. */
export interface HostFacts {
  readonly platform: NodeJS.Platform;
  /** Node's name: x64, arm64. */
  readonly arch: string;
  /** Release of the host's kernel. */
  readonly kernel: string;
  readonly cpuFlags: readonly string[];
  readonly kvmModules: readonly string[];
  /** 'absent', 'denied' (exists, but not for this user) or 'usable'. */
  readonly kvmDevice: 'absent' | 'denied' | 'usable';
}

export interface AcceleratorChoice {
  readonly accelerator: Accelerator;
  /** One line for `slipway status`. */
  readonly reason: string;
  /** The start under it is on trial: without a sign of life, tcg is next. */
  readonly trial: boolean;
}

export type GuestArch = GuestImage['arch'];

const hostArch = (facts: HostFacts): GuestArch | undefined =>
  facts.arch === 'x64' ? 'amd64' : facts.arch === 'arm64' ? 'arm64' : undefined;

/** What the host allows for a guest of `arch`, before anything was tried. */
export function chooseAccelerator(facts: HostFacts, arch: GuestArch): AcceleratorChoice {
  const tcg = (reason: string): AcceleratorChoice => ({ accelerator: 'tcg', reason, trial: false });
  if (hostArch(facts) !== arch) return tcg(`the guest's ${arch} is emulated on this host's ${facts.arch}`);
  if (facts.platform === 'darwin') return { accelerator: 'hvf', reason: "macOS's own hypervisor", trial: true };
  if (facts.platform === 'win32') return { accelerator: 'whpx', reason: "Windows' own hypervisor", trial: true };
  if (facts.platform !== 'linux') return tcg(`there is no hardware acceleration for ${facts.platform}`);
  if (facts.kvmDevice === 'absent') return tcg('this host has no /dev/kvm');
  if (arch === 'amd64' && facts.kvmModules.includes('kvm_pvm'))
    return tcg('/dev/kvm is a software KVM (kvm_pvm), which hangs a stock kernel');
  if (arch === 'amd64' && !facts.cpuFlags.some((flag) => flag === 'vmx' || flag === 'svm'))
    return tcg('the processor shows neither vmx nor svm, so /dev/kvm cannot run a stock kernel');
  if (facts.kvmDevice === 'denied')
    return tcg("/dev/kvm is not this user's to open; add the user to the group kvm for hardware speed");
  return { accelerator: 'kvm', reason: '/dev/kvm', trial: true };
}

/** Reads the facts from the host. */
export function hostFacts(): HostFacts {
  const cpu = readText('/proc/cpuinfo');
  return {
    platform: process.platform,
    arch: process.arch,
    kernel: release(),
    cpuFlags: (/^flags\s*:\s*(.*)$/m.exec(cpu)?.[1] ?? '').split(/\s+/),
    kvmModules: ['kvm_intel', 'kvm_amd', 'kvm_pvm'].filter((name) => existsSync(`/sys/module/${name}`)),
    kvmDevice: kvmDevice(),
  };
}

function kvmDevice(): HostFacts['kvmDevice'] {
  if (!existsSync('/dev/kvm')) return 'absent';
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
    return 'usable';
  } catch {
    return 'denied';
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

const accelerators: readonly string[] = ['kvm', 'hvf', 'whpx', 'tcg'];

/** The verdict of an earlier start, as long as neither the host's kernel nor QEMU has changed since. */
export class AcceleratorMemory {
  readonly #path: string;
  readonly #key: string;

  constructor(path: string, facts: HostFacts, qemuVersion: string, arch: GuestArch) {
    this.#path = path;
    this.#key = `${facts.platform} ${facts.kernel} ${facts.kvmDevice}, QEMU ${qemuVersion}, ${arch}`;
  }

  recall(): AcceleratorChoice | undefined {
    let verdict: unknown;
    try {
      verdict = JSON.parse(readFileSync(this.#path, 'utf8'));
    } catch {
      return undefined;
    }
    if (typeof verdict !== 'object' || verdict === null) return undefined;
    const { key, accelerator, reason } = verdict as Record<string, unknown>;
    if (key !== this.#key || typeof accelerator !== 'string' || typeof reason !== 'string') return undefined;
    if (!accelerators.includes(accelerator)) return undefined;
    return { accelerator: accelerator as Accelerator, reason, trial: false };
  }

  remember({ accelerator, reason }: AcceleratorChoice): void {
    const text = JSON.stringify({ key: this.#key, accelerator, reason }, undefined, 2);
    writeFileSync(`${this.#path}.new`, `${text}\n`, { mode: 0o600 });
    renameSync(`${this.#path}.new`, this.#path);
  }
}
