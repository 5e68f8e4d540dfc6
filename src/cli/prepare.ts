/** What the VM needs on this host: the guest's image and QEMU, brought when missing, then found again in no time. */

import { readFileSync } from 'node:fs';
import type { VmmHostOptions } from '../hypervisor/vmm-client.ts';
import type { Progress } from './progress.ts';

export interface Prepared {
  /** Directory of the guest's built image. */
  readonly imageDirectory: string;
  readonly tools: VmmHostOptions['tools'];
  readonly versions: Readonly<Record<string, string>>;
}

/** Brings what is missing, showing what it does. */
export async function prepare(_progress: Progress): Promise<void> {
  throw new Error('nothing brings the guest image yet');
}

/** What `prepare` has brought; rejects, saying what is missing, when it has not. */
export async function locate(): Promise<Prepared> {
  throw new Error('nothing finds the guest image yet');
}

/** The version of this package. */
export function ownVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
