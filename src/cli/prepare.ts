/** What the VM needs on this host: the guest's image and QEMU, brought when missing, then found again in no time. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chooseAccelerator, hostFacts } from '../hypervisor/adapter/accelerator.ts';
import type { VmmHostOptions } from '../hypervisor/vmm-client.ts';
import { findGuestImage, provideGuestImage } from '../provision/guest-image.ts';
import { hostArch } from '../provision/host-arch.ts';
import { locateQemu } from '../provision/qemu.ts';
import { ownVersion } from './own-version.ts';
import type { Progress } from './progress.ts';

export interface Prepared {
  /** Directory of the guest's built image. */
  readonly imageDirectory: string;
  readonly tools: VmmHostOptions['tools'];
  readonly versions: Readonly<Record<string, string>>;
}

/** Brings what is missing, showing what it does. */
export async function prepare(progress: Progress): Promise<void> {
  await provideGuestImage({ progress });
  await locateQemu({ accelerated: accelerated(), progress });
}

/** What `prepare` has brought; rejects, saying what is missing, when it has not. */
export async function locate(): Promise<Prepared> {
  const imageDirectory = await findGuestImage();
  if (imageDirectory === undefined) throw new Error("there is no guest image; 'slipway up' builds it");
  const manifest = JSON.parse(readFileSync(join(imageDirectory, 'manifest.json'), 'utf8')) as Record<string, string>;
  return {
    imageDirectory,
    tools: async () => {
      const { command, version, image } = await locateQemu({ accelerated: accelerated() });
      return { qemu: { command, version }, qemuImg: image };
    },
    versions: {
      slipway: ownVersion(),
      node: process.versions.node,
      image: manifest.id ?? 'unknown',
      kernel: manifest.kernel ?? 'unknown',
    },
  };
}

/** Whether the VM may run with hardware acceleration, as far as the host shows: an old QEMU will do then. */
function accelerated(): boolean {
  return chooseAccelerator(hostFacts(), hostArch()).accelerator !== 'tcg';
}
