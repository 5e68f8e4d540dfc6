/** What the race measures, by the names that netbench and `npm run bench -- e2e` write. */

export interface Metric {
  /** The test it comes from; undefined: of the run itself. */
  readonly test: string | undefined;
  readonly field: string;
  readonly name: string;
  readonly unit: string;
  readonly better: 'more' | 'less';
  readonly digits: number;
  /** What the figure is divided by. */
  readonly per?: number;
}

/** Metrics that one chart shows. */
export interface Group {
  readonly id: string;
  readonly title: string;
  /** One scale for all of them, or one for each. */
  readonly scale: 'shared' | 'own';
  readonly metrics: readonly Metric[];
}

const transfers = [
  ['up1', 'TCP up, 1 stream'],
  ['up4', 'TCP up, 4 streams'],
  ['down1', 'TCP down, 1 stream'],
  ['down4', 'TCP down, 4 streams'],
  ['in1', 'TCP to a published port'],
  ['inrev1', 'TCP from a published port'],
] as const;

const times = [
  ['rr', 'TCP round trip'],
  ['udprr', 'UDP round trip'],
  ['inrr', 'TCP round trip through a published port'],
] as const;

const more = (test: string, field: string, name: string, unit: string, digits = 0): Metric => ({
  test,
  field,
  name,
  unit,
  better: 'more',
  digits,
});

const less = (test: string, field: string, name: string, unit: string, digits: number): Metric => ({
  ...more(test, field, name, unit, digits),
  better: 'less',
});

const memory = (field: string, name: string): Metric => ({
  test: undefined,
  field,
  name,
  unit: 'MB',
  better: 'less',
  digits: 1,
  per: 1024,
});

export const groups: readonly Group[] = [
  {
    id: 'throughput',
    title: 'Throughput',
    scale: 'shared',
    metrics: transfers.map(([test, name]) => more(test, 'gbit', name, 'Gbit/s', 2)),
  },
  {
    id: 'cpu',
    title: 'CPU of the network process per GB',
    scale: 'shared',
    metrics: transfers.map(([test, name]) => less(test, 'peer_s_per_gb', `CPU, ${name}`, 's/GB', 2)),
  },
  {
    id: 'time',
    title: 'Round trips',
    scale: 'own',
    metrics: times.flatMap(([test, name]) => [
      less(test, 'p50_us', `${name}, p50`, 'us', 0),
      less(test, 'p99_us', `${name}, p99`, 'us', 0),
    ]),
  },
  {
    id: 'connections',
    title: 'Connections and names',
    scale: 'own',
    metrics: [
      more('cb_seq', 'rate', 'Connect and 1 octet, one at a time', 'per s'),
      more('cb_64', 'rate', 'Connect and 1 octet, 64 at once', 'per s'),
      less('cb_64', 'peer_us_per_op', 'CPU per connection', 'us', 0),
      more('conc', 'echoed', '1000 connections at once: echoed', 'of 1000'),
      more('dns', 'qps', 'DNS queries', 'per s'),
    ],
  },
  {
    id: 'datagrams',
    title: 'UDP datagrams of 1400 octets',
    scale: 'own',
    metrics: [
      more('udp_up', 'recv_pps', 'UDP up', 'per s'),
      more('udp_down', 'recv_pps', 'UDP down', 'per s'),
      less('udp_up', 'peer_us_per_pkt', 'CPU per datagram, up', 'us', 1),
      less('udp_down', 'peer_us_per_pkt', 'CPU per datagram, down', 'us', 1),
      less('udp_up20k', 'loss_pct', 'UDP up, lost at 20 000 per s', '%', 2),
      less('udp_down20k', 'loss_pct', 'UDP down, lost at 20 000 per s', '%', 2),
    ],
  },
  {
    id: 'memory',
    title: 'Memory of the network process',
    scale: 'own',
    metrics: [memory('rss_idle_kb', 'Resident, idle'), memory('rss_peak_kb', 'Resident, peak')],
  },
];

/** The metric of a test and a field. */
export function metric(test: string | undefined, field: string): Metric {
  const found = groups.flatMap((group) => group.metrics).find((one) => one.test === test && one.field === field);
  if (!found) throw new Error(`no metric ${test}.${field}`);
  return found;
}
