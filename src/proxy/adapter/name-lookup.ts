/**
 * Addresses of names for the HTTP proxy, asked of the same servers that guests' queries go to, at most `QUERIES` at a
 * time: names of the network's own first (built-in names, localhost by RFC 6761 6.3), then the host's hosts file, which is
 * read again when it has changed, then DNS. Nothing of it runs in Node's thread pool.
 */

import { Resolver } from 'node:dns/promises';
import { readFileSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { type Address, formatAddress, parseAddress } from '../../stack/wire/address.ts';
import type { NameTarget } from '../dns/built-in-names.ts';
import type { NameLookupPort } from '../http-proxy/port.ts';
import type { HostResolverPort, ResolverConfig } from '../port.ts';

const QUERIES = 256;
const TIMEOUT_MS = 2500;
const HOSTS_OCTETS = 1 << 20;

const loopback = [parseAddress('127.0.0.1')!];

export class NameLookup implements NameLookupPort {
  readonly #resolvers: HostResolverPort;
  readonly #names: ReadonlyMap<string, NameTarget>;
  readonly #hostsPath: string;
  #hosts: ReadonlyMap<string, readonly Address[]> = new Map();
  #stamp = '';
  #config: ResolverConfig | undefined;
  #resolver: Resolver | undefined;
  #underWay = 0;

  constructor(resolvers: HostResolverPort, names: ReadonlyMap<string, NameTarget>, hostsPath = '/etc/hosts') {
    this.#resolvers = resolvers;
    this.#names = names;
    this.#hostsPath = hostsPath;
  }

  async addressesOf(name: string): Promise<readonly Address[]> {
    const own = this.#names.get(name);
    if (own && own !== 'guest') return own;
    if (name === 'localhost' || name.endsWith('.localhost') || name === hostname().toLowerCase()) return loopback;
    const listed = this.#hostsFile().get(name);
    if (listed) return listed;
    const resolver = this.#current();
    if (!resolver || this.#underWay >= QUERIES) return [];
    this.#underWay++;
    try {
      const none = (): string[] => [];
      const [a, aaaa] = await Promise.all([resolver.resolve4(name).catch(none), resolver.resolve6(name).catch(none)]);
      return [...a, ...aaaa].map(parseAddress).filter((address) => address !== undefined);
    } finally {
      this.#underWay--;
    }
  }

  /** For the servers in force now; undefined: there are none. */
  #current(): Resolver | undefined {
    const config = this.#resolvers.current();
    if (config === this.#config) return this.#resolver;
    this.#config = config;
    this.#resolver = undefined;
    if (config.servers.length === 0) return undefined;
    const resolver = new Resolver({ timeout: TIMEOUT_MS, tries: 2 });
    resolver.setServers(
      config.servers.map(({ address, port }) => {
        const text = formatAddress(address);
        return `${text.includes(':') ? `[${text}]` : text}:${port}`;
      }),
    );
    this.#resolver = resolver;
    return resolver;
  }

  #hostsFile(): ReadonlyMap<string, readonly Address[]> {
    try {
      const { ino, size, mtimeMs } = statSync(this.#hostsPath);
      const stamp = `${ino} ${size} ${mtimeMs}`;
      if (stamp !== this.#stamp && size <= HOSTS_OCTETS) {
        this.#hosts = parseHosts(readFileSync(this.#hostsPath, 'utf8'));
        this.#stamp = stamp;
      }
    } catch {
      this.#hosts = new Map();
      this.#stamp = '';
    }
    return this.#hosts;
  }
}

/** hosts(5): an address and its names on each line. */
function parseHosts(text: string): Map<string, Address[]> {
  const hosts = new Map<string, Address[]>();
  for (const line of text.split('\n')) {
    const [first = '', ...names] = line.replace(/#.*$/, '').trim().split(/\s+/);
    const address = parseAddress(first);
    if (address)
      for (const name of names) hosts.set(name.toLowerCase(), [...(hosts.get(name.toLowerCase()) ?? []), address]);
  }
  return hosts;
}
