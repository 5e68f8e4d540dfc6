/** What is better done once a start is over. */

import { setTimeout } from 'node:timers/promises';

/** Who waits for the start goes first. */
const SETTLED_MS = 200;

/** Gives back the memory that only the start needed, a moment from now. Never rejects. */
export async function giveBackAfterStart(): Promise<void> {
  if (process.platform !== 'linux') return;
  await setTimeout(SETTLED_MS, undefined, { ref: false });
  try {
    const { giveBackMemory } = await import('../native/resident-memory.ts');
    giveBackMemory();
  } catch {
    // No koffi for this processor or C library, or no /proc: it is kept.
  }
}
