/** The outside of a network as a recording has it: nothing here is the host's. */

import type { Address, Clock, LinkPort, Random } from '../../stack/port.ts';
import type { NetworkRequest, Outside, OutsideHandler, When } from '../outside.ts';
import type {
  HostEchoPort,
  HostNetPort,
  HostResolverPort,
  HostsPort,
  HostsTable,
  ResolverConfig,
  WallClock,
  WallTime,
} from '../port.ts';
import type { Player } from './player.ts';
import { ReplayedEcho } from './recorded-echo.ts';
import { type Pending, ReplayedHostNet } from './replayed-host-net.ts';
import { type LinkDescription, playLinks, ReplayedLink } from './replayed-link.ts';

export class ReplayedOutside implements Outside {
  readonly isRecorded = true;
  readonly clock: Clock;
  readonly wallClock: WallClock;
  readonly random: Random;
  readonly hostNet: HostNetPort;
  readonly resolvers: HostResolverPort;
  readonly hosts: HostsPort;
  readonly #player: Player;
  readonly #promises: Pending[] = [];
  readonly #links: ReplayedLink[] = [];
  readonly #periods: (() => void)[] = [];
  /** What was asked to be called last. */
  readonly #asked: Partial<Record<'soon' | 'quiet' | 'due', () => void>> = {};
  #addresses: readonly Address[] = [];

  constructor(player: Player) {
    this.#player = player;
    this.clock = player.clock;
    this.random = player.random;
    this.hostNet = new ReplayedHostNet(player, this.#promises);
    this.wallClock = {
      read: () => (player.askData('wall time') as WallTime | undefined) ?? NO_TIME,
    };
    let config: ResolverConfig = { servers: [], search: [] };
    this.resolvers = {
      current: () => {
        config = (player.askData('resolvers') as ResolverConfig | undefined) ?? config;
        return config;
      },
    };
    let table: HostsTable = new Map();
    this.hosts = {
      current: () => {
        const now = player.askData('hosts') as [string, Address[]][] | undefined;
        if (now) table = new Map(now);
        return table;
      },
    };
    playLinks(player, this.#links);
    for (const when of ['soon', 'quiet', 'due'] as const) player.on(when, () => this.#run(this.#asked[when]));
    player.on('period', (values) => this.#run(this.#periods[values.number as number]));
    player.on('settled', (values) => this.#promises[values.promise as number]?.settle(values.outcome));
  }

  hostAddresses(): readonly Address[] {
    this.#addresses = (this.#player.askData('host addresses') as Address[] | undefined) ?? this.#addresses;
    return this.#addresses;
  }

  loadEcho(): Promise<HostEchoPort | undefined> {
    const { promise, resolve } = Promise.withResolvers<HostEchoPort | undefined>();
    this.#promises.push({
      settle: (outcome) =>
        resolve((outcome as { loaded: boolean }).loaded ? new ReplayedEcho(this.#player) : undefined),
    });
    this.#player.call('load echo');
    return promise;
  }

  useDns(): void {}

  start(handler: OutsideHandler): void {
    this.#player.on('serviced', () => handler.serviced());
    this.#player.on('turn over', () => handler.turnOver());
  }

  schedule(at: When, run: () => void): void {
    this.#asked[typeof at === 'number' ? 'due' : at] = run;
  }

  every(_periodMs: number, run: () => void): void {
    this.#periods.push(run);
  }

  /** A link as it was described. */
  describedLink(description: LinkDescription): LinkPort {
    const link = new ReplayedLink(description, this.#links.length, this.#player);
    this.#links.push(link);
    return link;
  }

  link(link: LinkPort): LinkPort {
    return link;
  }

  request<T>(_request: NetworkRequest, run: () => T): T {
    return run();
  }

  close(): void {}

  #run(run: (() => void) | undefined): void {
    if (run) run();
    else this.#player.failed('a network that has not asked to be called');
  }
}

const NO_TIME: WallTime = { epochMs: 0, inStep: false, leap: 0, maxErrorMs: 0, precision: 0 };
