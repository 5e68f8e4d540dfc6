/**
 * The guest's echo requests to the outside. The stack answers for the gateway and the host alias itself; nothing else
 * is answered on another's behalf: a reply comes from the host that was asked, or not at all. Without a way to send
 * echo requests from the host, the guest is told that the host cannot be reached.
 */

import type { EchoRequest, NetstackPort } from '../stack/port.ts';
import type { Policy } from './policy.ts';

export class IcmpProxy {
  readonly #policy: Pick<Policy, 'destination'>;
  readonly #netstack: Pick<NetstackPort, 'sendUnreachable'>;

  constructor(policy: Pick<Policy, 'destination'>, netstack: Pick<NetstackPort, 'sendUnreachable'>) {
    this.#policy = policy;
    this.#netstack = netstack;
  }

  /** An echo request of the guest's (`Forwarder.echo`). */
  echo(request: EchoRequest): void {
    const { allowed, answer } = this.#policy.destination(request.peerAddress);
    this.#netstack.sendUnreachable(!allowed && answer === 'prohibited' ? 'prohibited' : 'host', request);
  }
}
