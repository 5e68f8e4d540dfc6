/**
 * How much of the host's disk the commits of a guest may fill. What the database takes is looked at when it may have
 * become too much, and in between counted on: looking means asking for the size of every file.
 */

import { FileError } from '../ninep/file-error.ts';

/** Between two looks while there is no room. */
const LOOK_MS = 5000;
/** What a commit takes on the disk beside its objects. */
const COMMIT_OCTETS = 8192;

export class DiskRoom {
  readonly #limitOctets: number;
  /** What is taken now; it need not look further than to `limit`. */
  readonly #look: (limit: number) => Promise<number>;
  readonly #nowMs: () => number;
  #takenOctets: number | undefined;
  #underWayOctets = 0;
  #lookedMs = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> | undefined;

  constructor(limitOctets: number, look: (limit: number) => Promise<number>, nowMs: () => number) {
    this.#limitOctets = limitOctets;
    this.#look = look;
    this.#nowMs = nowMs;
  }

  /** Writes octets by `work`; ENOSPC where there is no room for them. */
  async within<T>(octets: number, work: () => Promise<T>): Promise<T> {
    const wanted = octets + COMMIT_OCTETS;
    if (!this.#has(wanted)) {
      this.#looking ??= this.#lookAnew().finally(() => {
        this.#looking = undefined;
      });
      await this.#looking;
    }
    if (!this.#has(wanted))
      throw new FileError(
        'ENOSPC',
        `the settings database takes ${Math.floor(this.#limitOctets / 2 ** 20)} MiB already`,
      );
    this.#underWayOctets += wanted;
    try {
      return await work();
    } finally {
      this.#underWayOctets -= wanted;
      this.#takenOctets! += wanted;
    }
  }

  #has(wanted: number): boolean {
    return this.#takenOctets !== undefined && this.#takenOctets + this.#underWayOctets + wanted <= this.#limitOctets;
  }

  async #lookAnew(): Promise<void> {
    if (this.#takenOctets !== undefined && this.#nowMs() - this.#lookedMs < LOOK_MS) return;
    this.#takenOctets = await this.#look(this.#limitOctets);
    this.#lookedMs = this.#nowMs();
  }
}
