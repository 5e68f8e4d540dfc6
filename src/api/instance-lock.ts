/**
 * The lock that makes one daemon a home: flock(2) on a file that then holds the owner's process id. The kernel lets go
 * of it when the process ends, however it ends, so there is no stale lock. The descriptor is close-on-exec (Node's
 * default), so a child does not inherit it.
 */

import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import koffi from 'koffi';

const LOCK_EX_NB = 2 | 4;

export interface InstanceLock {
  release(): void;
}

/** Takes the lock; undefined when another process holds it. */
export function takeLock(path: string): InstanceLock | undefined {
  const flock = koffi.load(null).func('int flock(int, int)') as (fd: number, operation: number) => number;
  const fd = openSync(path, 'a+', 0o600);
  if (flock(fd, LOCK_EX_NB) !== 0) {
    closeSync(fd);
    return undefined;
  }
  ftruncateSync(fd, 0);
  writeSync(fd, `${process.pid}\n`);
  return { release: () => closeSync(fd) };
}

/** The process id that the lock's last owner wrote; undefined when there is none. */
export function lockOwner(path: string): number | undefined {
  try {
    const pid = Number(readFileSync(path, 'utf8').trim());
    return Number.isInteger(pid) && pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}
