/**
 * The one gate for everything that is dialled on the host on a guest's behalf: TCP, UDP, ICMP, DNS upstreams, proxies.
 * It is asked with an address, after names were resolved, and answers with the host's address to dial or why not.
 *
 * Never dialled, whatever the settings: 0/8 and :: (connect() to them reaches loopback listeners), loopback, link-local
 * (metadata services), multicast, broadcast, reserved, IPv4-compatible addresses, and such IPv4 addresses inside
 * transition formats (NAT64, 6to4). Mapped addresses are IPv4 addresses here (decision 6), so ::ffff:127.0.0.1 is
 * loopback. The host alias is the only way to the host's loopback. The guest's own network is not the host's: what is
 * not served inside it is answered as such a network's router would.
 *
 * State: counts per switch port and kind, against limits. No timers.
 */

import {
  type Address,
  type AddressKind,
  contains,
  equal,
  isIpv4,
  kind,
  ofIpv4,
  type Subnet,
  word,
} from '../stack/wire/address.ts';

export type DenyReason =
  | 'forbidden-address' /** never dialled */
  | 'gateway' /** the gateway itself, at a port that nothing listens on */
  | 'guest-network' /** an address of the guest's network that is not the host's to answer for */
  | 'no-host-loopback'; /** the host alias, where the owner has closed it */

export interface Verdict {
  readonly allowed: boolean;
  /** The host's address to dial; when denied, what was asked for. */
  readonly address: Address;
  readonly reason?: DenyReason;
  /** How a TCP flow is to be refused (TcpConnection.reject), and with it what ICMP answers a datagram. */
  readonly answer?: 'reset' | 'unreachable' | 'prohibited';
}

/** What a guest may only have so many of. */
export type Capped = 'tcp' | 'udp' | 'icmp' | 'dns' | 'dns-stream';

export interface PolicyOptions {
  /** The guest's networks: IPv4, and IPv6 where there is one. */
  readonly subnets: readonly Subnet[];
  readonly gateways: readonly Address[];
  /** Addresses that stand for the host's loopback. */
  readonly hostAliases: readonly Address[];
  /** False: the host alias is closed too. */
  readonly hostLoopback?: boolean;
  /** Per guest (switch port). */
  readonly limits?: Partial<Record<Capped, number>>;
}

export const defaultLimits: Readonly<Record<Capped, number>> = {
  tcp: 16_384,
  udp: 4096,
  icmp: 256,
  dns: 256,
  'dns-stream': 64,
};

const loopback4 = ofIpv4(0x7f000001);
const loopback6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

const dialled = (found: AddressKind): boolean => found === 'private' || found === 'global';

/** The IPv4 address that a transition format carries, or undefined. */
function embedded(address: Address): Address | undefined {
  const first = word(address, 0);
  // RFC 6052 2.1: 64:ff9b::/96.
  if (first === 0x0064ff9b && word(address, 1) === 0 && word(address, 2) === 0) return ofIpv4(word(address, 3));
  // RFC 3056 2: 2002:V4ADDR::/48.
  if (first >>> 16 === 0x2002) return ofIpv4((first << 16) | (word(address, 1) >>> 16));
  return undefined;
}

export class Policy {
  readonly #options: PolicyOptions;
  readonly #limits: Record<Capped, number>;
  readonly #held = new Map<number, Record<Capped, number>>();
  /** Denials by reason and refusals by limit, for counters. */
  readonly denied: Record<DenyReason | `limit-${Capped}`, number> = {
    'forbidden-address': 0,
    gateway: 0,
    'guest-network': 0,
    'no-host-loopback': 0,
    'limit-tcp': 0,
    'limit-udp': 0,
    'limit-icmp': 0,
    'limit-dns': 0,
    'limit-dns-stream': 0,
  };

  constructor(options: PolicyOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
  }

  /** Whether a guest's traffic to `address` may be dialled on the host, and where. */
  destination(address: Address): Verdict {
    const { subnets, gateways, hostAliases, hostLoopback } = this.#options;
    if (hostAliases.some((alias) => equal(alias, address))) {
      if (hostLoopback === false) return this.#deny(address, 'no-host-loopback', 'prohibited');
      return { allowed: true, address: isIpv4(address) ? loopback4 : loopback6 };
    }
    if (gateways.some((gateway) => equal(gateway, address))) return this.#deny(address, 'gateway', 'reset');
    if (subnets.some((subnet) => contains(subnet.address, subnet.prefix, address)))
      return this.#deny(address, 'guest-network', 'unreachable');
    const inner = embedded(address);
    if (!dialled(kind(address)) || (inner && !dialled(kind(inner))))
      return this.#deny(address, 'forbidden-address', 'prohibited');
    return { allowed: true, address };
  }

  #deny(address: Address, reason: DenyReason, answer: 'reset' | 'unreachable' | 'prohibited'): Verdict {
    this.denied[reason]++;
    return { allowed: false, address, reason, answer };
  }

  /** Counts one more of a guest's; false when it has as many as it may. Every true is followed by one `release`. */
  acquire(what: Capped, ingress: number): boolean {
    let held = this.#held.get(ingress);
    if (!held) this.#held.set(ingress, (held = { tcp: 0, udp: 0, icmp: 0, dns: 0, 'dns-stream': 0 }));
    if (held[what] >= this.#limits[what]) {
      this.denied[`limit-${what}`]++;
      return false;
    }
    held[what]++;
    return true;
  }

  release(what: Capped, ingress: number): void {
    const held = this.#held.get(ingress);
    if (held && held[what] > 0) held[what]--;
  }

  held(what: Capped, ingress: number): number {
    return this.#held.get(ingress)?.[what] ?? 0;
  }
}
