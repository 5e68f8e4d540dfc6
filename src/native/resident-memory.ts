/**
 * Memory that a process holds and needs no more: what the C library keeps of what was freed, and the pages of the program's
 * own file that only its start went through. Such pages are the file's, unchanged, and shared by all who run it; what is
 * wanted again comes back at a minor fault. Linux only.
 */

import { readFileSync } from 'node:fs';
import koffi from 'koffi';
import { madvise } from './system-calls.ts';

const MADV_DONTNEED = 4;

/** Gives both back to the system. */
export function giveBackMemory(): void {
  trim();
  for (const { start, end } of unchangedMappings(readFileSync('/proc/self/smaps', 'latin1'), process.execPath))
    madvise(start, end - start, MADV_DONTNEED);
}

/** glibc's alone: musl keeps less. */
function trim(): void {
  try {
    (koffi.load(null).func('int malloc_trim(size_t)') as unknown as (pad: number) => number)(0);
  } catch {
    // There is nothing to be trimmed.
  }
}

interface Mapping {
  readonly start: number;
  readonly end: number;
}

/**
 * The mappings of `path` that nobody may write to and no page of which is the process's own (as pages are that the dynamic
 * linker has changed), from the text of smaps. proc_pid_smaps(5)
 */
export function unchangedMappings(smaps: string, path: string): Mapping[] {
  const found: Mapping[] = [];
  for (const part of smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const [, start, end, permissions, name] = /^(\w+)-(\w+) (\S+) \S+ \S+ \S+ +(.*)$/m.exec(part) ?? [];
    if (name !== path || !permissions || permissions.includes('w')) continue;
    if (/^Anonymous: +0 kB$/m.test(part) && /^Private_Dirty: +0 kB$/m.test(part))
      found.push({ start: Number.parseInt(start!, 16), end: Number.parseInt(end!, 16) });
  }
  return found;
}
