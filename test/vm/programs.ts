/** Programs as the tests run them: outside clients with an environment of their own, waited for or left running. */

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';

/** The longest that anything may take before a test calls it stuck. */
export const DEADLINE_MS = 180_000;
const POLL_MS = 50;

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Without what tap gives its children: it must not reach the programs under test. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^(NODE_OPTIONS|NODE_COMPILE_CACHE|TAP.*|_TAP.*|npm_.*)$/.test(name),
    ),
  );
}

/** A program left running; what it says is kept. */
export class Running {
  readonly child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly ended: Promise<Outcome>;
  stdout = '';
  stderr = '';

  constructor(program: string, argv: readonly string[], env: NodeJS.ProcessEnv) {
    this.child = spawn(program, argv, { env, stdio: ['pipe', 'pipe', 'pipe'] });
    this.child.stdin.on('error', () => undefined);
    this.child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    this.child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.ended = new Promise((resolve, reject) => {
      this.child.once('error', reject);
      this.child.once('close', (status) => resolve({ status, stdout: this.stdout, stderr: this.stderr }));
    });
    this.ended.catch(() => undefined);
  }

  write(text: string): void {
    this.child.stdin.write(text);
  }

  /** Resolves once the program has said something that matches. */
  async says(pattern: RegExp): Promise<void> {
    const what = `${this.child.spawnargs.join(' ')} to say ${pattern}`;
    await until(what, () => {
      if (pattern.test(this.stdout)) return true;
      if (this.child.exitCode !== null)
        throw new Error(`${what}: it ended with ${this.child.exitCode}: ${this.stderr}`);
      return false;
    });
  }
}

/** Runs a program to its end, `input` on its stdin; one that is stuck is killed. */
export async function run(
  program: string,
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  input: string | Uint8Array = '',
): Promise<Outcome> {
  const running = new Running(program, argv, env);
  const stuck = setTimeout(() => running.child.kill('SIGKILL'), DEADLINE_MS);
  running.child.stdin.end(input);
  try {
    return await running.ended;
  } finally {
    clearTimeout(stuck);
  }
}

/** Polls until `condition` gives something other than false or undefined, and returns that. */
export async function until<T>(
  what: string,
  condition: () => T | false | undefined | Promise<T | false | undefined>,
): Promise<T> {
  const deadline = performance.now() + DEADLINE_MS;
  for (;;) {
    const found = await condition();
    if (found !== false && found !== undefined) return found;
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await pause(POLL_MS);
  }
}
