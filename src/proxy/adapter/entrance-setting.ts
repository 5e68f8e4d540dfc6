/**
 * The entrance as its setting has it, changed while everything runs: `socket` is a unix socket of the instance's own, a
 * loopback address and port have the instance's credential, which is made when it is first wanted. What cannot be opened
 * is told, and nothing is open then.
 */

import { type EntranceAt, parseEntrance } from '../entrance/place.ts';
import { ownCredential } from './credential-file.ts';

export interface EntranceSettingOptions {
  readonly socketPath: string;
  readonly credentialPath: string;
  readonly open: (at: EntranceAt, credential: string | undefined) => Promise<{ close(): void }>;
  readonly log: (line: string) => void;
}

export class EntranceSetting {
  readonly #options: EntranceSettingOptions;
  #open: { close(): void } | undefined;
  #queue: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: EntranceSettingOptions) {
    this.#options = options;
  }

  /** Takes over another value; resolves when it is in force. One at a time, in order. */
  use(value: string): Promise<void> {
    this.#queue = this.#queue.then(() => this.#take(value));
    return this.#queue;
  }

  close(): void {
    this.#closed = true;
    this.#open?.close();
    this.#open = undefined;
  }

  async #take(value: string): Promise<void> {
    const { socketPath, credentialPath, open, log } = this.#options;
    this.#open?.close();
    this.#open = undefined;
    if (value === '' || this.#closed) return;
    try {
      const at = value === 'socket' ? { path: socketPath } : parseEntrance(value);
      const opened = await open(at, 'path' in at ? undefined : ownCredential(credentialPath));
      if (this.#closed) return opened.close();
      this.#open = opened;
      log(`entrance: open at ${value === 'socket' ? socketPath : `${value}, with what ${credentialPath} says`}`);
    } catch (error) {
      log(`network.entrance: ${(error as Error).message}; it is closed`);
    }
  }
}
