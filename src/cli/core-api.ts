/** The option that lets a network core alone be asked and told, as an instance's daemon is, and what it needs. */

import { rmSync } from 'node:fs';
import { coreRoutes } from '../api/core-routes.ts';
import { ApiServer } from '../api/server.ts';
import type { Network } from '../network.ts';

/** Listens on a unix socket; the result ends it. */
export async function openApi(network: Network, path: string): Promise<() => Promise<void>> {
  const api = await ApiServer.listen(network, path, coreRoutes);
  return async () => {
    await api.close(0);
    rmSync(path, { force: true });
  };
}
