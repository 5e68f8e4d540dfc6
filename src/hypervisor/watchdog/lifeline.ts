/**
 * Ties a child's life to ours, so that no death of this process, kill -9 included, leaves the child behind.
 *
 * On Linux the kernel does it: the child is started through util-linux's `setpriv --pdeathsig KILL` (proven once, as
 * busybox's setpriv has no such option), which then becomes the child. Elsewhere a shell waits at the far end of a
 * pipe of ours: the pipe's end is our end, and it kills the child.
 */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';

export interface Lifeline {
  readonly kind: 'pdeathsig' | 'pipe';
  /** What to start in place of `command`. */
  wrap(command: readonly string[]): readonly string[];
  /** Called with the started child; returns what undoes the tie once the child has ended. */
  attach(child: ChildProcess): () => void;
}

const setpriv = ['setpriv', '--pdeathsig', 'KILL', '--'];

const pdeathsig: Lifeline = {
  kind: 'pdeathsig',
  wrap: (command) => [...setpriv, ...command],
  attach: () => () => undefined,
};

/** Its own session, so that a signal to our process group does not take the guard away first. */
export const pipeLifeline: Lifeline = {
  kind: 'pipe',
  wrap: (command) => command,
  attach(child) {
    const script = 'read -r _ || kill -9 "$1"';
    const guard = spawn('/bin/sh', ['-c', script, 'slipway-lifeline', String(child.pid)], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    });
    guard.on('error', () => undefined);
    guard.stdin.on('error', () => undefined);
    guard.unref();
    return () => guard.stdin.end('\n');
  },
};

/** The best there is on this host. */
export function chooseLifeline(platform: NodeJS.Platform = process.platform): Lifeline {
  if (platform !== 'linux') return pipeLifeline;
  const [program = '', ...argv] = setpriv;
  return spawnSync(program, [...argv, 'true'], { stdio: 'ignore' }).status === 0 ? pdeathsig : pipeLifeline;
}
