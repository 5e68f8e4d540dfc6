/**
 * The capture that the setting `network.capture` asks for, changed while everything runs: frames that its filter picks go
 * into the log folder's capture.pcapng, the one before beside it as capture.pcapng.1, each bounded. One capture at a time;
 * the file of the one before is written over.
 */

import type { Capture, CaptureOptions } from '../stack/link/capture.ts';
import { parseCaptureFilter } from '../stack/link/capture-filter.ts';
import { CaptureFile } from './capture-file.ts';

const FILE_OCTETS = 64 << 20;

export interface CaptureSettingOptions {
  readonly path: string;
  readonly open: (options: Pick<CaptureOptions, 'sink' | 'filter' | 'fileOctets'>) => Capture;
  readonly log: (line: string) => void;
}

export class CaptureSetting {
  readonly #options: CaptureSettingOptions;
  #file: CaptureFile | undefined;
  #queue: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: CaptureSettingOptions) {
    this.#options = options;
  }

  /** Takes over another value; resolves when it is in force. One at a time, in order. */
  use(value: string): Promise<void> {
    this.#queue = this.#queue.then(() => this.#take(value));
    return this.#queue;
  }

  /** Resolves when all that was captured is in the file. */
  close(): Promise<void> {
    this.#closed = true;
    return this.use('');
  }

  async #take(value: string): Promise<void> {
    const { path, open, log } = this.#options;
    await this.#file?.close();
    this.#file = undefined;
    if (value === '' || this.#closed) return;
    try {
      const filter = value === 'all' ? undefined : parseCaptureFilter(value);
      const file = await CaptureFile.create(path, { failed: (error) => log(`network.capture: ${error.message}`) });
      file.follow(open({ sink: file, filter, fileOctets: FILE_OCTETS }));
      this.#file = file;
      log(`network.capture: ${value} goes into ${path}`);
    } catch (error) {
      log(`network.capture: ${(error as Error).message}; nothing is captured`);
    }
  }
}
