/**
 * The guest's connections to the outside: a SYN that nobody inside the stack claims is held while the host dials, and
 * answered as the host was: connected is SYN-ACK, refused is RST, unreachable is ICMP's, and a host that never answers
 * is silence, so that the guest sees what it would see on the host's own network. From then on `tcp-splice.ts` joins
 * the two.
 *
 * The host's loopback has an address of each family: where the one that was asked for is nobody's, the other is dialled.
 *
 * Dials do not wait for each other, and are bounded so that a scan of silent addresses blocks nobody (dials.ts);
 * connections in all are the policy's to count. A connection that the policy denies after it has changed is reset on both
 * sides.
 */

import type { Clock, FlowOrigin, TcpConnection } from '../stack/port.ts';
import { Dials } from './dials.ts';
import { originOf } from './flow-origin.ts';
import type { PolicyRule } from './policy/rule.ts';
import type { Policy } from './policy.ts';
import type { HostErrorCode, HostNetPort, HostStream } from './port.ts';
import { guestSide, hostSide, TcpSplice } from './tcp-splice.ts';

type Refusal = Parameters<TcpConnection['reject']>[0];

/** What a failed dial looks like to the guest; what is not listed, such as EMFILE, is a refusal. */
const refusals: Readonly<Record<HostErrorCode, Refusal>> = {
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
  EHOSTDOWN: 'unreachable',
  ENETDOWN: 'unreachable',
  EADDRNOTAVAIL: 'unreachable',
  EAFNOSUPPORT: 'unreachable',
  EACCES: 'prohibited',
  EPERM: 'prohibited',
  ETIMEDOUT: 'silent',
};

export type TcpProxyPolicy = Pick<Policy, 'destination' | 'recheck' | 'ruleOf' | 'acquire' | 'release'>;

/** A connection that the host is dialled for, and then an ordinary splice. */
class Dial extends TcpSplice {
  readonly #dialling: Dials<Dial>;
  /** The rule that let it through. */
  by: PolicyRule | undefined;
  /** Dials where else it may be; undefined: nowhere, or it has been tried. */
  #again: (() => HostStream) | undefined;

  constructor(
    dialling: Dials<Dial>,
    connection: TcpConnection,
    onClosed: () => void,
    again: (() => HostStream) | undefined,
    nowMs: number,
  ) {
    super(onClosed);
    this.#dialling = dialling;
    this.#again = again;
    this.joinConnection(connection);
    dialling.add(this, connection.peerAddress, nowMs);
  }

  override streamConnected(): void {
    this.#dialling.delete(this);
    this.connection?.accept(guestSide);
  }

  override streamClosed(code: HostErrorCode | undefined): void {
    const again = this.#again;
    this.#again = undefined;
    if (again && this.connection && this.#dialling.has(this)) {
      this.joinStream(again());
      return;
    }
    if (this.#dialling.delete(this)) {
      this.connection?.reject(refusals[code ?? ''] ?? 'reset');
      this.connection = undefined;
    }
    super.streamClosed(code);
  }

  /** The policy does not let it be any more. */
  deny(answer: Refusal): void {
    if (!this.#dialling.delete(this)) this.connection?.abort();
    else {
      this.connection?.reject(answer);
      this.#forget();
    }
  }

  giveUp(): void {
    this.connection?.reject('silent');
    this.guestGaveUp();
  }

  guestGaveUp(): void {
    this.#dialling.delete(this);
    this.#forget();
  }

  #forget(): void {
    this.connection = undefined;
    this.stream?.abort();
  }
}

export class TcpProxy {
  readonly #host: HostNetPort;
  readonly #policy: TcpProxyPolicy;
  readonly #clock: Clock;
  /** Dials under way per switch port. */
  readonly #dialling = new Map<number, Dials<Dial>>();
  readonly #open = new Set<Dial>();

  constructor(host: HostNetPort, policy: TcpProxyPolicy, clock: Clock) {
    this.#host = host;
    this.#policy = policy;
    this.#clock = clock;
  }

  /** Dials under way. */
  get dials(): number {
    let count = 0;
    for (const dials of this.#dialling.values()) count += dials.size;
    return count;
  }

  /** A SYN of the guest's (`Forwarder.tcp`). */
  tcp(connection: TcpConnection): void {
    const { ingress, peerPort } = connection;
    const verdict = this.#policy.destination(connection.peerAddress, { protocol: 'tcp', port: peerPort, ingress });
    if (!verdict.allowed) {
      connection.reject(verdict.answer ?? 'prohibited');
      return;
    }
    const dials = this.#dialsOf(ingress);
    const nowMs = this.#clock.nowMs();
    if (!dials.makeRoom(connection.peerAddress, nowMs)) {
      connection.reject('silent');
      return;
    }
    if (!this.#policy.acquire('tcp', ingress)) {
      connection.reject('reset');
      return;
    }
    const { address, otherwise } = verdict;
    const again = otherwise && ((): HostStream => this.#host.connect(otherwise, peerPort, hostSide));
    const closed = (): void => {
      this.#open.delete(dial);
      this.#policy.release('tcp', ingress);
    };
    const dial: Dial = new Dial(dials, connection, closed, again, nowMs);
    dial.by = this.#policy.ruleOf(verdict);
    this.#open.add(dial);
    dial.joinStream(this.#host.connect(address, peerPort, hostSide));
  }

  /** The policy has changed: ends what it denies now. */
  recheck(): void {
    for (const dial of this.#open) {
      if (!dial.connection) continue;
      const { peerAddress, peerPort: port, ingress } = dial.connection;
      const verdict = this.#policy.recheck(peerAddress, { protocol: 'tcp', port, ingress, allowedBy: dial.by });
      if (verdict.allowed) dial.by = this.#policy.ruleOf(verdict);
      else dial.deny(verdict.answer ?? 'prohibited');
    }
  }

  /** How a connection came to be; undefined: it is none of these. */
  originOf({ owner }: TcpConnection): FlowOrigin | undefined {
    return owner instanceof Dial ? originOf('out', owner.by) : undefined;
  }

  /** The guest gave up a SYN that is still held, or its link is gone (`Forwarder.tcpGone`). */
  tcpGone(connection: TcpConnection): void {
    if (connection.owner instanceof Dial) connection.owner.guestGaveUp();
  }

  #dialsOf(ingress: number): Dials<Dial> {
    let dials = this.#dialling.get(ingress);
    if (!dials) this.#dialling.set(ingress, (dials = new Dials()));
    return dials;
  }
}
