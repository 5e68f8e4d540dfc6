/**
 * Files under way, in a folder of the repository, `pending`: their names say whose they are, so that what a killed process
 * left behind is known for that.
 */

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCode } from './durable-files.ts';

/** A path in it that nothing else has. */
export function pendingPath(pending: string): string {
  return join(pending, `${self()}-${randomUUID()}`);
}

/** Removes what killed processes left that is no lock any more. */
export async function sweepPending(pending: string): Promise<void> {
  for (const name of await readdir(pending).catch(() => [])) {
    if (isAlive(name)) continue;
    const file = await stat(join(pending, name)).catch(() => undefined);
    if (file?.nlink === 1) await rm(join(pending, name), { force: true });
  }
}

let selfName: string | undefined;

/** Process and when it started, as a process id alone is given again. */
function self(): string {
  selfName ??= `${process.pid}-${startOf(process.pid) ?? 0}`;
  return selfName;
}

/** Whether the process that made a file of that name is still there. */
export function isAlive(name: string): boolean {
  const [pid = 0, start] = name.split('-').map(Number);
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (errorCode(error) === 'ESRCH') return false;
  }
  return (startOf(pid) ?? start) === start;
}

/** In clock ticks since boot; undefined where there is no /proc. */
function startOf(pid: number): number | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return Number(fields.slice(fields.lastIndexOf(')') + 2).split(' ')[19]);
  } catch {
    return undefined;
  }
}
