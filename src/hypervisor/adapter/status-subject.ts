/** A machine's status: one frozen value, changed in one place, told to whoever listens. */

import type { MachineStatus } from '../port.ts';

export class StatusSubject {
  #current: MachineStatus;
  readonly #listeners = new Set<(status: MachineStatus) => void>();

  constructor(initial: MachineStatus) {
    this.#current = Object.freeze(initial);
  }

  get current(): MachineStatus {
    return this.#current;
  }

  get ended(): boolean {
    return hasEnded(this.#current);
  }

  /** Replaces what `change` names; a machine that has ended changes no more. */
  set(change: Partial<MachineStatus>): void {
    if (this.ended) return;
    this.replace({ ...this.#current, ...change });
  }

  replace(status: MachineStatus): void {
    this.#current = Object.freeze(status);
    for (const listener of [...this.#listeners]) listener(status);
  }

  /** Calls back on every change; returns the way to stop. */
  subscribe(listener: (status: MachineStatus) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Resolves with the final status, at once when there is one. */
  whenEnded(): Promise<MachineStatus> {
    if (this.ended) return Promise.resolve(this.#current);
    return new Promise((resolve) => {
      const stop = this.subscribe((status) => {
        if (!hasEnded(status)) return;
        stop();
        resolve(status);
      });
    });
  }
}

export function hasEnded(status: MachineStatus): boolean {
  return status.state === 'stopped' || status.state === 'failed';
}
