/**
 * The guest's echo requests to the outside. The stack answers for the gateway and the host alias itself; nothing else
 * is answered on another's behalf: a reply comes from the host that was asked, or not at all. RFC 5508.
 *
 * A guest's identifier (with its address) has a socket of the host, whose identifier stands for it outside; sequence
 * numbers and payloads pass as they are, hop limits less the gateway's own hop, and what routers say about requests that
 * are out of hops is theirs (traceroute). A session lives for `IDLE_MS` after the last request (REQ-2: 60 seconds
 * at least), and a guest with as many as the policy allows loses the one unused longest. What the host hears of
 * unreachability is passed on. Where the host lets nobody send echo requests (net.ipv4.ping_group_range), the guest is
 * told that they are prohibited, and `drops` counts them.
 *
 * The host's way to send them is loaded with the first request; those that come meanwhile wait, `WAITING` at most.
 * No timers: the owner calls `expire` now and then.
 */

import type {
  Address,
  Clock,
  EchoRequest,
  FlowRecord,
  NetstackPort,
  Undelivered,
  UnreachableKind,
} from '../stack/port.ts';
import { formatAddress, formatEndpoint, isIpv4 } from '../stack/wire/address.ts';
import { type EndpointKey, endpointKey } from './endpoint-key.ts';
import { originOf } from './flow-origin.ts';
import { gather, SingleFragment } from './fragment-list.ts';
import type { PolicyRule } from './policy/rule.ts';
import type { Policy } from './policy.ts';
import type { HostEchoHandler, HostEchoPort, HostEchoSocket, HostErrorCode } from './port.ts';
import { isLinkLocal6 } from './scoped-address.ts';

const IDLE_MS = 60_000;
const WAITING = 16;
const LARGEST = 65507;

export interface IcmpProxyOptions {
  readonly policy: Pick<Policy, 'destination' | 'ruleOf' | 'acquire' | 'release'>;
  readonly netstack: Pick<NetstackPort, 'sendEchoReply' | 'sendUnreachable' | 'sendTimeExceeded'>;
  readonly clock: Clock;
  /** Loads what sends echo requests on the host; undefined, also by rejection: the host cannot. */
  readonly load: () => Promise<HostEchoPort | undefined>;
}

const failures: Readonly<Record<HostErrorCode, UnreachableKind>> = {
  ENETUNREACH: 'network',
  ENETDOWN: 'network',
  EACCES: 'prohibited',
  EPERM: 'prohibited',
};

/** A request that outlives the call that brought it. */
interface HeldRequest extends EchoRequest {
  readonly payload: SingleFragment;
}

/** A guest's identifier and the socket that stands for it. */
interface Session {
  readonly key: EndpointKey;
  readonly ingress: number;
  readonly guestAddress: Address;
  readonly identifier: number;
  readonly socket: HostEchoSocket;
  /** Who was asked last. */
  readonly peerAddress: Address;
  by: PolicyRule | undefined;
  usedAtMs: number;
  octetsToGuest: number;
  octetsToHost: number;
}

export class IcmpProxy implements HostEchoHandler {
  readonly #options: IcmpProxyOptions;
  readonly #sessions = new Map<number, Map<EndpointKey, Session>>();
  readonly #waiting: HeldRequest[] = [];
  /** Requests that were not sent, by reason. */
  readonly drops = { denied: 0, limit: 0, 'host-forbids': 0, 'host-failed': 0 };
  #host: HostEchoPort | 'unloaded' | 'loading' | 'none' = 'unloaded';

  constructor(options: IcmpProxyOptions) {
    this.#options = options;
  }

  get sessions(): number {
    let count = 0;
    for (const sessions of this.#sessions.values()) count += sessions.size;
    return count;
  }

  /** An echo request of the guest's (`Forwarder.echo`). */
  echo(request: EchoRequest): void {
    const { policy, netstack, clock } = this.#options;
    const verdict = policy.destination(request.peerAddress, {
      protocol: 'icmp',
      port: 0,
      ingress: request.ingress,
    });
    const { allowed, answer, address } = verdict;
    if (!allowed) {
      this.drops.denied++;
      netstack.sendUnreachable(answer === 'prohibited' ? 'prohibited' : 'host', request);
      return;
    }
    if (typeof this.#host !== 'object' && this.#host !== 'none') {
      this.#hold(request);
      return;
    }
    const session = this.#session(request);
    if (typeof session === 'string') {
      this.drops[session]++;
      netstack.sendUnreachable(session === 'host-forbids' ? 'prohibited' : 'host', request);
      return;
    }
    session.usedAtMs = clock.nowMs();
    session.peerAddress.set(request.peerAddress);
    session.by = policy.ruleOf(verdict);
    session.octetsToHost += request.payload.octets;
    // The gateway is a hop itself. RFC 1812 5.3.1.
    if (session.socket.send(address, request.sequence, request.hopLimit - 1, request.payload)) return;
    this.drops['host-failed']++;
    netstack.sendUnreachable('host', request);
  }

  replied(socket: HostEchoSocket, peerAddress: Address, sequence: number, payload: Uint8Array): void {
    const session = socket.owner as Session;
    const { guestAddress, identifier } = session;
    session.octetsToGuest += payload.length;
    this.#options.netstack.sendEchoReply({ guestAddress, peerAddress, identifier, sequence }, payload);
  }

  failed(
    socket: HostEchoSocket,
    peerAddress: Address,
    sequence: number,
    code: HostErrorCode,
    payload?: Uint8Array,
  ): void {
    const about = undelivered(socket, peerAddress, sequence, payload);
    this.#options.netstack.sendUnreachable(failures[code] ?? 'host', about);
  }

  expired(socket: HostEchoSocket, peerAddress: Address, sequence: number, router: Address, payload?: Uint8Array): void {
    if (isLinkLocal6(router)) return;
    this.#options.netstack.sendTimeExceeded(undelivered(socket, peerAddress, sequence, payload), router);
  }

  flows(): FlowRecord[] {
    const nowMs = this.#options.clock.nowMs();
    return [...this.#sessions.values()].flatMap((sessions) =>
      [...sessions.values()].map((session) => ({
        protocol: 'icmp',
        ...originOf('out', session.by),
        guest: formatEndpoint(session.guestAddress, session.identifier),
        peer: formatAddress(session.peerAddress),
        state: 'open',
        octetsToGuest: session.octetsToGuest,
        octetsToHost: session.octetsToHost,
        idleMs: nowMs - session.usedAtMs,
        waitsFor: 'nothing',
      })),
    );
  }

  /** Gives up what has been idle for too long. */
  expire(): void {
    const limit = this.#options.clock.nowMs() - IDLE_MS;
    for (const sessions of this.#sessions.values())
      for (const session of sessions.values()) if (session.usedAtMs <= limit) this.#remove(session);
  }

  close(): void {
    this.#waiting.length = 0;
    for (const sessions of this.#sessions.values()) for (const session of sessions.values()) this.#remove(session);
    this.#host = 'none';
  }

  /** Keeps a request until the host's way to send it is loaded. */
  #hold(request: EchoRequest): void {
    if (this.#waiting.length === WAITING) return;
    const octets = new Uint8Array(Math.min(request.payload.octets, LARGEST));
    if (gather(request.payload, octets) < 0) return;
    this.#waiting.push({
      ...request,
      guestAddress: Uint8Array.from(request.guestAddress),
      peerAddress: Uint8Array.from(request.peerAddress),
      payload: new SingleFragment(octets),
    });
    if (this.#host === 'loading') return;
    this.#host = 'loading';
    this.#options.load().then(
      (host) => this.#loaded(host),
      () => this.#loaded(undefined),
    );
  }

  #loaded(host: HostEchoPort | undefined): void {
    if (this.#host !== 'loading') return;
    this.#host = host ?? 'none';
    for (const request of this.#waiting.splice(0)) this.echo(request);
  }

  /** A request's session; or why there is none. */
  #session(request: EchoRequest): Session | Exclude<keyof IcmpProxy['drops'], 'denied'> {
    const { ingress, identifier } = request;
    let sessions = this.#sessions.get(ingress);
    if (!sessions) this.#sessions.set(ingress, (sessions = new Map()));
    const key = endpointKey(request.guestAddress, identifier);
    const known = sessions.get(key);
    if (known) return known;
    if (typeof this.#host !== 'object') return 'host-failed';
    const { policy } = this.#options;
    if (!policy.acquire('icmp', ingress)) {
      this.#removeOldest(sessions);
      if (!policy.acquire('icmp', ingress)) return 'limit';
    }
    const socket = this.#host.open(isIpv4(request.peerAddress) ? 4 : 6, this);
    if (typeof socket === 'string') {
      policy.release('icmp', ingress);
      return socket === 'EACCES' || socket === 'EPERM' ? 'host-forbids' : 'host-failed';
    }
    const guestAddress = Uint8Array.from(request.guestAddress);
    const session: Session = {
      key,
      ingress,
      guestAddress,
      identifier,
      socket,
      peerAddress: Uint8Array.from(request.peerAddress),
      by: undefined,
      usedAtMs: 0,
      octetsToGuest: 0,
      octetsToHost: 0,
    };
    socket.owner = session;
    sessions.set(key, session);
    return session;
  }

  #removeOldest(sessions: Map<EndpointKey, Session>): void {
    let oldest: Session | undefined;
    for (const session of sessions.values()) if (!oldest || session.usedAtMs < oldest.usedAtMs) oldest = session;
    if (oldest) this.#remove(oldest);
  }

  #remove(session: Session): void {
    this.#sessions.get(session.ingress)?.delete(session.key);
    session.socket.close();
    this.#options.policy.release('icmp', session.ingress);
  }
}

/** A request of the guest's as it named it, of what the host's socket says. */
function undelivered(
  { owner }: HostEchoSocket,
  peerAddress: Address,
  sequence: number,
  payload: Uint8Array | undefined,
): Undelivered {
  const { guestAddress, identifier, ingress } = owner as Session;
  const quoted = payload && new SingleFragment(payload);
  return { guestAddress, guestPort: 0, peerAddress, peerPort: 0, ingress, identifier, sequence, payload: quoted };
}
