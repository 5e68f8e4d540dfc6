/** Unix sockets that outlived who listened on them: they keep others from listening at their path. */

import { lstatSync, rmSync } from 'node:fs';
import net from 'node:net';

/** Removes such a socket; rejects when somebody listens on it, or something else is at the path. */
export async function removeStale(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return;
  if (!found.isSocket()) throw new Error(`${path} exists and is not a socket: move it away`);
  const taken = await new Promise<boolean>((resolve) => {
    const probe = net.connect({ path }, () => resolve(true));
    probe.once('error', () => resolve(false));
    probe.once('connect', () => probe.destroy());
  });
  if (taken) throw new Error(`cannot listen on ${path}: somebody does`);
  rmSync(path);
}
