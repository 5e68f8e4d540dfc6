/**
 * What a network meets outside of itself, in one place: links, the host's sockets, time, chance, and what the host says
 * of its own addresses, names and name servers. Nothing else that a network does depends on anything but its options, so
 * whoever stands here can keep all of it, and play it back (recording/).
 */

import type { Address, Clock, LinkPort, Random } from '../stack/port.ts';
import type { DnsChoices, HostEchoPort, HostNetPort, HostResolverPort, HostsPort, WallClock } from './port.ts';

/** What the outside tells the network, beside what links and sockets tell. */
export interface OutsideHandler {
  /** Handlers of host sockets were called: the stack is to be polled soon. */
  serviced(): void;
  /** The same, and no more of them follow in this turn of the event loop: it is polled at once. */
  turnOver(): void;
}

/** A replay has to know each of them (src/cli/net-replay.ts). */
export type RequestName =
  | 'attach'
  | 'expose'
  | 'unexpose'
  | 'useConditions'
  | 'useDns'
  | 'useDnsRecords'
  | 'dns'
  | 'usePolicyRules'
  | 'useHostPorts'
  | 'checkPolicy'
  | 'close';

/** What is asked of a network by whoever owns it. */
export interface NetworkRequest {
  readonly name: RequestName;
  /** Plain data. */
  readonly argument?: unknown;
}

/** When something is to be called: soon, when nothing else has come at once (or a little later in any case), or at a time by the clock. */
export type When = number | 'soon' | 'quiet';

export interface Outside {
  readonly clock: Clock;
  readonly wallClock: WallClock;
  readonly random: Random;
  readonly hostNet: HostNetPort;
  readonly resolvers: HostResolverPort;
  readonly hosts: HostsPort;
  /** Addresses that the host has beside its loopback's. */
  hostAddresses(): readonly Address[];
  /** Loads what sends echo requests on the host; undefined: the host cannot. */
  loadEcho(): Promise<HostEchoPort | undefined>;
  /** What is asked for names instead of the host's own; what is undefined or empty: the host's own again. */
  useDns(choices: DnsChoices): void;
  start(handler: OutsideHandler): void;
  /** A later call replaces an earlier time by the clock. */
  schedule(at: When, run: () => void): void;
  /** Calls `run` every so often, until `close`. */
  every(periodMs: number, run: () => void): void;
  /** A link as the network is to have it. */
  link(link: LinkPort): LinkPort;
  /** All of it is kept, or played back: what stands on Node's own sockets (HTTP proxies, entrance) is not to be had. */
  readonly isRecorded: boolean;
  /** Carries out a request of the owner's. */
  request<T>(request: NetworkRequest, run: () => T): T;
  /** Calls nobody any more, and lets go of host sockets. */
  close(): void;
}
