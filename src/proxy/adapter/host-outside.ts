/** The outside of a network as it is: the host's sockets, clock, randomness, interfaces and timers. */

import type { Address, Clock, LinkPort } from '../../stack/port.ts';
import type { NetworkRequest, Outside, OutsideHandler, When } from '../outside.ts';
import type { DnsChoices, HostEchoPort, HostNetPort } from '../port.ts';
import { HostClock } from './host-clock.ts';
import { HostResolvers } from './host-resolvers.ts';
import { HostsFile } from './hosts-file.ts';
import { LinuxHostNet } from './linux-host-net.ts';
import { NodeHostNet } from './node-host-net.ts';
import { OwnAddresses } from './own-addresses.ts';
import { RandomPool } from './random-pool.ts';

export interface HostOutsideOptions {
  /** `portable`: through Node alone, also where the system's own calls would be to be had. */
  readonly hostSockets?: 'native' | 'portable' | undefined;
  /** The host's resolv.conf(5). */
  readonly resolvConf?: string | undefined;
}

export class HostOutside implements Outside {
  readonly clock: Clock = { nowMs: () => performance.now() };
  readonly wallClock = new HostClock();
  readonly random = new RandomPool();
  readonly hostNet: HostNetPort;
  readonly resolvers: HostResolvers;
  readonly hosts: HostsFile;
  readonly isRecorded = false;
  /** Calls back when this turn of the event loop is over, or it is quiet, whichever loop serves the sockets. */
  readonly #later: LinuxHostNet['later'];
  readonly #own: OwnAddresses;
  readonly #periods: NodeJS.Timeout[] = [];
  #handler: OutsideHandler | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: HostOutsideOptions = {}) {
    const serviced = (): void => this.#handler?.serviced();
    const turnOver = (): void => this.#handler?.turnOver();
    if (options.hostSockets === 'portable') {
      this.hostNet = new NodeHostNet(serviced);
      this.#later = (_when, run) => void setImmediate(run);
    } else {
      const linux = new LinuxHostNet(serviced, turnOver);
      this.hostNet = linux;
      this.#later = (when, run) => linux.later(when, run);
    }
    this.resolvers = new HostResolvers(this.clock, options.resolvConf);
    this.hosts = new HostsFile(this.clock);
    this.#own = new OwnAddresses(this.clock);
  }

  start(handler: OutsideHandler): void {
    this.#handler = handler;
  }

  hostAddresses(): readonly Address[] {
    return this.#own.current();
  }

  /** Loaded when somebody pings: few do, and the foreign functions it needs are not small. */
  async loadEcho(): Promise<HostEchoPort | undefined> {
    const { LinuxEcho } = await import('./linux-echo.ts');
    return new LinuxEcho(() => this.#handler?.serviced());
  }

  useDns(choices: DnsChoices): void {
    this.resolvers.use(choices);
    this.hosts.use(choices.hostsFile);
  }

  /** A timer that fires too early only makes the network look again: deadlines mostly move away. */
  schedule(at: When, run: () => void): void {
    if (this.#closed) return;
    if (typeof at !== 'number') {
      this.#later(at, run);
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(run, Math.max(1, Math.ceil(at - this.clock.nowMs())));
  }

  every(periodMs: number, run: () => void): void {
    this.#periods.push(setInterval(run, periodMs).unref());
  }

  link(link: LinkPort): LinkPort {
    return link;
  }

  request<T>(_request: NetworkRequest, run: () => T): T {
    return run();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const period of this.#periods) clearInterval(period);
  }
}
