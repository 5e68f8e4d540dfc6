/** Whom the commands about a network ask: the running instance or, with `--api`, a network core alone. */

import { type ApiClient, withApi } from './api-client.ts';
import { currentHome } from './current-home.ts';

/** For `Command.option`. */
export const apiOption = ['--api <path>', "ask 'net serve' or 'net run' with that --api, not the instance"] as const;

export function withNetworkApi<T>(path: string | undefined, work: (api: ApiClient) => Promise<T>): Promise<T> {
  if (path === undefined) return withApi(currentHome(), work);
  return withApi({ apiSocket: path }, work, `nobody answers on ${path}; 'slipway net serve --api ${path}' would`);
}
