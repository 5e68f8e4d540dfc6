/**
 * The host's name servers and search list from resolv.conf(5), read again when the file changes: it is looked at (one
 * stat, which follows links, so that a swapped link counts) at most once a second, and only while names are asked for.
 * A file that is gone or unreadable means no name server, until it is back.
 */

import { readFileSync, statSync } from 'node:fs';
import type { Clock } from '../../stack/port.ts';
import { parseResolvConf } from '../dns/name-servers.ts';
import type { HostResolverPort, NameServer, ResolverConfig } from '../port.ts';

const LOOK_MS = 1000;
const LARGEST_FILE = 1 << 20;

export class HostResolvers implements HostResolverPort {
  readonly #path: string;
  readonly #clock: Clock;
  #config: ResolverConfig = { servers: [], search: [] };
  #override: readonly NameServer[] | undefined;
  #stamp = '';
  #nextLookMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock, path = '/etc/resolv.conf') {
    this.#clock = clock;
    this.#path = path;
  }

  /** Asks these servers instead of the host's own (the setting `network.dns`); undefined or empty: the host's own again. */
  use(servers: readonly NameServer[] | undefined): void {
    this.#override = servers && servers.length > 0 ? servers : undefined;
    this.#stamp = '';
    this.#nextLookMs = Number.NEGATIVE_INFINITY;
  }

  current(): ResolverConfig {
    const nowMs = this.#clock.nowMs();
    if (nowMs >= this.#nextLookMs) {
      this.#nextLookMs = nowMs + LOOK_MS;
      this.#look();
    }
    return this.#config;
  }

  #look(): void {
    let stamp = 'none';
    let text = '';
    try {
      const { dev, ino, size, mtimeNs } = statSync(this.#path, { bigint: true });
      stamp = `${dev} ${ino} ${size} ${mtimeNs}`;
      if (stamp === this.#stamp) return;
      if (size <= LARGEST_FILE) text = readFileSync(this.#path, 'utf8');
    } catch {
      if (stamp === this.#stamp) return;
    }
    this.#stamp = stamp;
    const { servers, search } = parseResolvConf(text);
    this.#config = { servers: this.#override ?? servers, search };
  }
}
