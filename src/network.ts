/**
 * The composition root of the network core alone: one netstack with its DHCP, DNS and NTP servers, the policy gate, the
 * proxies to the host's sockets and the published ports. Links are attached to it.
 *
 * Work wakes the stack, everything that has become ready in one turn of the event loop is followed by one `poll` (so that
 * what goes out goes in one write), and one timer stands for all of the stack's and the DNS server's. Nothing keeps the
 * process alive but links and sockets. What a network has from elsewhere, it has from its `Outside`.
 */

import type { Entrance, EntranceOptions } from './proxy/adapter/entrance.ts';
import { HostOutside } from './proxy/adapter/host-outside.ts';
import { DhcpServer } from './proxy/dhcp.ts';
import { Dhcpv6Server } from './proxy/dhcpv6.ts';
import { standardNames } from './proxy/dns/built-in-names.ts';
import type { NameLookup, Resolver } from './proxy/dns/name-lookup.ts';
import type { DnsRecord } from './proxy/dns/records.ts';
import { DnsForwarder, type DnsReport } from './proxy/dns.ts';
import type { GuestProxy } from './proxy/http-proxy/guest-proxy.ts';
import type { ProxySettings } from './proxy/http-proxy/guest-routes.ts';
import { IcmpProxy } from './proxy/icmp-proxy.ts';
import { NtpServer } from './proxy/ntp.ts';
import type { Outside, RequestName } from './proxy/outside.ts';
import { checkPolicy, type PolicyAnswer, type PolicyQuestion } from './proxy/policy/explanation.ts';
import type { PolicyRule } from './proxy/policy/rule.ts';
import { type HostPorts, Policy, type PolicyReport } from './proxy/policy.ts';
import type { DnsChoices } from './proxy/port.ts';
import { type ExposedPort, type ExposeRequest, PortForwarder } from './proxy/port-forward.ts';
import { guestSubnet6, hostOf6, ofFamily } from './proxy/subnet6.ts';
import { TcpProxy } from './proxy/tcp-proxy.ts';
import { UdpProxy } from './proxy/udp-proxy.ts';
import { FrameMemory } from './stack/frame-memory.ts';
import { linkLocalOf } from './stack/ipv6-identity.ts';
import { Capture, type CaptureOptions } from './stack/link/capture.ts';
import type { ConditionCounts } from './stack/link/conditioned-link.ts';
import type { Conditions } from './stack/link/conditions.ts';
import { Switch } from './stack/link/switch.ts';
import { Netstack } from './stack/netstack.ts';
import { Pipeline } from './stack/pipeline.ts';
import type { FlowRecord, Forwarder, LinkPort } from './stack/port.ts';
import { type Address, ipv4Word, ofIpv4, parseSubnet, type Subnet } from './stack/wire/address.ts';
import { macOfBytes } from './stack/wire/ethernet.ts';
import { MINIMUM_MTU } from './stack/wire/ipv6.ts';

/** How often idle UDP mappings are looked for. */
const EXPIRE_MS = 30_000;
/** Where guests find an HTTP proxy on the gateway: the port that VPNKit and others have. */
const PROXY_PORT = 3128;
/** The gateway's MAC address: locally administered, the one that VPNKit has. */
const GATEWAY_MAC = Uint8Array.of(0xf6, 0x16, 0x36, 0xbc, 0xf9, 0xc6);

export interface NetworkOptions {
  /** CIDR form. The gateway is its host number 1, the host alias 2, guests are from 3 on. */
  readonly subnet: string;
  /** Their /64 of IPv6, with the same host numbers; `auto` (and undefined): one that goes with `subnet`; `off`: none. */
  readonly subnet6?: string;
  /** Told to guests by DHCP. */
  readonly mtu: number;
  /** Whom DNS queries go to; what is undefined or empty: the host's own name servers, as `resolvConf` has them. */
  readonly dns?: DnsChoices;
  readonly resolvConf?: string;
  /** Names that are answered here. */
  readonly dnsRecords?: readonly DnsRecord[];
  /**
   * The one guest of the first link, known before it says anything: it has the first guest's address, and what lies
   * behind guests (containers) is behind it. A network that is made anew under a running guest needs to know it.
   */
  readonly guestMacAddress?: Uint8Array;
  /** `portable`: through Node alone, also where the system's own calls would be to be had. */
  readonly hostSockets?: 'native' | 'portable';
  /** Which ports of the host guests may have. False: the host alias does not lead to the host's loopback. */
  readonly hostLoopback?: boolean | HostPorts;
  /** What guests may reach, and what may come to published ports: the first that is about a flow decides. */
  readonly policyRules?: readonly PolicyRule[];
  /** Several guests: what is attached is plugged into a switch, by which they reach each other. */
  readonly switched?: boolean;
  /** Guests may send from addresses that they were leased alone. */
  readonly leasesOnly?: boolean;
  /** Makes the guests' network worse: see `useConditions`. */
  readonly conditions?: Conditions | undefined;
  /** Everything that is not the network's own; undefined: the host itself. */
  readonly outside?: Outside;
}

/** Addresses of a network, by their host numbers. */
export interface NetworkAddresses {
  readonly gateway: Address;
  readonly hostAlias: Address;
  readonly firstGuest: Address;
  /** The same of its IPv6 prefix; undefined: it has none. */
  readonly ipv6: Omit<NetworkAddresses, 'ipv6'> | undefined;
}

export class Network {
  readonly addresses: NetworkAddresses;
  /** Where send queues live, and where links should have their frames: checksums are cheapest there. */
  readonly memory = new FrameMemory();
  readonly #outside: Outside;
  readonly #netstack: Netstack;
  readonly #tcp: TcpProxy;
  /** Where the stack hands over what nobody inside claims. */
  readonly #outward: { -readonly [K in keyof Forwarder]: Forwarder[K] };
  readonly #policy: Policy;
  /** Guests' HTTP, once somebody asks for a proxy, or one is to be asked. */
  #guestProxy: Promise<GuestProxy> | undefined;
  #proxySettings: ProxySettings | undefined;
  readonly #dns: DnsForwarder;
  readonly #dhcp: DhcpServer;
  readonly #dhcpv6: Dhcpv6Server | undefined;
  readonly #ntp: NtpServer;
  readonly #udp: UdpProxy;
  readonly #icmp: IcmpProxy;
  readonly #forwarder: PortForwarder;
  readonly #guestMacAddress: Uint8Array | undefined;
  readonly #links = new Set<LinkPort>();
  readonly #captures = new Set<Capture>();
  readonly #entrances = new Set<Entrance>();
  readonly #subnet: Subnet;
  /** By IP version. */
  readonly #gateways: readonly Address[];
  readonly #switch: Switch | undefined;
  /** Links by their switch ports' numbers, as the switch made them. */
  readonly #plugged = new Map<number, LinkPort>();
  readonly #pipeline: Pipeline;
  /** Asked for so far. */
  #exposures = 0;
  #closed = false;

  constructor(options: NetworkOptions) {
    const subnet = parseSubnet(options.subnet);
    if (!subnet || subnet.prefix < 96) throw new Error(`'${options.subnet}' is not a subnet such as 192.168.65.0/24`);
    this.#subnet = subnet;
    // RFC 8200 5: a link of IPv6 takes 1280 octets at least.
    const subnet6 = options.mtu < MINIMUM_MTU ? undefined : guestSubnet6(options.subnet6 ?? 'auto', subnet);
    const { gateway, hostAlias, firstGuest, ipv6 } = (this.addresses = addressesOf(subnet, subnet6));
    const subnets = subnet6 ? [subnet, subnet6] : [subnet];
    const gateways = ipv6 ? [gateway, ipv6.gateway] : [gateway];
    const hostAliases = ipv6 ? [hostAlias, ipv6.hostAlias] : [hostAlias];
    this.#gateways = gateways;
    this.#guestMacAddress = options.guestMacAddress;
    const outside = (this.#outside = options.outside ?? new HostOutside(options));
    const { clock, random, hostNet, resolvers } = outside;
    const names = standardNames(gateways, hostAliases);
    const policy = new Policy({
      subnets,
      gateways,
      hostAliases,
      hostAddresses: () => outside.hostAddresses(),
      ownPorts: () => [...this.#entrances].map(({ port }) => port).filter((port) => port !== 0),
      hostLoopback: options.hostLoopback ?? true,
      rules: options.policyRules ?? [],
      names,
      clock,
    });
    this.#policy = policy;
    const tcp = new TcpProxy(hostNet, policy, clock);
    const netstack: Netstack = new Netstack({
      macAddress: GATEWAY_MAC,
      gateway,
      hostAlias,
      prefix: subnet.prefix - 96,
      ...(subnet6 && {
        ipv6: { prefix: subnet6.address, searchDomains: () => resolvers.current().search, dhcp: 'addresses' },
      }),
      clock,
      memory: this.memory,
      random,
      forwarder: (this.#outward = {
        tcp: (connection) => tcp.tcp(connection),
        tcpGone: (connection) => tcp.tcpGone(connection),
        udp: (datagram) => this.#udp.udp(datagram),
        echo: (request) => this.#icmp.echo(request),
      }),
    });
    this.#tcp = tcp;
    this.#icmp = new IcmpProxy({ policy, netstack, clock, load: () => outside.loadEcho() });
    this.#netstack = netstack;
    this.#udp = new UdpProxy({ host: hostNet, policy, netstack, clock, hostAliases });
    this.#forwarder = new PortForwarder({ host: hostNet, netstack, clock, gateways, policy });
    outside.useDns(options.dns ?? {});
    this.#dns = new DnsForwarder(
      { netstack, hostNet, resolvers, hosts: outside.hosts, policy, resolved: policy.resolved, clock, random },
      { addresses: gateways, names, hostAliases },
    );
    this.#dns.useRecords(options.dnsRecords ?? []);
    if (!outside.isRecorded)
      for (const address of gateways)
        netstack.listenTcp(address, PROXY_PORT, (connection) => {
          void this.#loadGuestProxy().then((proxy) => proxy.accept(connection));
        });
    this.#pipeline = new Pipeline({
      netstack,
      services: [this.#dns, { pollAt: () => Number.POSITIVE_INFINITY, poll: () => hostNet.flush?.() }],
      clock,
      schedule: (at, run) => {
        if (!this.#closed) outside.schedule(at, run);
      },
      whenQuiet: (run) => {
        if (!this.#closed) outside.schedule('quiet', run);
      },
    });
    outside.start({ serviced: () => this.#pipeline.wake(), turnOver: () => this.#pipeline.run() });
    this.#pipeline.condition(options.conditions);
    if (options.switched || options.leasesOnly) {
      const own = [...gateways, ...hostAliases, linkLocalOf(GATEWAY_MAC)];
      const strict = options.leasesOnly ?? false;
      this.#switch = new Switch({ clock, macAddress: GATEWAY_MAC, own, subnets, strict });
    }
    const search = (): readonly string[] => resolvers.current().search;
    const bindings = {
      bound: (address: Address, ingress: number, macAddress: Uint8Array) => this.#bind(address, ingress, macAddress),
      unbound: (address: Address) => {
        netstack.unpinNeighbor(address);
        this.#switch?.unbind(address);
      },
    };
    this.#dhcp = new DhcpServer(
      netstack,
      {
        subnet,
        gateway,
        dns: [gateway],
        ntp: [gateway],
        reserved: [hostAlias],
        first: firstGuest,
        mtu: options.mtu,
        search,
        ...(options.guestMacAddress && { fixed: new Map([[macOfBytes(options.guestMacAddress), firstGuest]]) }),
        ...bindings,
      },
      clock,
    );
    const network = ipv4Word(subnet.address);
    this.#dhcpv6 =
      subnet6 &&
      new Dhcpv6Server(
        netstack,
        {
          prefix: subnet6,
          address: linkLocalOf(GATEWAY_MAC),
          macAddress: GATEWAY_MAC,
          dns: [hostOf6(subnet6, 1)],
          search,
          hostNumber: (mac, ingress) => {
            const leased = this.#dhcp.leasedTo(mac, ingress);
            return leased && ipv4Word(leased) - network;
          },
          ...bindings,
        },
        clock,
      );
    this.#ntp = new NtpServer(netstack, gateways, outside.wallClock);
    outside.every(EXPIRE_MS, () => {
      this.#udp.expire();
      this.#icmp.expire();
      this.#forwarder.expire();
    });
  }

  /** Plugs a link in; returns its switch port's number. */
  attach(link: LinkPort): number {
    const { name, mtu, offload } = link;
    return this.#request('attach', { name, mtu, offload }, () => this.#attach(this.#outside.link(link)));
  }

  #attach(link: LinkPort): number {
    let plugged: LinkPort | undefined;
    const ingress = this.#pipeline.attach(link, (tapped) => (plugged = this.#switch?.plug(tapped) ?? tapped));
    if (this.#switch && plugged) this.#plugged.set(ingress, plugged);
    if (this.#guestMacAddress && this.#links.size === 0) {
      const { firstGuest, ipv6 } = this.addresses;
      this.#bind(firstGuest, ingress, this.#guestMacAddress);
      this.#netstack.route(ofIpv4(0), 0, firstGuest);
      if (ipv6) {
        this.#bind(ipv6.firstGuest, ingress, this.#guestMacAddress);
        this.#netstack.route(new Uint8Array(16), 0, ipv6.firstGuest);
      }
    }
    this.#links.add(link);
    return ingress;
  }

  /** Captures the frames of every link from now on, until the capture is stopped. Several may run. */
  capture(options: Pick<CaptureOptions, 'sink' | 'filter' | 'snapOctets' | 'fileOctets' | 'stopped'>): Capture {
    const epochMs = Date.now() - performance.now();
    const stopped = (): void => {
      subscription.unsubscribe();
      this.#captures.delete(capture);
      options.stopped?.();
    };
    const capture = new Capture({ ...options, epochMs, flows: this.flows(), stopped });
    const subscription = this.#pipeline.batches.subscribe((batch) => capture.batch(batch));
    this.#captures.add(capture);
    return capture;
  }

  /** Makes the guests' network worse from now on, or as it was again. */
  useConditions(conditions: Conditions | undefined): void {
    this.#request('useConditions', conditions, () => this.#pipeline.condition(conditions));
  }

  /** What makes it worse now. */
  conditions(): Conditions | undefined {
    return this.#pipeline.conditions;
  }

  /** What conditions have done to frames, link by link. */
  conditionCounts(): Readonly<ConditionCounts>[] {
    return this.#pipeline.conditionCounts();
  }

  /** Publishes a port of a guest, or of a container behind it, on the host. */
  async expose(request: ExposeRequest): Promise<ExposedPort> {
    const number = this.#exposures++;
    const exposed = await this.#request('expose', request, () => this.#forwarder.expose(request));
    return { port: exposed.port, close: () => this.#request('unexpose', number, () => exposed.close()) };
  }

  /** Opens a way of the host's to guests and containers by their own addresses; it closes with the network. */
  async openEntrance(options: Pick<EntranceOptions, 'at' | 'credential' | 'names'>): Promise<Entrance> {
    if (this.#outside.isRecorded) throw new Error('an entrance cannot be recorded: it stands on sockets of its own');
    const [{ Entrance }, { GuestStream }, { openGuestDatagrams }] = await Promise.all([
      import('./proxy/adapter/entrance.ts'),
      import('./proxy/adapter/guest-stream.ts'),
      import('./proxy/entrance/guest-datagrams.ts'),
    ]);
    const { gateway, hostAlias, firstGuest, ipv6 } = this.addresses;
    const own = [...this.#gateways, hostAlias, ...(ipv6 ? [ipv6.hostAlias] : [])];
    const entrance = await Entrance.listen({
      ...options,
      network: { subnet: this.#subnet, own, firstGuest },
      dial: (guestAddress, guestPort) =>
        GuestStream.connect(this.#netstack, {
          guestAddress,
          guestPort,
          peerAddress: ofFamily(this.#gateways, guestAddress) ?? gateway,
          peerPort: 0,
        }),
      datagrams: (received) =>
        openGuestDatagrams(
          { netstack: this.#netstack, gateways: this.#gateways, random: this.#outside.random },
          received,
        ),
    });
    if (this.#closed) entrance.close();
    else this.#entrances.add(entrance);
    return entrance;
  }

  /** The address of a guest by the name that it gave with DHCP. */
  guestNamed(name: string): Address | undefined {
    return this.#dhcp.addressOf(name);
  }

  /**
   * Sends guests' HTTP through upstream proxies from now on, also what does not ask for one: connections to port 80 or
   * 443, where there is a proxy for that scheme. Undefined: through none.
   */
  async useHttpProxy(settings: ProxySettings | undefined): Promise<void> {
    this.#proxySettings = settings;
    if (!settings && !this.#guestProxy) return;
    if (this.#outside.isRecorded) throw new Error('an HTTP proxy cannot be recorded: it stands on sockets of its own');
    const proxy = await this.#loadGuestProxy();
    const now = this.#proxySettings;
    proxy.use(now);
    this.#outward.tcp = now
      ? (connection) => {
          if (!proxy.intercept(connection)) this.#tcp.tcp(connection);
        }
      : (connection) => this.#tcp.tcp(connection);
  }

  /** Sends DNS queries to these from now on; what is undefined or empty: to the host's own name servers. */
  useDns(choices: DnsChoices): void {
    this.#request('useDns', choices, () => this.#outside.useDns(choices));
  }

  /** Answers guests with these records from now on. */
  useDnsRecords(records: readonly DnsRecord[]): void {
    this.#request('useDnsRecords', records, () => this.#dns.useRecords(records));
  }

  /** The addresses that guests are given for a name; empty: there are none, or the network is recorded. Never rejects. */
  async addressesOf(name: string): Promise<readonly Address[]> {
    return this.#outside.isRecorded ? [] : (await this.#loadNames()).addressesOf(name);
  }

  /** Whom guests' names are asked of, how that went, and the queries of late with a number above `after`. */
  dns(after?: number): DnsReport {
    const epochMs = Date.now() - performance.now();
    return this.#request('dns', { after }, () => this.#dns.report(epochMs, after));
  }

  /** Decides by these from now on; flows that are open and would be denied end. */
  usePolicyRules(rules: readonly PolicyRule[]): void {
    this.#request('usePolicyRules', rules, () => {
      this.#policy.useRules(rules);
      this.#recheck();
    });
  }

  /** Lets guests have these ports of the host from now on; flows to others end. */
  useHostPorts(ports: HostPorts): void {
    this.#request('useHostPorts', ports, () => {
      this.#policy.useHostPorts(ports);
      this.#recheck();
    });
  }

  /** The policy in force, how often each rule decided, and what was denied lately. */
  policy(): PolicyReport {
    return this.#policy.report();
  }

  /** What the policy says of a flow; `host` is an address or a name of the network's own, undefined: it is neither. */
  checkPolicy(host: string, question: PolicyQuestion): PolicyAnswer[] | undefined {
    return this.#request('checkPolicy', { host, question }, () => checkPolicy(this.#policy, host, question));
  }

  flows(): readonly FlowRecord[] {
    const tcp = this.#netstack.flows(
      (connection) => this.#tcp.originOf(connection) ?? this.#forwarder.originOf(connection),
    );
    return [...tcp, ...this.#udp.flows(), ...this.#forwarder.flows(), ...this.#icmp.flows()];
  }

  /** Frames, datagrams and flows that went nowhere, by reason. */
  drops(): Readonly<Record<string, number>> {
    return {
      ...this.#netstack.drops,
      ...this.#udp.drops,
      ...prefixed('policy', this.#policy.denied),
      ...prefixed('icmp', this.#icmp.drops),
      ...prefixed('dhcp', this.#dhcp.drops),
      ...prefixed('ntp', this.#ntp.drops),
      ...prefixed('switch', { ...this.#switch?.drops }),
      ...this.#conditionDrops(),
    };
  }

  /** Closes links and host sockets. */
  close(): void {
    if (this.#closed) return;
    this.#request('close', undefined, () => this.#close());
    this.#outside.close();
  }

  #close(): void {
    this.#closed = true;
    for (const entrance of this.#entrances) entrance.close();
    void this.#guestProxy?.then((proxy) => proxy.close());
    this.#forwarder.close();
    this.#dns.close();
    this.#dhcp.close();
    this.#dhcpv6?.close();
    this.#ntp.close();
    this.#udp.close();
    this.#icmp.close();
    this.#netstack.close();
    for (const link of this.#links) link.close();
    for (const capture of this.#captures) capture.stop();
  }

  #request<T>(name: RequestName, argument: unknown, run: () => T): T {
    return this.#outside.request({ name, argument }, run);
  }

  /** The policy has changed. */
  #recheck(): void {
    this.#tcp.recheck();
    this.#udp.recheck();
    this.#forwarder.recheck();
    void this.#guestProxy?.then((proxy) => proxy.recheck());
    this.#pipeline.wake();
  }

  /** Loaded when somebody asks: guests do without. */
  async #loadNames(): Promise<NameLookup> {
    const { NameLookup } = await import('./proxy/dns/name-lookup.ts');
    const { resolvers, hosts } = this.#outside;
    const resolver: Resolver = {
      ask: (...query) => {
        this.#dns.ask(...query);
        // Its deadlines are the pipeline's to keep.
        this.#pipeline.wake();
      },
    };
    return new NameLookup(resolver, this.addresses.gateway, () => resolvers.current().search, hosts);
  }

  #loadGuestProxy(): Promise<GuestProxy> {
    this.#guestProxy ??= Promise.all([import('./proxy/http-proxy/guest-proxy.ts'), this.#loadNames()]).then(
      ([{ GuestProxy }, names]) => {
        const addressesOf = (name: string, ingress: number) => names.allAddressesOf(name, ingress);
        return new GuestProxy({ policy: this.#policy, names: { addressesOf }, settings: this.#proxySettings });
      },
    );
    return this.#guestProxy;
  }

  #bind(address: Address, ingress: number, macAddress: Uint8Array): void {
    this.#netstack.pinNeighbor(address, ingress, macAddress);
    const plugged = this.#plugged.get(ingress);
    if (plugged) this.#switch?.bind(address, plugged, macAddress);
  }

  /** What conditions have taken away, all links together. */
  #conditionDrops(): Readonly<Record<string, number>> {
    const total: Record<string, number> = {};
    for (const { lost, queueFull, poolFull, malformed } of this.conditionCounts()) {
      const counts = { lost, 'queue-full': queueFull, 'pool-full': poolFull, malformed };
      for (const [reason, count] of Object.entries(counts))
        total[`conditions-${reason}`] = (total[`conditions-${reason}`] ?? 0) + count;
    }
    return total;
  }
}

/** Counters of one part among those of all. */
function prefixed(part: string, counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).map(([reason, count]) => [`${part}-${reason}`, count]));
}

function addressesOf(subnet: Subnet, subnet6: Subnet | undefined): NetworkAddresses {
  const named = (host: (number: number) => Address) => ({ gateway: host(1), hostAlias: host(2), firstGuest: host(3) });
  return {
    ...named((number) => ofIpv4(ipv4Word(subnet.address) + number)),
    ipv6: subnet6 && named((number) => hostOf6(subnet6, number)),
  };
}
