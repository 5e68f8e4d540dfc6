/**
 * Progress of anything that takes over two seconds: on a terminal one live line a step, with the seconds so far;
 * elsewhere plain lines, one when a step starts to be slow, one a `PLAIN_EVERY_MS` after that, and one at its end.
 */

const PLAIN_EVERY_MS = 10_000;
const LIVE_EVERY_MS = 120;
const SLOW_MS = 2000;

export interface ProgressOutput {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

export class Progress {
  readonly #output: ProgressOutput;
  readonly #live: boolean;
  #label = '';
  #detail = '';
  #startedMs = 0;
  #saidMs = 0;
  #said = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(output: ProgressOutput = process.stderr) {
    this.#output = output;
    this.#live = output.isTTY === true && process.env.TERM !== 'dumb';
  }

  /** Runs `work` as a step; its label stands until it ends. */
  async step<T>(label: string, work: () => Promise<T>): Promise<T> {
    this.#start(label);
    try {
      const result = await work();
      this.#end(true);
      return result;
    } catch (error) {
      this.#end(false);
      throw error;
    }
  }

  /** What the step is at: shown behind its label. */
  detail(text: string): void {
    this.#detail = text;
    if (!this.#live && this.#label !== '') this.#tick();
  }

  #start(label: string): void {
    this.#label = label;
    this.#detail = '';
    this.#said = false;
    this.#startedMs = this.#saidMs = performance.now();
    this.#timer = setInterval(() => this.#tick(), this.#live ? LIVE_EVERY_MS : 500);
    if (this.#live) this.#tick();
  }

  #tick(): void {
    const now = performance.now();
    const seconds = (now - this.#startedMs) / 1000;
    const detail = this.#detail === '' ? '' : `: ${this.#detail}`;
    if (this.#live) {
      const text = `${this.#label}${detail} (${seconds.toFixed(1)} s)`;
      this.#output.write(`\r\x1b[K${text.slice(0, (this.#output.columns ?? 80) - 1)}`);
      return;
    }
    if (now - this.#saidMs < (this.#said ? PLAIN_EVERY_MS : SLOW_MS)) return;
    this.#output.write(`${this.#label}${detail} ... ${Math.round(seconds)} s\n`);
    this.#said = true;
    this.#saidMs = now;
  }

  #end(ok: boolean): void {
    clearInterval(this.#timer);
    const seconds = ((performance.now() - this.#startedMs) / 1000).toFixed(1);
    if (this.#live) this.#output.write('\r\x1b[K');
    this.#output.write(`${this.#label}: ${ok ? 'done' : 'failed'} in ${seconds} s\n`);
    this.#label = '';
  }
}
