/** What the entrance asks of whoever runs containers. */

import type { Address } from '../../stack/port.ts';

export interface ContainerNamesPort {
  /** The address of a container by its name, in any case of letters; undefined: there is none. Rejects where nobody can say. */
  addressOf(name: string): Promise<Address | undefined>;
}
