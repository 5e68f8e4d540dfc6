/**
 * Published ports: what the guest's userland proxies (vm/README.md, Publishing) ask of the host, what of it is granted,
 * and which host listeners exist for it. One `PublishedPort` per request that was granted; it lives until the asker
 * releases it.
 *
 * The bind rule: dockerd cannot tell `-p 8080:80` from `-p 0.0.0.0:8080:80` and starts a second proxy for `::`, so both
 * wildcards stand for the addresses of the setting `ports.bind` of their own family (127.0.0.1 and ::1 by default). A
 * wildcard for which no address is left, such as `::` on a host without IPv6, is granted without a listener: the other
 * wildcard's proxy serves the port. An explicit address is bound as asked.
 *
 * The guest is not trusted: reserved and privileged ports, a number of listeners beyond `ports.limit`, and container
 * addresses that are not the guest's to name are refused, with a text that dockerd shows to the user.
 *
 * Events: `request`, `release`, `reconcile` (settings have changed). No timers of its own but one grace: a port that one
 * of our own closing listeners still holds is asked for again, since a container's old proxy and its new one speak on
 * different streams, whose order is not kept.
 */

import { type Observable, Subject } from 'rxjs';
import {
  type Address,
  type AddressKind,
  contains,
  isIpv4,
  kind,
  parseAddress,
  parseSubnet,
} from '../stack/wire/address.ts';
import { bindError, listenWords, type PortForwarder } from './port-forward.ts';

export interface PublishRequest {
  readonly protocol: 'tcp' | 'udp';
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly containerAddress: string;
  readonly containerPort: number;
}

/** What makes a host listener whose traffic goes through the stack to the guest. */
export type PortExposer = Pick<PortForwarder, 'expose'>;

export interface PublishRules {
  /** Addresses that wildcards stand for. */
  readonly bind: readonly string[];
  readonly reserved: readonly (readonly [first: number, last: number])[];
  readonly limit: number;
  /** Lowest port that needs no privilege; 0: every port is granted. */
  readonly unprivilegedFrom: number;
  /** The gateway's and the host alias's own addresses and whatever else is not a container's, in CIDR form. */
  readonly hostAddresses: readonly string[];
  /** The guest's network has IPv6. */
  readonly ipv6: boolean;
}

export interface PublishedPort extends PublishRequest {
  /** The addresses that are listened on. */
  readonly bound: readonly string[];
  /** Why an address that the settings ask for is not listened on. */
  readonly problem?: string;
}

export type PublishOutcome = { readonly port: number; release(): void } | { readonly refused: string };

interface Listener {
  readonly address: string;
  readonly port: number;
  close(): void;
}

interface Entry {
  readonly request: PublishRequest;
  readonly listeners: Listener[];
  port: number;
  problem: string | undefined;
  released: boolean;
}

const wildcards = new Set(['0.0.0.0', '::']);
/** The host has no such address, or no such family: for a wildcard, nothing to listen on. */
const noAddress = new Set(['EADDRNOTAVAIL', 'EAFNOSUPPORT', 'EPROTONOSUPPORT']);

export class PublishedPorts {
  readonly #exposer: PortExposer;
  #rules: PublishRules;
  readonly #pause: () => Promise<void>;
  readonly #entries = new Set<Entry>();
  readonly #changes = new Subject<void>();
  /** Listeners asked for and not yet there: they count against the limit too. */
  #pending = 0;
  #queue: Promise<void> = Promise.resolve();

  /** `pause` waits for about 50 ms between tries at a port that one of ours is letting go of. */
  constructor(exposer: PortExposer, rules: PublishRules, pause: () => Promise<void>) {
    this.#exposer = exposer;
    this.#rules = rules;
    this.#pause = pause;
  }

  /** Tells that `list()` has changed. */
  get changes(): Observable<void> {
    return this.#changes;
  }

  list(): readonly PublishedPort[] {
    return [...this.#entries].map(({ request, port, listeners, problem }) => ({
      ...request,
      hostPort: port,
      bound: listeners.map(({ address }) => address),
      ...(problem === undefined ? {} : { problem }),
    }));
  }

  /** Grants or refuses; when it is granted, the listeners are there before the promise resolves. */
  async request(request: PublishRequest): Promise<PublishOutcome> {
    const refused = refusal(request, this.#rules);
    if (refused) return { refused };
    const addresses = this.#addressesFor(request);
    if (this.#count() + this.#pending + addresses.length > this.#rules.limit)
      return {
        refused: `${listenWords(request)}: the limit of ${this.#rules.limit} listeners is reached (ports.limit)`,
      };
    this.#pending += addresses.length;
    const entry: Entry = { request, listeners: [], port: request.hostPort, problem: undefined, released: false };
    try {
      for (const address of addresses) await this.#listen(entry, address);
    } catch (error) {
      closeAll(entry);
      return { refused: bindError(request, error).message };
    } finally {
      this.#pending -= addresses.length;
    }
    this.#entries.add(entry);
    this.#changes.next();
    return { port: entry.port, release: () => this.#release(entry) };
  }

  /** Takes new rules; listeners of wildcards follow `bind`. What was granted stays granted. */
  reconcile(rules: PublishRules): Promise<void> {
    this.#rules = rules;
    this.#queue = this.#queue.then(async () => {
      for (const entry of [...this.#entries]) await this.#rebind(entry);
      this.#changes.next();
    });
    return this.#queue;
  }

  close(): void {
    for (const entry of [...this.#entries]) this.#release(entry);
    this.#changes.complete();
  }

  #count(): number {
    let count = 0;
    for (const { listeners } of this.#entries) count += listeners.length;
    return count;
  }

  #addressesFor({ hostAddress, containerAddress }: PublishRequest): readonly string[] {
    if (!wildcards.has(hostAddress)) return [hostAddress];
    // Without IPv6: of a container with both families, the proxy of the IPv4 wildcard serves the port.
    if (containerAddress.includes(':') && !this.#rules.ipv6) return [];
    const ipv6 = hostAddress === '::';
    return this.#rules.bind.filter((address) => address.includes(':') === ipv6);
  }

  async #rebind(entry: Entry): Promise<void> {
    const wanted = this.#addressesFor(entry.request);
    for (const listener of [...entry.listeners])
      if (!wanted.includes(listener.address)) {
        entry.listeners.splice(entry.listeners.indexOf(listener), 1);
        listener.close();
      }
    entry.problem = undefined;
    for (const address of wanted)
      if (!entry.released && !entry.listeners.some((listener) => listener.address === address))
        await this.#listen(entry, address).catch((error: unknown) => {
          entry.problem = bindError({ ...entry.request, hostAddress: address }, error).message;
        });
  }

  async #listen(entry: Entry, address: string): Promise<void> {
    const { protocol, hostAddress, containerAddress, containerPort } = entry.request;
    const what = { protocol, hostAddress: address, hostPort: entry.port };
    for (let tries = 0; ; tries++) {
      try {
        const guest = { guestAddress: containerAddress, guestPort: containerPort };
        const { port, close } = await this.#exposer.expose({ ...what, ...guest });
        if (entry.released) return close();
        entry.port = port;
        entry.listeners.push({ address, port, close });
        return;
      } catch (error) {
        const code = errorCode(error);
        if (wildcards.has(hostAddress) && noAddress.has(code)) return;
        if (code !== 'EADDRINUSE' || tries === 20 || !this.#holds(entry, address)) throw error;
        await this.#pause();
      }
    }
  }

  /** Whether a listener of ours, perhaps about to go, is what stands in the way. */
  #holds(asker: Entry, address: string): boolean {
    for (const { request, listeners, port } of this.#entries)
      if (request.protocol === asker.request.protocol && port === asker.port)
        if (listeners.some((listener) => listener.address === address)) return true;
    return false;
  }

  #release(entry: Entry): void {
    entry.released = true;
    if (!this.#entries.delete(entry)) return;
    closeAll(entry);
    this.#changes.next();
  }
}

function closeAll(entry: Entry): void {
  for (const listener of entry.listeners.splice(0)) listener.close();
}

/** Says why the request is refused before anything is bound, or undefined. */
function refusal(request: PublishRequest, rules: PublishRules): string | undefined {
  const { hostPort, hostAddress, containerAddress } = request;
  const words = listenWords(request);
  if (rules.reserved.some(([first, last]) => hostPort >= first && hostPort <= last))
    return `${words}: the port is reserved on the host (ports.reserved)`;
  if (hostPort !== 0 && hostPort < rules.unprivilegedFrom)
    return `${words}: bind: permission denied: ports below ${rules.unprivilegedFrom} are privileged on the host (ports.privileged)`;
  const host = parseAddress(hostAddress);
  if (!host) return `${words}: not an address`;
  const container = parseAddress(containerAddress);
  if (!container || !guestMayName(container, rules)) return `${containerAddress} is not the address of a container`;
  if (!isIpv4(container) && !rules.ipv6 && !wildcards.has(hostAddress))
    return `${words}: the guest's network has no IPv6, so ${containerAddress} cannot be reached`;
  return undefined;
}

const containerKinds: ReadonlySet<AddressKind> = new Set(['private', 'global'] as const);

function guestMayName(address: Address, rules: PublishRules): boolean {
  if (!containerKinds.has(kind(address))) return false;
  return !rules.hostAddresses.some((range) => {
    const subnet = parseSubnet(range);
    return subnet !== undefined && contains(subnet.address, subnet.prefix, address);
  });
}

function errorCode(error: unknown): string {
  return String((error as { code?: unknown }).code ?? '');
}
