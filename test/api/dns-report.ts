/** What a platform that is faked says of names: three queries, and what was asked of whom. */

import type { QueryRecord } from '../../src/proxy/dns/query-log.ts';
import type { DnsReport } from '../../src/proxy/dns.ts';

const query = (number: number, more: Partial<QueryRecord>): QueryRecord => ({
  number,
  atMs: Date.UTC(2026, 0, 1, 12, 0, number),
  guest: '172.17.0.2',
  ingress: 0,
  protocol: 'udp',
  name: 'www.example.org',
  type: 'A',
  source: 'server',
  code: 'NOERROR',
  answers: 1,
  tookMs: 12.5,
  ...more,
});

const queries = [
  query(1, { server: '10.0.0.53' }),
  query(2, {
    name: 'git.corp',
    type: 'AAAA',
    zone: 'corp',
    source: 'none',
    code: 'SERVFAIL',
    answers: 0,
    tookMs: 4500,
  }),
  query(3, { source: 'cache', tookMs: 0 }),
];

export const dnsReport = (after = 0): DnsReport => ({
  servers: [
    { zone: 'corp', servers: [{ server: '10.8.0.53#5353', state: 'silent' }] },
    { servers: [{ server: '10.0.0.53', state: 'used' }] },
  ],
  search: ['example.org'],
  counts: { queries: 3, forwarded: 2, cached: 1, failed: 1, denied: 0 },
  cache: { entries: 1, hits: 1, misses: 2 },
  queries: queries.filter(({ number }) => number > after),
});
