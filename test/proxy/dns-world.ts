/** A DNS forwarder over fakes, with a guest that asks and name servers that the test answers for. */

import dnsPacket, { type Answer, type Packet } from 'dns-packet';
import { standardNames } from '../../src/proxy/dns/built-in-names.ts';
import { parseHosts } from '../../src/proxy/dns/hosts.ts';
import { DnsForwarder, type DnsOptions } from '../../src/proxy/dns.ts';
import { parsePolicyRules } from '../../src/proxy/policy/rule.ts';
import { Policy, type PolicyOptions } from '../../src/proxy/policy.ts';
import type { HostsTable } from '../../src/proxy/port.ts';
import {
  address,
  FakeClock,
  FakeHostNet,
  FakeNetstack,
  FakeResolvers,
  type FakeSocket,
  seededRandom,
} from './gateway-fakes.ts';

export const GATEWAY = '192.168.65.1';
export const FIRST = '10.9.9.1';
export const SECOND = '10.9.9.2';

export interface Ask {
  name?: string;
  type?: string;
  id?: number;
  edns?: number;
  flags?: number;
  guestPort?: number;
  guest?: string;
  ingress?: number;
}

export function query({
  name = 'www.example.org',
  type = 'A',
  id = 77,
  edns,
  flags = dnsPacket.RECURSION_DESIRED,
}: Ask = {}): Uint8Array {
  const packet: Packet = { type: 'query', id, flags, questions: [{ name, type: type as 'A' }] };
  if (edns !== undefined)
    packet.additionals = [
      {
        type: 'OPT',
        name: '.',
        udpPayloadSize: edns,
        extendedRcode: 0,
        ednsVersion: 0,
        flags: 0,
        flag_do: false,
        options: [],
      },
    ];
  return new Uint8Array(dnsPacket.encode(packet));
}

export const decode = (bytes: Uint8Array) =>
  dnsPacket.decode(Buffer.from(bytes)) as dnsPacket.DecodedPacket & {
    rcode: string;
    flag_tc: boolean;
    flag_aa: boolean;
  };

/** What a server says to `asked`: records, or an error. */
export function reply(
  asked: Uint8Array,
  answers: Answer[] = [],
  { rcode = 0, flags = 0, authorities = [] as Answer[], additionals = [] as Answer[] } = {},
): Uint8Array {
  const packet = decode(asked);
  return new Uint8Array(
    dnsPacket.encode({
      type: 'response',
      id: packet.id!,
      flags: dnsPacket.RECURSION_DESIRED | dnsPacket.RECURSION_AVAILABLE | flags | rcode,
      questions: packet.questions!,
      answers,
      authorities,
      additionals,
    }),
  );
}

export const a = (name: string, data: string, ttl = 300): Answer => ({ type: 'A', name, data, ttl });
export const soa = (name: string, minimum: number, ttl = 3600): Answer => ({
  type: 'SOA',
  name,
  ttl,
  data: { mname: 'ns.example.org', rname: 'root.example.org', serial: 1, refresh: 2, retry: 3, expire: 4, minimum },
});

export function setUp(
  servers = [FIRST, SECOND],
  extra: Partial<DnsOptions> = {},
  limits: PolicyOptions['limits'] = {},
  rules = '',
) {
  const netstack = new FakeNetstack();
  const hostNet = new FakeHostNet();
  const resolvers = new FakeResolvers(...servers);
  const clock = new FakeClock();
  const gateway = address(GATEWAY);
  const alias = address('192.168.65.2');
  const policy = new Policy({
    ...{ subnets: [], gateways: [gateway], hostAliases: [alias], limits, clock },
    rules: parsePolicyRules(rules),
  });
  let table: HostsTable = parseHosts('');
  const hosts = { current: () => table };
  const useHosts = (text: string): void => {
    table = parseHosts(text);
  };
  const dns = new DnsForwarder(
    {
      ...{ netstack, hostNet, resolvers, policy, clock, random: seededRandom() },
      ...{ hosts, resolved: policy.resolved },
    },
    { addresses: [gateway], names: standardNames([gateway], [alias]), hostAliases: [alias], ...extra },
  );
  /** Sends octets; what came back within the call. */
  const send = (bytes: Uint8Array, { guestPort = 40_000, guest = '192.168.65.3', ingress = 0 }: Ask = {}) =>
    netstack.deliver(bytes, { guest, guestPort, peer: GATEWAY, peerPort: 53, ingress }).map((one) => one.payload);
  const ask = (what: Ask = {}) => send(query(what), what).map(decode)[0];
  /** The socket that sent last. */
  const socket = (): FakeSocket => hostNet.lastSender!;
  /** Asks, answers as the first server, and returns what the guest got. */
  const through = (what: Ask, answer: (asked: Uint8Array) => Uint8Array) => {
    if (ask(what)) throw new Error('answered without asking a server');
    const asked = socket().sent.at(-1)!.payload;
    netstack.sent = [];
    socket().answer(answer(asked), FIRST);
    return netstack.sent.map((one) => decode(one.payload))[0]!;
  };
  const advance = (ms: number): void => {
    clock.now += ms;
    dns.poll(clock.now);
  };
  return { netstack, hostNet, resolvers, clock, policy, dns, hosts, useHosts, send, ask, socket, through, advance };
}
