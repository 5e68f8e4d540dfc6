/** The proxies as a library: what joins a netstack's flows to the host's sockets, and the network's own services. */

export { FakeHostNet } from './adapter/fake-host-net.ts';
export { HostResolvers } from './adapter/host-resolvers.ts';
export { NodeHostNet } from './adapter/node-host-net.ts';
export { type DhcpLease, type DhcpOptions, DhcpServer } from './dhcp.ts';
export { type NameTarget, standardNames } from './dns/built-in-names.ts';
export { parseNameServers } from './dns/name-servers.ts';
export { type DnsRecord, parseDnsRecords } from './dns/records.ts';
export { parseDnsZones } from './dns/zones.ts';
export { DnsForwarder, type DnsOptions, type DnsParts, type DnsReport } from './dns.ts';
export { IcmpProxy } from './icmp-proxy.ts';
export { NtpServer } from './ntp.ts';
export { type PolicyRule, parsePolicyRules } from './policy/rule.ts';
export { type HostPorts, Policy, type PolicyFlow, type PolicyOptions, type Verdict } from './policy.ts';
export * from './port.ts';
export { type ExposedPort, type ExposeRequest, PortForwarder, type PortForwarderOptions } from './port-forward.ts';
export { TcpProxy, type TcpProxyPolicy } from './tcp-proxy.ts';
export { UdpProxy, type UdpProxyOptions } from './udp-proxy.ts';
