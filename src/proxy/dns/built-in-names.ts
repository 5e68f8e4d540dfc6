/** The names that this network has for itself, whatever the host's resolvers say of them. */

import type { Address } from '../../stack/wire/address.ts';

/** Whether a name stands for addresses of the network, or for the guest that asks. */
export type NameTarget = readonly Address[] | 'guest';

/** The names Docker Desktop and Podman give the host, the gateway and the machine. */
export function standardNames(
  gateways: readonly Address[],
  hostAliases: readonly Address[],
): ReadonlyMap<string, NameTarget> {
  return new Map<string, NameTarget>([
    ['host.docker.internal', hostAliases],
    ['host.containers.internal', hostAliases],
    ['gateway.docker.internal', gateways],
    ['gateway.containers.internal', gateways],
    ['http.docker.internal', gateways],
    ['vm.docker.internal', 'guest'],
  ]);
}
