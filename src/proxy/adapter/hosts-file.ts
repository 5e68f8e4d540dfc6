/** The host's hosts(5), as it is now. */

import type { Clock } from '../../stack/port.ts';
import { parseHosts } from '../dns/hosts.ts';
import type { HostsPort, HostsTable } from '../port.ts';
import { ChangingFile } from './changing-file.ts';

const HOSTS = '/etc/hosts';

export class HostsFile implements HostsPort {
  readonly #file: ChangingFile<HostsTable>;

  constructor(clock: Clock) {
    this.#file = new ChangingFile(clock, HOSTS, parseHosts);
  }

  /** Another one from now on; '': none. */
  use(path = HOSTS): void {
    this.#file.use(path);
  }

  current(): HostsTable {
    return this.#file.current();
  }
}
