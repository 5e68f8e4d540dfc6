/** The parts of IPv6, put together: what a netstack with an IPv6 identity has beside its IPv4. */

import type { Reassembly } from './fragments.ts';
import { Icmpv6 } from './icmpv6.ts';
import type { Identity } from './identity.ts';
import type { Transport } from './ipv4.ts';
import { Ipv6Input } from './ipv6.ts';
import type { Ipv6Identity } from './ipv6-identity.ts';
import { Ipv6Output } from './ipv6-output.ts';
import type { KeyedHash } from './keyed-hash.ts';
import { Ndp } from './ndp.ts';
import type { NeighborCacheOptions } from './neighbor-cache.ts';
import type { Packet } from './packet.ts';
import { PathMtus } from './path-mtus.ts';
import type { Forwarder } from './port.ts';
import { RouterAdvertiser } from './router-advertiser.ts';

export interface Ipv6StackOptions extends NeighborCacheOptions {
  readonly identity: Identity;
  readonly ipv6: Ipv6Identity;
  readonly hash: KeyedHash;
  readonly forwarder: Forwarder;
}

/** What is above: made after this, as it sends through this. */
interface Above {
  readonly reassembly: Reassembly;
  readonly udp: Transport;
  readonly tcp: Transport;
}

export class Ipv6 {
  readonly pathMtus = new PathMtus();
  readonly output: Ipv6Output;
  readonly ndp: Ndp;
  readonly icmpv6: Icmpv6;
  declare input: Ipv6Input;
  readonly #options: Ipv6StackOptions;
  readonly #advertiser: RouterAdvertiser;

  constructor(options: Ipv6StackOptions) {
    this.#options = options;
    const { pathMtus } = this;
    const output = new Ipv6Output(options.identity, options.drops, pathMtus, options.random());
    this.output = output;
    this.#advertiser = new RouterAdvertiser({ ...options, output });
    const solicited = (packet: Packet, mac: number): void => {
      if (options.ipv6.isRouter) this.#advertiser.solicited(packet, mac);
    };
    this.ndp = new Ndp({ ...options, output, solicited });
    this.icmpv6 = new Icmpv6({ ...options, output, ndp: this.ndp, pathMtus });
  }

  start(above: Above): void {
    this.input = new Ipv6Input({ ...this.#options, ...above, ndp: this.ndp, icmpv6: this.icmpv6 });
  }

  /** A link is new. */
  attached(nowMs: number): void {
    if (this.#options.ipv6.isRouter) this.#advertiser.attached(nowMs);
  }

  /** The network ends. */
  close(): void {
    if (this.#options.ipv6.isRouter) this.#advertiser.cease();
  }
}
