/** The little of Docker's API that the built-in proof uses, over the host's docker.sock. */

import { Agent, request } from 'undici';

export class DockerApi {
  readonly #agent: Agent;

  constructor(socketPath: string) {
    this.#agent = new Agent({ connect: { socketPath }, headersTimeout: 120_000, bodyTimeout: 120_000 });
  }

  /** Calls the API; the answer's JSON, undefined when there is none. Rejects with Docker's own words. */
  async call(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<unknown> {
    const tar = body instanceof Uint8Array;
    const answer = await request(`http://docker${path}`, {
      method,
      dispatcher: this.#agent,
      ...(body !== undefined && {
        body: tar ? body : JSON.stringify(body),
        headers: { 'content-type': tar ? 'application/x-tar' : 'application/json' },
      }),
    });
    const text = await answer.body.text();
    if (answer.statusCode >= 400) throw new DockerError(answer.statusCode, messageOf(text));
    if (!String(answer.headers['content-type']).startsWith('application/json')) return undefined;
    // Operations with progress answer several JSON values; an error may be among them.
    const values = text.split(/\r?\n/).filter((line) => line !== '');
    const parsed = values.map((line) => JSON.parse(line) as { error?: string });
    const failed = parsed.find(({ error }) => error !== undefined);
    if (failed) throw new DockerError(500, failed.error!);
    return parsed.at(-1);
  }

  close(): Promise<void> {
    return this.#agent.close();
  }
}

export class DockerError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(`Docker: ${message}`);
    this.status = status;
  }
}

function messageOf(text: string): string {
  try {
    return (JSON.parse(text) as { message?: string }).message ?? text;
  } catch {
    return text.trim();
  }
}
