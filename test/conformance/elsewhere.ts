/** Reported cases that are tests of other parts: of sockets, names, proxies and ports. docs/CONFORMANCE.md names them. */

export interface Elsewhere {
  readonly number: number;
  readonly what: string;
  readonly file: string;
  /** The names of the tests in it. */
  readonly tests: readonly string[];
}

const at = (number: number, what: string, file: string, ...tests: string[]): Elsewhere => ({
  number,
  what,
  file,
  tests,
});

export const elsewhere: readonly Elsewhere[] = [
  at(
    7,
    'UDP flows expire after 120 s and more, never an active one',
    'test/proxy/udp-proxy.test.ts',
    'an active mapping stays, an idle one goes after two minutes and more',
  ),
  at(
    9,
    'AAAA of a name that has only A is no data',
    'test/proxy/dns-names.test.ts',
    'records: exact names, wildcards at any depth, the longest first, the other family is no data',
  ),
  at(
    10,
    'A name that does not exist does not, with the SOA',
    'test/proxy/dns.test.ts',
    'what does not exist is kept as long as its SOA says (RFC 2308)',
  ),
  at(
    11,
    'Records of any type pass',
    'test/proxy/dns.test.ts',
    'a query goes to the first server as it came, under a new id; the answer comes back as it is',
  ),
  at(
    12,
    'Long answers: TC, then TCP',
    'test/proxy/dns.test.ts',
    'an answer longer than the client takes is cut to its question, with TC',
  ),
  at(
    13,
    'resolv.conf swapped while running; no name server at all',
    'test/proxy/dns.test.ts',
    'a change of the host’s resolvers empties the cache and is followed at once',
    'no name server at all: SERVFAIL',
  ),
  at(
    14,
    'DNS split by zone, in any case of letters',
    'test/proxy/dns-names.test.ts',
    'zones: names go to the servers of the smallest zone they are in, in any case of letters',
  ),
  at(
    15,
    'HTTPS that is to go past the proxy, by name',
    'test/proxy/guest-proxy.test.ts',
    'what is excluded goes straight: by name, by suffix, by network; HTTPS by SNI',
  ),
  at(
    16,
    'Proxies that want credentials or refuse; WebSockets',
    'test/proxy/guest-proxy.test.ts',
    'credentials for the upstream proxy: given, never passed on, and wrong',
    'the upstream proxy refuses, or is not there',
    'connections are kept, and WebSockets pass',
  ),
  at(17, 'host.docker.internal', 'test/proxy/dns.test.ts', 'names of the network'),
  at(
    18,
    'Published UDP: each client has its own port of the gateway',
    'test/proxy/udp-proxy.test.ts',
    'published UDP: each client has a port of the gateway, and its replies',
  ),
  at(
    19,
    'Bind addresses; a port that is taken; port 0',
    'test/proxy/published-ports.test.ts',
    'wildcards stand for the loopback addresses of their family',
    'a busy port',
    'port 0 is what the host chose',
  ),
  at(24, 'A guest that comes again', 'test/network.test.ts', 'a guest that is replaced finds everything as it was'),
  at(
    26,
    'A subnet that collides with the host’s',
    'test/proxy/free-subnet.test.ts',
    'the wanted network stands unless it overlaps one of the host',
  ),
];
