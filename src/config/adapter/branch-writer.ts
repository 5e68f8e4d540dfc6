/**
 * The one that moves a branch on behalf of everybody in this process: operations that wait are done in one go, each on
 * top of the one before, their objects written and synced together, and the branch moved once (group commit). When
 * another process has moved the branch meanwhile, all are done again on its new head.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { DatabaseError } from '../database.ts';
import type { Operation } from '../operation.ts';
import { errorCode } from './durable-files.ts';
import type { GitObjectStore, ObjectBatch } from './git-object-store.ts';
import type { GitRefs } from './git-refs.ts';

const GROUP_AT_MOST = 256;

interface Waiting {
  readonly operation: Operation;
  /** What it has made before it came here. */
  readonly objects: ObjectBatch | undefined;
  readonly resolve: (head: string | undefined) => void;
  readonly reject: (error: unknown) => void;
}

export class BranchWriter {
  readonly #branch: string;
  readonly #store: GitObjectStore;
  readonly #refs: GitRefs;
  readonly #ended: () => void;
  readonly #queue: Waiting[] = [];
  #writing: Promise<void> | undefined;

  /** `ended`: nothing waits any more, and whoever comes next may make another. */
  constructor(branch: string, store: GitObjectStore, refs: GitRefs, ended: () => void) {
    this.#branch = branch;
    this.#store = store;
    this.#refs = refs;
    this.#ended = ended;
  }

  /** The branch's head after the operation, once that lasts. */
  submit(operation: Operation, objects?: ObjectBatch): Promise<string | undefined> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ operation, objects, resolve, reject });
      this.#writing ??= this.#drain();
    });
  }

  /** Resolves when nothing waits. */
  async idle(): Promise<void> {
    await this.#writing;
  }

  async #drain(): Promise<void> {
    // Whoever submits in this turn of the event loop comes along.
    await nextTurn();
    while (this.#queue.length > 0) {
      const group = this.#queue.splice(0, GROUP_AT_MOST);
      try {
        await this.#write(group);
      } catch (error) {
        for (const { reject } of group) reject(storage(error, this.#branch));
      }
    }
    // In the same turn as the look: who submits after it begins anew.
    this.#writing = undefined;
    this.#ended();
  }

  async #write(group: readonly Waiting[]): Promise<void> {
    for (;;) {
      const from = await this.#refs.read(this.#branch);
      const batch = this.#store.batch();
      const outcomes: (() => void)[] = [];
      let head = from;
      for (const { operation, objects, resolve, reject } of group) {
        try {
          if (objects) batch.join(objects);
          const next = await operation(batch, head);
          head = next;
          outcomes.push(() => resolve(next));
        } catch (error) {
          outcomes.push(() => reject(error));
        }
      }
      if (head !== from) {
        const objects = head === undefined ? undefined : batch.stage(head);
        if (!(await this.#refs.move(this.#branch, from, head, objects))) continue;
      }
      for (const tell of outcomes) tell();
      return;
    }
  }
}

/** Any failure as a `DatabaseError` that says what to do. */
export function storage(error: unknown, branch: string): unknown {
  if (error instanceof DatabaseError) return error;
  const code = errorCode(error);
  const remedy = code === 'ENOSPC' || code === 'EDQUOT' ? 'the disk is full; make room and try again' : code;
  if (code === undefined) return error;
  return new DatabaseError('STORAGE', `cannot write branch '${branch}': ${remedy}; nothing has changed`);
}
