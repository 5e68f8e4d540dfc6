/** What the guests' HTTP proxy asks of the host's resolver. */

import type { Address } from '../../stack/port.ts';

export interface NameLookupPort {
  /**
   * The addresses of a name in lower case, those included that this machine alone may have for it; empty: there are none,
   * or nobody says. `ingress` is the guest that wants to know. Never rejects.
   */
  addressesOf(name: string, ingress: number): Promise<readonly Address[]>;
}
