/** The daemon's API, as the command line calls it: JSON over `$SLIPWAY_HOME/api.sock`. */

import type { Readable } from 'node:stream';
import { Agent, request } from 'undici';
import type { PlatformStatus } from '../api/port.ts';
import type { Home } from '../home.ts';

type Method = 'GET' | 'PUT' | 'DELETE' | 'POST';

/** No daemon answers on the socket. */
export class NotRunningError extends Error {
  readonly code = 'NOT_RUNNING';

  constructor(message = "slipway is not running; 'slipway up' starts it") {
    super(message);
  }
}

export class ApiClient {
  readonly #agent: Agent;
  readonly #absent: string | undefined;

  /** `absent`: what is said when nobody answers there. */
  constructor(home: Pick<Home, 'apiSocket'>, absent?: string) {
    this.#absent = absent;
    this.#agent = new Agent({
      connect: { socketPath: home.apiSocket },
      headersTimeout: 180_000,
      bodyTimeout: 180_000,
    });
  }

  get(path: string): Promise<unknown> {
    return this.#call('GET', path);
  }

  put(path: string, body: unknown): Promise<unknown> {
    return this.#call('PUT', path, body);
  }

  delete(path: string): Promise<unknown> {
    return this.#call('DELETE', path);
  }

  post(path: string): Promise<unknown> {
    return this.#call('POST', path);
  }

  /** An answer that goes on until it is aborted. */
  async stream(path: string, signal: AbortSignal): Promise<Readable> {
    const answer = await this.#request('GET', path, { signal, bodyTimeout: 0 });
    if (answer.statusCode < 400) return answer.body;
    const { error } = (await answer.body.json()) as { error?: string };
    throw new Error(error ?? `the daemon answered ${answer.statusCode}`);
  }

  async status(): Promise<PlatformStatus> {
    return (await this.get('/v1/status')) as PlatformStatus;
  }

  /** The status, or undefined when no daemon answers. */
  async statusIfRunning(): Promise<PlatformStatus | undefined> {
    try {
      return await this.status();
    } catch (error) {
      if (error instanceof NotRunningError) return undefined;
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#agent.close();
  }

  async #call(method: Method, path: string, body?: unknown): Promise<unknown> {
    const json = body !== undefined && {
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
    };
    const answer = await this.#request(method, path, json || {});
    const value = (await answer.body.json()) as { error?: string };
    if (answer.statusCode >= 400) throw new Error(value.error ?? `the daemon answered ${answer.statusCode}`);
    return value;
  }

  async #request(method: Method, path: string, options: Omit<Parameters<typeof request>[1], 'method'>) {
    try {
      return await request(`http://slipway${path}`, { ...options, method, dispatcher: this.#agent });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ECONNREFUSED') throw new NotRunningError(this.#absent);
      throw new Error(`the daemon does not answer (${(error as Error).message}); see 'slipway logs slipway'`);
    }
  }
}

/** Calls the daemon of a home, and closes the connection after it. */
export async function withApi<T>(
  home: Pick<Home, 'apiSocket'>,
  work: (api: ApiClient) => Promise<T>,
  absent?: string,
): Promise<T> {
  const api = new ApiClient(home, absent);
  try {
    return await work(api);
  } finally {
    await api.close();
  }
}
