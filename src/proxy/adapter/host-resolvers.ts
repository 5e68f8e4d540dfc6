/** The host's name servers and search list from resolv.conf(5), as they are now, and the owner's choices instead of them. */

import type { Clock } from '../../stack/port.ts';
import { parseResolvConf } from '../dns/name-servers.ts';
import type { HostResolverPort, ResolverConfig } from '../port.ts';
import { ChangingFile } from './changing-file.ts';

export class HostResolvers implements HostResolverPort {
  readonly #file: ChangingFile<ResolverConfig>;
  #override: Partial<ResolverConfig> = {};

  constructor(clock: Clock, path = '/etc/resolv.conf') {
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
    return this.#file.current();
  }
}
