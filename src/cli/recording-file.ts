/**
 * A recording's file, 0600 whatever the umask: guests' traffic and the keys of random numbers are in it. It is written
 * as it comes, in chunks, and by calls that wait for the disk: what is recorded is there when the process dies, and no
 * memory holds what a slow disk has not taken. A disk that takes no more ends the recording with one line.
 */

import { chmodSync, closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { RecordingError } from '../proxy/recording/record.ts';
import type { Source } from '../proxy/recording/record-decoder.ts';

export class RecordingFile {
  readonly path: string;
  readonly #fd: number;

  /** Makes the file, or empties it. */
  constructor(path: string) {
    this.path = path;
    try {
      this.#fd = openSync(path, 'w', 0o600);
      // The file may have been there before. What is no file, such as a pipe, keeps its mode.
      if (fstatSync(this.#fd).isFile()) chmodSync(path, 0o600);
    } catch (error) {
      throw new Error(`--record ${path}: the file cannot be written: ${(error as Error).message}`);
    }
  }

  /** Throws when the disk takes no more. */
  write(octets: Uint8Array): void {
    for (let at = 0; at < octets.length; ) at += writeSync(this.#fd, octets, at);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Reads a file from its beginning, piece by piece, and closes it after `use`. */
export async function readRecording<T>(path: string, use: (source: Source) => Promise<T>): Promise<T> {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    throw new Error(`${path}: the recording cannot be read: ${(error as Error).message}`);
  }
  try {
    const size = fstatSync(fd).size;
    let left = fstatSync(fd).isFile() ? size : Number.POSITIVE_INFINITY;
    return await use((octets) => {
      const bytes = new Uint8Array(Math.min(octets, left));
      let end = 0;
      while (end < bytes.length) {
        const read = readSync(fd, bytes, end, bytes.length - end, null);
        if (read === 0) break;
        end += read;
      }
      left -= end;
      return bytes.subarray(0, end);
    });
  } catch (error) {
    throw error instanceof RecordingError ? new Error(`${path}: ${error.message}`) : error;
  } finally {
    closeSync(fd);
  }
}
