/**
 * A capture's files: what `Capture` hands over is appended in order, 0600 whatever the umask. With a size, FILE is the
 * one being written, FILE.1 the one before and so on, as logs are rotated; the oldest goes. What the disk does not take
 * ends the capture with one line, and never the network.
 */

import { type FileHandle, open, rename } from 'node:fs/promises';
import type { Capture, CaptureSink } from '../stack/link/capture.ts';

/** Whoever reads along sees frames after no more than this. */
const FLUSH_MS = 250;

export interface CaptureFileOptions {
  /** Files kept, the one being written included. */
  readonly files?: number;
  /** The capture has ended because of this. */
  readonly failed: (error: Error) => void;
}

export class CaptureFile implements CaptureSink {
  readonly #path: string;
  readonly #files: number;
  readonly #failed: (error: Error) => void;
  #handle: FileHandle;
  /** Each step after the one before. */
  #last: Promise<void> = Promise.resolve();
  #broken = false;
  #timer: NodeJS.Timeout | undefined;
  #capture: Capture | undefined;

  private constructor(path: string, handle: FileHandle, options: CaptureFileOptions) {
    this.#path = path;
    this.#handle = handle;
    this.#files = options.files ?? 2;
    this.#failed = options.failed;
  }

  /** Makes the file, or empties it. */
  static async create(path: string, options: CaptureFileOptions): Promise<CaptureFile> {
    return new CaptureFile(path, await openEmpty(path), options);
  }

  /** Keeps the file up with what is captured, until `close`. */
  follow(capture: Capture): void {
    this.#capture = capture;
    this.#timer = setInterval(() => capture.flush(), FLUSH_MS).unref();
  }

  write(octets: Uint8Array, done: () => void): void {
    this.#then(async () => {
      await this.#handle.writeFile(octets);
      done();
    });
  }

  rotate(): void {
    this.#then(async () => {
      await this.#handle.close();
      for (let i = this.#files - 1; i > 0; i--) {
        const from = i === 1 ? this.#path : `${this.#path}.${i - 1}`;
        await rename(from, `${this.#path}.${i}`).catch((error: NodeJS.ErrnoException) => {
          if (error.code !== 'ENOENT') throw error;
        });
      }
      this.#handle = await openEmpty(this.#path);
    });
  }

  /** Ends the capture; resolves when all of it is in the file. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#capture?.stop();
    await this.#last;
    this.#broken = true;
    await this.#handle.close().catch(() => undefined);
  }

  #then(step: () => Promise<void>): void {
    this.#last = this.#last.then(async () => {
      if (this.#broken) return;
      try {
        await step();
      } catch (error) {
        this.#broken = true;
        this.#failed(new Error(`the capture into ${this.#path} has ended: ${(error as Error).message}`));
      }
    });
  }
}

async function openEmpty(path: string): Promise<FileHandle> {
  const handle = await open(path, 'w', 0o600);
  // The file may have been there before. What is no file, such as a pipe, keeps its mode.
  if ((await handle.stat()).isFile()) await handle.chmod(0o600);
  return handle;
}
