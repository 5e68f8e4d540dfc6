/**
 * The host's name servers and search list from resolv.conf(5), as they are now, and the owner's choices instead of them.
 *
 * A link-local server is known by its interface (fe80::1%eth0), whose number is looked up here: interfaces come and go
 * without the file's changing. One whose interface is not there is left out for as long.
 */

import type { Clock } from '../../stack/port.ts';
import { parseResolvConf } from '../dns/name-servers.ts';
import type { HostResolverPort, NameServer, ResolverConfig } from '../port.ts';
import { withScope } from '../scoped-address.ts';
import { ChangingFile } from './changing-file.ts';
import { interfaceScope } from './interface-scope.ts';

/** How long an interface's number holds. */
const SCOPE_MS = 1000;

export class HostResolvers implements HostResolverPort {
  readonly #clock: Clock;
  readonly #scope: (zone: string) => number | undefined;
  readonly #file: ChangingFile<ResolverConfig>;
  #override: Partial<ResolverConfig> = {};
  /** What the file says with interfaces by name, and by number; with the numbers that those are. */
  #named: ResolverConfig | undefined;
  #scoped: ResolverConfig = { servers: [], search: [] };
  #scopes = '';
  #nextScopesMs = Number.POSITIVE_INFINITY;

  constructor(clock: Clock, path = '/etc/resolv.conf', scope = interfaceScope) {
    this.#clock = clock;
    this.#scope = scope;
    this.#file = new ChangingFile(clock, path, (text) => {
      const { servers, search } = parseResolvConf(text);
      const { servers: chosen, zones, search: domains } = this.#override;
      return {
        servers: chosen && chosen.length > 0 ? chosen : servers,
        search: domains && domains.length > 0 ? domains : search,
        ...(zones && { zones }),
      };
    });
  }

  /** Asks these instead of the host's own (settings `network.dns...`); what is undefined or empty: the host's own again. */
  use(override: Partial<ResolverConfig>): void {
    this.#override = override;
    this.#file.use();
  }

  current(): ResolverConfig {
    const config = this.#file.current();
    if (config !== this.#named || this.#clock.nowMs() >= this.#nextScopesMs) this.#resolve(config);
    return this.#scoped;
  }

  #resolve(config: ResolverConfig): void {
    const named = zonesOf(config);
    const scopes = new Map(named.map((zone) => [zone, this.#scope(zone)]));
    const text = JSON.stringify([...scopes]);
    this.#nextScopesMs = named.length === 0 ? Number.POSITIVE_INFINITY : this.#clock.nowMs() + SCOPE_MS;
    if (config === this.#named && text === this.#scopes) return;
    this.#named = config;
    this.#scopes = text;
    this.#scoped = named.length === 0 ? config : scoped(config, scopes);
  }
}

/** Of every server, the names of interfaces. */
const zonesOf = ({ servers, zones = [] }: ResolverConfig): string[] =>
  [servers, ...zones.map((zone) => zone.servers)].flat().flatMap(({ zone }) => (zone === undefined ? [] : [zone]));

function scoped(config: ResolverConfig, scopes: ReadonlyMap<string, number | undefined>): ResolverConfig {
  const known = (servers: readonly NameServer[]): NameServer[] =>
    servers.flatMap((server) => {
      if (server.zone === undefined) return [server];
      const scope = scopes.get(server.zone);
      return scope === undefined ? [] : [{ ...server, address: withScope(server.address, scope) }];
    });
  return {
    ...config,
    servers: known(config.servers),
    ...(config.zones && { zones: config.zones.map((zone) => ({ ...zone, servers: known(zone.servers) })) }),
  };
}
