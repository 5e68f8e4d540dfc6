/**
 * What is not to go through the upstream proxy, in the forms that `no_proxy` has had over the years: `*`; names, which
 * mean themselves and all below them, with or without a dot or `*.` before; addresses; networks in CIDR form; each but
 * the networks with a port, if one wants. Set apart by commas or blanks.
 */

import { type Address, contains, equal, parseAddress, parseSubnet, type Subnet } from '../../stack/wire/address.ts';
import { parseHost } from './message.ts';

interface Entry {
  readonly name?: string;
  readonly address?: Address;
  readonly subnet?: Subnet;
  /** Undefined: every port. */
  readonly port?: number;
}

/** What is asked about: the name that the client gave, and the addresses that are known for it. */
export interface Asked {
  readonly name?: string | undefined;
  readonly addresses: readonly Address[];
  readonly port: number;
}

export class NoProxy {
  readonly #entries: readonly Entry[];
  readonly #all: boolean;

  private constructor(entries: readonly Entry[], all: boolean) {
    this.#entries = entries;
    this.#all = all;
  }

  /** Throws an Error that names what is no such form. */
  static parse(text: string): NoProxy {
    const words = text.split(/[\s,]+/).filter((word) => word !== '');
    const entries: Entry[] = [];
    for (const word of words) {
      if (word === '*') continue;
      const entry = parseEntry(word);
      if (!entry) throw new Error(`has '${word}', which is no name, address or network`);
      entries.push(entry);
    }
    return new NoProxy(entries, words.includes('*'));
  }

  excludes({ name, addresses, port }: Asked): boolean {
    if (this.#all) return true;
    return this.#entries.some((entry) => {
      if (entry.port !== undefined && entry.port !== port) return false;
      if (entry.name !== undefined) return name === entry.name || (name?.endsWith(`.${entry.name}`) ?? false);
      return addresses.some((one) =>
        entry.subnet ? contains(entry.subnet.address, entry.subnet.prefix, one) : equal(entry.address!, one),
      );
    });
  }
}

function parseEntry(word: string): Entry | undefined {
  const subnet = parseSubnet(word);
  if (subnet) return { subnet };
  const bare = parseAddress(word);
  if (bare) return { address: bare };
  const [, written = '', digits] = /^(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?$/.exec(word) ?? [];
  const port = Number(digits);
  if (digits !== undefined && (port < 1 || port > 65535)) return undefined;
  const atPort = digits === undefined ? {} : { port };
  const host = parseHost(written.replace(/^\*?\./, ''));
  if (host === undefined) return undefined;
  const address = parseAddress(host);
  return address ? { address, ...atPort } : { name: host, ...atPort };
}
