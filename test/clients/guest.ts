/** Starts a real Linux guest (linux-guest.ts) on a link's unix socket, and runs functions in it. */

import { type ChildProcess, type execFile, type execFileSync, spawn } from 'node:child_process';
import type crypto from 'node:crypto';
import type dgram from 'node:dgram';
import type dns from 'node:dns';
import { once } from 'node:events';
import type net from 'node:net';
import { fileURLToPath } from 'node:url';

/** What a function that runs in the guest is given: it can use nothing else of the test's. */
export interface GuestTools {
  readonly crypto: typeof crypto;
  readonly dgram: typeof dgram;
  readonly dns: typeof dns;
  readonly net: typeof net;
  readonly once: typeof once;
  readonly exec: typeof execFileSync;
  /** The same while frames go on. */
  readonly execute: typeof execFile.__promisify__;
}

interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

export class Guest {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #nextId = 1;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (answer: Answer) => this.#waiting.get(answer.id)?.(answer));
  }

  /** Resolves when the guest's link is connected. */
  static async start(socketPath: string, mtu = 1500): Promise<Guest> {
    const program = fileURLToPath(new URL('./linux-guest.ts', import.meta.url));
    const child = spawn(
      'unshare',
      ['--user', '--map-root-user', '--net', process.execPath, program, socketPath, String(mtu)],
      { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
    );
    const guest = new Guest(child);
    const exited = once(child, 'exit').then(() => Promise.reject(new Error('the guest did not start')));
    await Promise.race([once(child, 'message'), exited]);
    exited.catch(() => undefined);
    return guest;
  }

  /** Runs a function in the guest; its error's code becomes the message of what is thrown. */
  async run<A extends unknown[], R>(task: (tools: GuestTools, ...args: A) => Promise<R> | R, ...args: A): Promise<R> {
    const id = this.#nextId++;
    const answer = await new Promise<Answer>((resolve) => {
      this.#waiting.set(id, resolve);
      this.#child.send({ id, source: task.toString(), args });
    });
    this.#waiting.delete(id);
    if (answer.error !== undefined) throw new Error(answer.error);
    return answer.value as R;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }
}
