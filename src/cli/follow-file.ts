/** Text appended to a file, as it comes; a file that is set aside and begun anew (a rotated log) is followed. */

import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';

const EVERY_MS = 250;
const READ_OCTETS = 64 * 1024;

/** Hands over what the file holds, and then, with `signal`, what is added until it aborts. */
export async function followFile(path: string, write: (text: Buffer) => void, signal?: AbortSignal): Promise<void> {
  let fd: number | undefined;
  let at = 0;
  const drain = (): void => {
    if (fd === undefined) return;
    if (fstatSync(fd).size < at) at = 0;
    for (const buffer = Buffer.alloc(READ_OCTETS); ; ) {
      const octets = readSync(fd, buffer, 0, READ_OCTETS, at);
      if (octets === 0) return;
      at += octets;
      write(Buffer.from(buffer.subarray(0, octets)));
    }
  };
  const look = (): void => {
    const there = statSync(path, { throwIfNoEntry: false });
    drain();
    if (!there || (fd !== undefined && fstatSync(fd).ino === there.ino)) return;
    if (fd !== undefined) closeSync(fd);
    fd = openSync(path, 'r');
    at = 0;
    drain();
  };
  try {
    look();
    while (signal && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(done, EVERY_MS);
        signal.addEventListener('abort', done, { once: true });
        function done(): void {
          clearTimeout(timer);
          signal?.removeEventListener('abort', done);
          resolve();
        }
      });
      look();
    }
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
