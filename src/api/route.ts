/** One operation of the HTTP API: what it does, what it answers, and its words in the OpenAPI document. */

import type { ServerResponse } from 'node:http';
import type { CaptureRequest } from './capture-stream.ts';
import type { PlatformPort } from './port.ts';

export interface ApiRequest<P = PlatformPort> {
  readonly platform: P;
  /** The part of the path that stands for `{name}`. */
  readonly name: string;
  /** What follows `?` in the request's URL. */
  readonly query: URLSearchParams;
  /** The request's JSON body; undefined when there is none. */
  readonly body: unknown;
}

export type ApiAnswer =
  | { readonly json: unknown; readonly status?: number }
  | { readonly text: string; readonly contentType: string }
  | { readonly events: (response: ServerResponse) => void }
  | { readonly capture: CaptureRequest };

/** An operation of what `P` offers. */
export interface Route<P = PlatformPort> {
  readonly method: 'GET' | 'PUT' | 'DELETE' | 'POST';
  /** Such as `/v1/config/{name}`. */
  readonly path: string;
  readonly summary: string;
  /** Schema of the answer's JSON, by name in `components` of the OpenAPI document. */
  readonly answers: string;
  readonly takes?: string;
  /** Parameters of the query, each with its summary. */
  readonly query?: Readonly<Record<string, string>>;
  readonly answer: (request: ApiRequest<P>) => ApiAnswer | Promise<ApiAnswer>;
}

/** The caller's mistake: becomes an answer of that status with its cause. */
export class RequestError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}
