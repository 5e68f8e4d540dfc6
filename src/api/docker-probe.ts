/**
 * Whether Docker answers on the host's socket. While it does not, `/_ping` is asked every `TRY_MS` (the caller says when
 * it is worth asking); once it does, nothing is polled: Docker's event stream is kept open, and its end means that
 * Docker has gone.
 */

import { BehaviorSubject, type Observable } from 'rxjs';
import { Agent, request } from 'undici';

const TRY_MS = 150;
const TIMEOUT_MS = 5000;

export interface DockerState {
  readonly ready: boolean;
  readonly version?: string;
}

const away: DockerState = { ready: false };

export class DockerProbe {
  readonly #agent: Agent;
  readonly #state = new BehaviorSubject<DockerState>(away);
  #watch: AbortController | undefined;

  constructor(socketPath: string) {
    this.#agent = new Agent({ connect: { socketPath }, headersTimeout: TIMEOUT_MS, bodyTimeout: 0 });
  }

  get state(): DockerState {
    return this.#state.value;
  }

  get changes(): Observable<DockerState> {
    return this.#state;
  }

  /** Asks until Docker answers, and again after it has gone, until `stop`. */
  start(): void {
    if (this.#watch) return;
    this.#watch = new AbortController();
    void this.#follow(this.#watch.signal);
  }

  stop(): void {
    this.#watch?.abort();
    this.#watch = undefined;
    this.#say(away);
  }

  async close(): Promise<void> {
    this.stop();
    this.#state.complete();
    await this.#agent.destroy();
  }

  async #follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.#text('/_ping', signal);
        const { Version } = JSON.parse(await this.#text('/version', signal)) as { Version?: string };
        if (signal.aborted) return;
        this.#say({ ready: true, ...(Version !== undefined && { version: Version }) });
        await this.#untilGone(signal);
      } catch {
        // Not there yet, or gone: asked again below.
      }
      if (signal.aborted) return;
      this.#say(away);
      await new Promise((resolve) => setTimeout(resolve, TRY_MS));
    }
  }

  async #untilGone(signal: AbortSignal): Promise<void> {
    const { body } = await this.#get('/events?filters=%7B%22type%22%3A%5B%22daemon%22%5D%7D', signal);
    for await (const _event of body);
  }

  async #text(path: string, signal: AbortSignal): Promise<string> {
    const { statusCode, body } = await this.#get(path, signal);
    const text = await body.text();
    if (statusCode !== 200) throw new Error(`${path}: ${statusCode}`);
    return text;
  }

  #get(path: string, signal: AbortSignal): ReturnType<typeof request> {
    return request(`http://docker${path}`, { dispatcher: this.#agent, signal });
  }

  #say(state: DockerState): void {
    if (state.ready !== this.state.ready || state.version !== this.state.version) this.#state.next(state);
  }
}
