/**
 * The one gate for everything that is dialled on the host on a guest's behalf: TCP, UDP, ICMP, proxies; and for what
 * comes to published ports. It is asked once per flow, with an address, after names were resolved, and answers with the
 * host's address to dial or why not. What decides, in this order:
 *
 * 1. Never dialled, whatever the settings: loopback, link-local and the like, in any form (policy/closed-addresses.ts). The
 *    guest's own network is not the host's: what is not served inside it is answered as such a network's router would.
 * 2. The host itself: the alias, which alone leads to the host's loopback, and the host's own other addresses, where a
 *    listener on every address answers too. Only to ports that the owner lets guests have.
 * 3. The owner's rules (policy/rule.ts), in order: the first that is about the flow. They narrow 1 and 2, never widen.
 * 4. What no rule is about is allowed.
 *
 * A name in a rule means the addresses that the network's resolver gave this guest for it (policy/resolved-names.ts).
 * Names that the guest itself claims (SNI, Host) can only narrow that: an `allow` wants them to match as well, for a
 * `deny` they are enough. A flow that is open keeps the name that it was let through for, for as long as a rule says so.
 *
 * State: rules and how often each decided, what was denied lately, counts per switch port and kind against limits. No
 * timers.
 */

import type { Clock } from '../stack/port.ts';
import {
  type Address,
  contains,
  equal,
  formatAddress,
  isIpv4,
  kind,
  ofIpv4,
  type Subnet,
} from '../stack/wire/address.ts';
import { embedded, isClosed } from './policy/closed-addresses.ts';
import { type Denial, Denials } from './policy/denials.ts';
import { matchesName, type NamePattern } from './policy/name-pattern.ts';
import { formatPortRanges, includesPort, type PortRanges } from './policy/port-ranges.ts';
import { ResolvedNames } from './policy/resolved-names.ts';
import {
  formatPolicyRule,
  inRuleSubnet,
  isAbout,
  isSameRule,
  isWholeFamily,
  type PolicyProtocol,
  type PolicyRule,
} from './policy/rule.ts';
import type { NameServer } from './port.ts';
import { withoutScope } from './scoped-address.ts';

export type DenyReason =
  | 'forbidden-address' /** never dialled */
  | 'gateway' /** the gateway itself, at a port that nothing listens on */
  | 'guest-network' /** an address of the guest's network that is not the host's to answer for */
  | 'no-host-loopback' /** the host alias, where the owner has closed it */
  | 'host-port' /** the host itself, at a port that guests may not have */
  | 'rule'; /** a rule of the owner's */

/** A flow that the gate is asked about, beside its address. */
export interface PolicyFlow {
  readonly protocol: PolicyProtocol;
  /** Of the address asked about; for `in`, of the host. 0 for ICMP. */
  readonly port: number;
  /** The guest's switch port; undefined: no guest's (what comes to published ports). */
  readonly ingress?: number;
  /** Undefined: out. */
  readonly direction?: 'out' | 'in';
  /** The name that we ourselves have resolved to the address for this flow, as a proxy does. */
  readonly resolvedName?: string;
  /** The name that the guest says it speaks to: SNI, Host. */
  readonly claimedName?: string;
  /** Of a flow that is open: the rule that let it through. A name in it was the address's then, and is so still. */
  readonly allowedBy?: PolicyRule | undefined;
}

/** Which ports of the host guests may have. */
export interface HostPorts {
  /**
   * `all`: every port. `list`: those of `ports`, or without them every port but Docker's API and Slipway's own. `ask`:
   * those of `ports` alone; what else is tried is refused, and shown for the owner to add.
   */
  readonly mode: 'ask' | 'list' | 'all';
  readonly ports?: PortRanges | undefined;
}

export interface Verdict {
  readonly allowed: boolean;
  /** The host's address to dial; when denied, what was asked for. */
  readonly address: Address;
  /** Where to dial when nobody is there: the host's loopback has an address of each family, and servers at one of them. */
  readonly otherwise?: Address;
  readonly reason?: DenyReason;
  /** The rule that decided, from 1; undefined: none did. */
  readonly rule?: number;
  /** How a TCP flow is to be refused (TcpConnection.reject), and with it what ICMP answers a datagram. */
  readonly answer?: 'reset' | 'unreachable' | 'prohibited';
}

/** What a guest may only have so many of. */
export type Capped = 'tcp' | 'udp' | 'icmp' | 'dns' | 'dns-stream' | 'http';

export interface PolicyOptions {
  /** The guest's networks: IPv4, and IPv6 where there is one. */
  readonly subnets: readonly Subnet[];
  readonly gateways: readonly Address[];
  /** Addresses that stand for the host's loopback. */
  readonly hostAliases: readonly Address[];
  /** False: the host alias is closed too. True or undefined: every port but Docker's API and Slipway's own. */
  readonly hostLoopback?: boolean | HostPorts;
  /** The host's own addresses beside its loopback's, as they are now. */
  readonly hostAddresses?: () => readonly Address[];
  /** Ports of the host that Slipway itself listens on, as they are now. */
  readonly ownPorts?: () => readonly number[];
  readonly rules?: readonly PolicyRule[];
  /** Names that stand for addresses of the network itself, whether or not a guest asked for them. */
  readonly names?: ReadonlyMap<string, readonly Address[] | 'guest'>;
  /** For names that were resolved, and for how long ago something was denied. */
  readonly clock?: Clock;
  /** Per guest (switch port). */
  readonly limits?: Partial<Record<Capped, number>>;
}

export const defaultLimits: Readonly<Record<Capped, number>> = {
  tcp: 16_384,
  udp: 4096,
  icmp: 256,
  dns: 256,
  'dns-stream': 64,
  http: 1024,
};

/** What is in force, as `slipway net policy` shows it. */
export interface PolicyReport {
  readonly hostLoopback: HostPorts['mode'] | 'closed';
  /** As they were set; '' for none. */
  readonly hostPorts: string;
  /** Ports of the host that guests never have unless they are named or all are open. */
  readonly ownPorts: readonly number[];
  readonly rules: readonly { readonly rule: string; readonly decided: number }[];
  /** Denied flows and refusals by limit. */
  readonly denied: Readonly<Record<string, number>>;
  readonly denials: readonly Denial[];
}

/** Docker's API over TCP, without and with TLS. */
const DOCKER_API_PORTS: readonly number[] = [2375, 2376];

const loopback4 = ofIpv4(0x7f000001);
/** Stands for an address that is not known. */
const nowhere: Address = new Uint8Array(16);
const loopback6 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

export class Policy {
  readonly #options: PolicyOptions;
  readonly #limits: Record<Capped, number>;
  readonly #held = new Map<number, Record<Capped, number>>();
  readonly #clock: Clock;
  readonly #denials = new Denials();
  /** Told by the resolver. */
  readonly resolved: ResolvedNames;
  /** Grows when what was decided before may be decided differently. */
  generation = 0;
  #rules: readonly PolicyRule[] = [];
  #decided: number[] = [];
  #host: HostPorts | 'closed';
  /** Denials by reason and refusals by limit, for counters. */
  readonly denied: Record<DenyReason | `limit-${Capped}`, number> = {
    'forbidden-address': 0,
    gateway: 0,
    'guest-network': 0,
    'no-host-loopback': 0,
    'host-port': 0,
    rule: 0,
    'limit-tcp': 0,
    'limit-udp': 0,
    'limit-icmp': 0,
    'limit-dns': 0,
    'limit-dns-stream': 0,
    'limit-http': 0,
  };

  constructor(options: PolicyOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#clock = options.clock ?? { nowMs: () => 0 };
    this.resolved = new ResolvedNames(this.#clock);
    this.#host = hostPorts(options.hostLoopback);
    this.useRules(options.rules ?? []);
  }

  /** Whether an answer is worth keeping for a flow: without rules it is always the same, and quickly found. */
  get ruled(): boolean {
    return this.#rules.length > 0;
  }

  /** The rule that decided; undefined: none did. */
  ruleOf({ rule }: Verdict): PolicyRule | undefined {
    return rule === undefined ? undefined : this.#rules[rule - 1];
  }

  get rules(): readonly PolicyRule[] {
    return this.#rules;
  }

  /** From now on. Flows that are open are their owners' to ask about again (`recheck`). */
  useRules(rules: readonly PolicyRule[]): void {
    this.#rules = rules;
    this.#decided = rules.map(() => 0);
    this.resolved.active = rules.some(({ target }) => target !== undefined && 'name' in target);
    this.generation++;
  }

  /** From now on. Flows that are open are their owners' to ask about again (`recheck`). */
  useHostPorts(ports: HostPorts): void {
    if (this.#host === 'closed') return;
    this.#host = ports;
    this.generation++;
  }

  /**
   * Whether a guest's traffic to `address` may be dialled on the host, and where. Without a `flow` it is allowed only
   * where no port and no protocol would be denied by a rule.
   */
  destination(address: Address, flow?: PolicyFlow): Verdict {
    return this.#count(this.check(address, flow), flow);
  }

  /** What is said now of a flow that is open; counted when it is denied, as it ends then. */
  recheck(address: Address, flow: PolicyFlow): Verdict {
    const verdict = this.check(address, flow);
    return verdict.allowed ? verdict : this.#count(verdict, flow);
  }

  /** Whether what comes from `address` on the host's side may enter by a published port. */
  arrival(address: Address, protocol: 'tcp' | 'udp', port: number): Verdict {
    return this.destination(withoutScope(address), { direction: 'in', protocol, port });
  }

  /**
   * Whether a guest's traffic to a name may be handed to somebody else who resolves it, as an upstream proxy does: its
   * address is not ours to know. Rules of a network are not about it, but those of every address are.
   */
  unresolved(name: string, flow: PolicyFlow): Verdict {
    const asked = { ...flow, resolvedName: name };
    return this.#count(this.#byRules(nowhere, nowhere, asked), asked);
  }

  /**
   * Whether guests' queries may go to a name server. The owner's choice of it (or the host's) is as good as an `allow`: it
   * may be on loopback, and of the rules those alone are about it that name its network.
   */
  nameServer({ address, port }: NameServer, protocol: 'udp' | 'tcp'): Verdict {
    const flow: PolicyFlow = { protocol, port };
    const found = kind(address);
    if (found === 'unspecified' || found === 'multicast' || found === 'broadcast')
      return this.#count(deny(address, 'forbidden-address', flow), flow);
    for (const [i, rule] of this.#rules.entries()) {
      const { target, action, direction } = rule;
      if (direction !== 'out' || !target || !('subnet' in target) || isWholeFamily(target.subnet)) continue;
      if (!isAbout(rule, flow) || !inRuleSubnet(target.subnet, withoutScope(address))) continue;
      const verdict = action === 'allow' ? { allowed: true, address } : deny(address, 'rule', flow);
      return this.#count({ ...verdict, rule: i + 1 }, flow);
    }
    return { allowed: true, address };
  }

  /** What `destination` would say; nothing is counted. */
  check(address: Address, flow?: PolicyFlow): Verdict {
    if (flow?.direction === 'in') return this.#byRules(address, address, flow);
    const { subnets, gateways, hostAliases } = this.#options;
    if (hostAliases.some((alias) => equal(alias, address))) {
      if (this.#host === 'closed') return deny(address, 'no-host-loopback', flow);
      if (!this.#mayHave(flow)) return deny(address, 'host-port', flow);
      const verdict = this.#byRules(address, isIpv4(address) ? loopback4 : loopback6, flow);
      return verdict.allowed ? { ...verdict, otherwise: isIpv4(address) ? loopback6 : loopback4 } : verdict;
    }
    if (gateways.some((gateway) => equal(gateway, address))) return deny(address, 'gateway', flow);
    if (subnets.some((subnet) => contains(subnet.address, subnet.prefix, address)))
      return deny(address, 'guest-network', flow);
    if (isClosed(address)) return deny(address, 'forbidden-address', flow);
    if (this.#isHost(embedded(address) ?? address) && !this.#mayHave(flow)) return deny(address, 'host-port', flow);
    return this.#byRules(address, address, flow);
  }

  report(): PolicyReport {
    const ports = this.#host === 'closed' ? undefined : this.#host.ports;
    return {
      hostLoopback: this.#host === 'closed' ? 'closed' : this.#host.mode,
      hostPorts: formatPortRanges(ports ?? []),
      ownPorts: this.#ownPorts(),
      rules: this.#rules.map((rule, i) => ({ rule: formatPolicyRule(rule), decided: this.#decided[i]! })),
      denied: { ...this.denied },
      denials: this.#denials.list(this.#clock.nowMs()),
    };
  }

  /** Addresses of a name of the network's own; undefined: it is none. */
  addressesOf(name: string): readonly Address[] | undefined {
    const found = this.#options.names?.get(name.toLowerCase());
    return found === 'guest' ? undefined : found;
  }

  #ownPorts(): readonly number[] {
    const own = this.#options.ownPorts?.();
    return own && own.length > 0 ? [...DOCKER_API_PORTS, ...own] : DOCKER_API_PORTS;
  }

  #isHost(address: Address): boolean {
    return this.#options.hostAddresses?.().some((own) => equal(own, address)) ?? false;
  }

  /** Whether guests may have a port of the host. An address alone is asked about before its port is known. */
  #mayHave(flow: PolicyFlow | undefined): boolean {
    if (!flow || flow.protocol === 'icmp' || this.#host === 'closed' || this.#host.mode === 'all') return true;
    const { mode, ports = [] } = this.#host;
    if (ports.length > 0 || mode === 'ask') return includesPort(ports, flow.port);
    return !this.#ownPorts().includes(flow.port);
  }

  #byRules(address: Address, dialled: Address, flow: PolicyFlow | undefined): Verdict {
    const rules = this.#rules;
    for (let i = 0; i < rules.length; i++) {
      const rule = rules[i]!;
      if (!this.#decides(rule, address, flow)) continue;
      if (rule.action === 'deny') return { ...deny(address, 'rule', flow), rule: i + 1 };
      return { allowed: true, address: dialled, rule: i + 1 };
    }
    return { allowed: true, address: dialled };
  }

  #decides(rule: PolicyRule, address: Address, flow: PolicyFlow | undefined): boolean {
    if (rule.direction !== (flow?.direction ?? 'out')) return false;
    if (flow ? !isAbout(rule, flow) : rule.action === 'allow' && (rule.protocol || rule.ports)) return false;
    const { target } = rule;
    if (!target) return true;
    if ('subnet' in target) {
      if (address === nowhere) return isWholeFamily(target.subnet);
      if (inRuleSubnet(target.subnet, address)) return true;
      // Whom a transition format leads to is denied by that format as well.
      const inner = rule.action === 'deny' ? embedded(address) : undefined;
      return inner !== undefined && inRuleSubnet(target.subnet, inner);
    }
    const { claimedName, allowedBy } = flow ?? {};
    if (rule.action === 'allow' && allowedBy && isSameRule(rule, allowedBy)) return true;
    const claimed = claimedName === undefined ? undefined : matchesName(target.name, plain(claimedName));
    if (rule.action === 'deny') return claimed === true || this.#isNamed(target.name, address, flow);
    return claimed !== false && this.#isNamed(target.name, address, flow);
  }

  #isNamed(pattern: NamePattern, address: Address, flow: PolicyFlow | undefined): boolean {
    const matches = (name: string): boolean => matchesName(pattern, name);
    const { resolvedName, ingress } = flow ?? {};
    if (resolvedName !== undefined && matches(plain(resolvedName))) return true;
    for (const [name, own] of this.#options.names ?? [])
      if (own !== 'guest' && own.some((one) => equal(one, address)) && matches(name)) return true;
    return this.resolved.some(ingress, address, matches);
  }

  #count(verdict: Verdict, flow: PolicyFlow | undefined): Verdict {
    const { rule, reason, address } = verdict;
    if (rule !== undefined) this.#decided[rule - 1]!++;
    if (reason === undefined) return verdict;
    this.denied[reason]++;
    if (flow) {
      const words = rule === undefined ? undefined : formatPolicyRule(this.#rules[rule - 1]!);
      const to = address === nowhere ? plain(flow.resolvedName ?? '').slice(0, 253) : formatAddress(address);
      this.#denials.add(flow, to, reason, words, this.#clock.nowMs());
    }
    return verdict;
  }

  /** Counts one more of a guest's; false when it has as many as it may. Every true is followed by one `release`. */
  acquire(what: Capped, ingress: number): boolean {
    let held = this.#held.get(ingress);
    if (!held) this.#held.set(ingress, (held = { tcp: 0, udp: 0, icmp: 0, dns: 0, 'dns-stream': 0, http: 0 }));
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

function hostPorts(setting: PolicyOptions['hostLoopback']): HostPorts | 'closed' {
  if (setting === false) return 'closed';
  return setting === undefined || setting === true ? { mode: 'list' } : setting;
}

/** A name as rules have it. */
const plain = (name: string): string => name.toLowerCase().replace(/\.$/, '');

/** A denied connection gets its RST at once; of datagrams and echoes ICMP says that they are prohibited. RFC 1812 5.2.7.1. */
function deny(address: Address, reason: DenyReason, flow: PolicyFlow | undefined): Verdict {
  const answer =
    reason === 'gateway'
      ? 'reset'
      : reason === 'guest-network'
        ? 'unreachable'
        : flow?.protocol === 'tcp'
          ? 'reset'
          : 'prohibited';
  return { allowed: false, address, reason, answer };
}
