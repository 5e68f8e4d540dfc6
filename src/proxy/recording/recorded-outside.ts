/** The outside of a network, of which everything that passes is kept. */

import type { Address, Clock, LinkPort, Random } from '../../stack/port.ts';
import type { NetworkRequest, Outside, OutsideHandler, When } from '../outside.ts';
import type {
  DnsChoices,
  HostEchoPort,
  HostNetPort,
  HostResolverPort,
  HostsPort,
  HostsTable,
  ResolverConfig,
  WallClock,
} from '../port.ts';
import { RecordedEcho } from './recorded-echo.ts';
import { Numbers, RecordedHostNet } from './recorded-host-net.ts';
import { RecordedLink } from './recorded-link.ts';
import type { Recorder } from './recorder.ts';

export class RecordedOutside implements Outside {
  readonly isRecorded = true;
  readonly clock: Clock;
  readonly wallClock: WallClock;
  readonly random: Random;
  readonly hostNet: HostNetPort;
  readonly resolvers: HostResolverPort;
  readonly hosts: HostsPort;
  readonly #outside: Outside;
  readonly #recorder: Recorder;
  readonly #numbers = new Numbers();
  #links = 0;
  #periods = 0;
  #addresses: readonly Address[] | undefined;

  constructor(outside: Outside, recorder: Recorder) {
    this.#outside = outside;
    this.#recorder = recorder;
    this.clock = recorder.clock;
    this.hostNet = new RecordedHostNet(outside.hostNet, recorder, this.#numbers);
    this.random = {
      fill: (into) => {
        recorder.call('random', [into.length], () => outside.random.fill(into));
        recorder.gaveOctets(into);
      },
    };
    this.wallClock = {
      read: () => {
        const time = recorder.call('wall time', [], () => outside.wallClock.read());
        recorder.gaveData(time);
        return time;
      },
    };
    let config: ResolverConfig | undefined;
    this.resolvers = {
      current: () => {
        const now = recorder.call('resolvers', [], () => outside.resolvers.current());
        recorder.gaveData(now === config ? undefined : now);
        config = now;
        return now;
      },
    };
    let table: HostsTable | undefined;
    this.hosts = {
      current: () => {
        const now = recorder.call('hosts', [], () => outside.hosts.current());
        recorder.gaveData(now === table ? undefined : [...now]);
        table = now;
        return now;
      },
    };
  }

  hostAddresses(): readonly Address[] {
    const now = this.#recorder.call('host addresses', [], () => this.#outside.hostAddresses());
    this.#recorder.gaveData(now === this.#addresses ? undefined : now);
    this.#addresses = now;
    return now;
  }

  async loadEcho(): Promise<HostEchoPort | undefined> {
    const recorder = this.#recorder;
    const promise = this.#numbers.promises++;
    const loading = recorder.call('load echo', [], () => this.#outside.loadEcho());
    const echo = await loading.catch(() => undefined);
    recorder.event('settled', [promise, { loaded: echo !== undefined }], () => undefined);
    return echo && new RecordedEcho(echo, recorder);
  }

  useDns(choices: DnsChoices): void {
    this.#outside.useDns(choices);
  }

  start(handler: OutsideHandler): void {
    const recorder = this.#recorder;
    this.#outside.start({
      serviced: () => recorder.event('serviced', [], () => handler.serviced()),
      turnOver: () => recorder.event('turn over', [], () => handler.turnOver()),
    });
  }

  schedule(at: When, run: () => void): void {
    this.#outside.schedule(at, () => this.#recorder.event(typeof at === 'number' ? 'due' : at, [], run));
  }

  every(periodMs: number, run: () => void): void {
    const number = this.#periods++;
    this.#outside.every(periodMs, () => this.#recorder.event('period', [number], run));
  }

  link(link: LinkPort): LinkPort {
    return new RecordedLink(link, this.#links++, this.#recorder);
  }

  request<T>({ name, argument }: NetworkRequest, run: () => T): T {
    return this.#recorder.event('request', [name, argument as object | undefined], run);
  }

  close(): void {
    this.#outside.close();
  }
}
