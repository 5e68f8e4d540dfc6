/**
 * The stack as a host on a link, with sockets as the ecosystem has them: `connect` and `listen` give connections that
 * are pairs of Web Streams. For whoever wants a network without a VM, in Node or in a browser; nothing here is Node's.
 *
 * It is the edge: clock, randomness and timers are the platform's, unless they are given (a test's fake clock).
 */

import { Capture, type CaptureOptions } from '../link/capture.ts';
import type { Conditions } from '../link/conditions.ts';
import { turns } from '../link/turn.ts';
import { Netstack } from '../netstack.ts';
import { Pipeline } from '../pipeline.ts';
import type { Clock, FlowRecord, Forwarder, LinkPort, Random, TcpConnection } from '../port.ts';
import type { TcpLimits } from '../tcp/limits.ts';
import { type Address, formatAddress, isIpv4, parseAddress, parseSubnet } from '../wire/address.ts';
import { Listener } from './listener.ts';
import { SocketError } from './socket-error.ts';
import { StreamConnection } from './stream-connection.ts';

const BACKLOG = 511;
const EPHEMERAL_FIRST = 49_152;

export interface SocketStackOptions {
  /** Its own address and the network it is in, such as 10.0.0.1/24. */
  readonly address: string;
  /** The same in IPv6, with a prefix of 64 bits, such as fd00::1/64; undefined: it has none. */
  readonly ipv6Address?: string;
  /** Made from the address where it is not given: locally administered. */
  readonly macAddress?: Uint8Array;
  readonly link?: LinkPort;
  /** What comes for addresses that are not its own; refused where nothing is given. */
  readonly forwarder?: Partial<Forwarder>;
  readonly limits?: Partial<TcpLimits>;
  readonly clock?: Clock;
  readonly random?: Random;
  /** Calls `run` soon, or at a time by the clock; a later call replaces an earlier time. */
  readonly schedule?: (at: number | 'soon', run: () => void) => void;
}

export interface ConnectOptions {
  readonly host: string;
  readonly port: number;
  readonly localPort?: number;
  readonly signal?: AbortSignal;
}

export interface ListenOptions {
  /** 0: any that is free. */
  readonly port: number;
  /** Its own address by default. */
  readonly host?: string;
  readonly backlog?: number;
}

export class SocketStack {
  readonly netstack: Netstack;
  readonly pipeline: Pipeline;
  readonly address: string;
  readonly #address: Address;
  readonly #ipv6Address: Address | undefined;
  readonly #clock: Clock;
  readonly #links: LinkPort[] = [];
  readonly #listeners = new Set<Listener>();
  readonly #turn = turns();
  #nextPort = EPHEMERAL_FIRST;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(options: SocketStackOptions) {
    const subnet = parseSubnet(options.address);
    if (!subnet || !isIpv4(subnet.address)) throw new TypeError(`'${options.address}' is not such as 10.0.0.1/24`);
    const ipv6 = options.ipv6Address === undefined ? undefined : parseSubnet(options.ipv6Address);
    if (options.ipv6Address !== undefined && (!ipv6 || isIpv4(ipv6.address) || ipv6.prefix !== 64))
      throw new TypeError(`'${options.ipv6Address}' is not such as fd00::1/64`);
    this.#address = subnet.address;
    this.#ipv6Address = ipv6?.address;
    this.address = formatAddress(subnet.address);
    this.#clock = options.clock ?? { nowMs: () => performance.now() };
    const { forwarder = {}, limits } = options;
    this.netstack = new Netstack({
      macAddress: options.macAddress ?? Uint8Array.of(2, 0, ...subnet.address.subarray(12)),
      gateway: subnet.address,
      hostAlias: subnet.address,
      prefix: subnet.prefix - 96,
      ipv6: ipv6 && { prefix: ipv6.address, gateway: ipv6.address, hostAlias: ipv6.address, isRouter: false },
      clock: this.#clock,
      random: options.random ?? { fill: (into) => void crypto.getRandomValues(into as Uint8Array<ArrayBuffer>) },
      forwarder: {
        tcp: (connection) => connection.reject('reset'),
        udp: () => undefined,
        echo: () => undefined,
        ...forwarder,
      },
      ...(limits && { limits }),
    });
    this.pipeline = new Pipeline({
      netstack: this.netstack,
      clock: this.#clock,
      schedule: options.schedule ?? ((at, run) => this.#schedule(at, run)),
    });
    if (options.link) this.attach(options.link);
  }

  /** Plugs a link in. */
  attach(link: LinkPort): void {
    this.#links.push(link);
    this.pipeline.attach(link);
  }

  /** Resolves when the connection is established; rejects with a `SocketError`, or with the signal's reason. */
  async connect({ host, port, localPort = 0, signal }: ConnectOptions): Promise<StreamConnection> {
    const guestAddress = addressOf(host);
    checkPort(port, 1);
    checkPort(localPort, 0);
    signal?.throwIfAborted();
    if (this.#closed) throw new SocketError('ENETDOWN', 'connect', host, port);
    const { promise, resolve, reject } = Promise.withResolvers<StreamConnection>();
    const peerAddress = isIpv4(guestAddress) ? this.#address : this.#ipv6Address;
    if (!peerAddress) throw new SocketError('ENETUNREACH', 'connect', host, port);
    const to = { guestAddress, guestPort: port, peerAddress, peerPort: localPort };
    const stream = new StreamConnection((handler) => this.netstack.connect(to, handler), {
      established: resolve,
      failed: (error) => reject(signal?.aborted ? signal.reason : error),
    });
    const abort = (): void => stream.abort();
    signal?.addEventListener('abort', abort);
    try {
      return await promise;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /** Accepts connections to a port; throws a `SocketError` with EADDRINUSE where somebody does already. */
  listen({ port, host = this.address, backlog = BACKLOG }: ListenOptions): Listener {
    const address = addressOf(host);
    checkPort(port, 0);
    if (this.#closed) throw new SocketError('ENETDOWN', 'listen', host, port);
    const bound = this.#bind(address, port, host, (connection) => listener.offer(connection));
    const listener = new Listener({
      address: host,
      port: bound,
      backlog,
      unlisten: () => {
        this.netstack.unlistenTcp(address, bound);
        this.#listeners.delete(listener);
      },
    });
    this.#listeners.add(listener);
    return listener;
  }

  /** Makes its links worse from now on: see `parseConditions`. */
  useConditions(conditions: Conditions | undefined): void {
    this.pipeline.condition(conditions);
  }

  /** Captures what passes its links, until the capture is stopped. */
  capture(options: Omit<CaptureOptions, 'epochMs' | 'flows' | 'stopped'>): Capture {
    const epochMs = Date.now() - this.#clock.nowMs();
    const stopped = (): void => subscription.unsubscribe();
    const capture = new Capture({ ...options, epochMs, flows: this.flows(), stopped });
    const subscription = this.pipeline.batches.subscribe((batch) => capture.batch(batch));
    return capture;
  }

  flows(): readonly FlowRecord[] {
    return this.netstack.flows();
  }

  /** Closes listeners and links; connections break. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const listener of this.#listeners) listener.close();
    for (const link of this.#links) link.close();
    clearTimeout(this.#timer);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #bind(address: Address, port: number, host: string, accept: (connection: TcpConnection) => void): number {
    for (let tries = 0; ; tries++) {
      const candidate = port === 0 ? this.#nextPort : port;
      if (port === 0) this.#nextPort = this.#nextPort === 65_535 ? EPHEMERAL_FIRST : this.#nextPort + 1;
      try {
        this.netstack.listenTcp(address, candidate, accept);
        return candidate;
      } catch {
        if (port !== 0 || tries > 65_535 - EPHEMERAL_FIRST) throw new SocketError('EADDRINUSE', 'listen', host, port);
      }
    }
  }

  /** The pipeline's way to be called later. A timer that fires too early only looks again. */
  #schedule(at: number | 'soon', run: () => void): void {
    if (this.#closed) return;
    if (at === 'soon') {
      this.#turn(run);
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(run, Math.max(1, Math.ceil(at - this.#clock.nowMs())));
  }
}

function addressOf(host: string): Address {
  const address = parseAddress(host);
  if (!address) throw new TypeError(`'${host}' is not an IP address`);
  return address;
}

function checkPort(port: number, least: number): void {
  if (!Number.isInteger(port) || port < least || port > 65_535)
    throw new RangeError(`a port is from ${least} to 65535, not ${port}`);
}
