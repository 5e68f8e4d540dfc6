/**
 * A lock that one process holds: flock(2) on a file, which then holds the owner's process id. The kernel lets go of it
 * with the last process that has the open file, however that process ends, so a lock is never stale. A child may
 * inherit the descriptor and so hold the lock as well: should its parent be killed, the lock stays for the moment that
 * the child takes to follow, and whoever comes next waits just that long.
 */

import { closeSync, fchmodSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import koffi from 'koffi';

const LOCK_EX_NB = 2 | 4;
const RETRY_MS = 20;

export interface FileLock {
  /** To be inherited by whoever else must hold the lock while it lives. */
  readonly fd: number;
  release(): void;
}

/** Takes the lock, waiting at most `patienceMs` for an owner that is ending; undefined when it stays taken. */
export async function lockFile(path: string, patienceMs: number): Promise<FileLock | undefined> {
  const flock = koffi.load(null).func('int flock(int, int)') as (fd: number, operation: number) => number;
  const fd = openSync(path, 'a+', 0o600);
  const until = performance.now() + patienceMs;
  while (flock(fd, LOCK_EX_NB) !== 0) {
    if (performance.now() > until) {
      closeSync(fd);
      return undefined;
    }
    await sleep(RETRY_MS);
  }
  fchmodSync(fd, 0o600);
  ftruncateSync(fd, 0);
  writeSync(fd, `${process.pid}\n`);
  let held = true;
  return {
    fd,
    release: () => {
      if (held) closeSync(fd);
      held = false;
    },
  };
}

/** The process id of the lock's last owner, as text for a message. */
export function lockOwner(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim() || 'unknown';
  } catch {
    return 'unknown';
  }
}
