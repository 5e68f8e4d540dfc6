/** The daemon's API, as the command line calls it: JSON over `$SLIPWAY_HOME/api.sock`. */

import { Agent, request } from 'undici';
import type { PlatformStatus } from '../api/port.ts';
import type { Home } from '../home.ts';

/** No daemon answers on the socket. */
export class NotRunningError extends Error {
  readonly code = 'NOT_RUNNING';

  constructor() {
    super("slipway is not running; 'slipway up' starts it");
  }
}

export class ApiClient {
  readonly #agent: Agent;

  constructor(home: Home) {
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

  async #call(method: 'GET' | 'PUT' | 'DELETE' | 'POST', path: string, body?: unknown): Promise<unknown> {
    let answer: Awaited<ReturnType<typeof request>>;
    try {
      answer = await request(`http://slipway${path}`, {
        method,
        dispatcher: this.#agent,
        ...(body !== undefined && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
      });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ECONNREFUSED') throw new NotRunningError();
      throw new Error(`the daemon does not answer (${(error as Error).message}); see 'slipway logs slipway'`);
    }
    const value = (await answer.body.json()) as { error?: string };
    if (answer.statusCode >= 400) throw new Error(value.error ?? `the daemon answered ${answer.statusCode}`);
    return value;
  }
}

/** Calls the daemon of the home that the environment names, and closes the connection after it. */
export async function withApi<T>(home: Home, work: (api: ApiClient) => Promise<T>): Promise<T> {
  const api = new ApiClient(home);
  try {
    return await work(api);
  } finally {
    await api.close();
  }
}
