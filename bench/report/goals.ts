/** What Slipway must reach in the race, and what it reaches for: each a factor of a rival's median, or a bound. */

import { type Metric, metric } from './metrics.ts';
import type { League, Section } from './race.ts';

interface Goal {
  readonly metric: Metric;
  readonly leagues: readonly League[];
  readonly mtus?: readonly number[];
  /** Compared with the best of these; undefined: of all rivals. */
  readonly rivals?: readonly string[];
  /** Factors of the rival's figure, or bounds as they are. */
  readonly must: number;
  readonly reach?: number;
  readonly bound?: true;
  /** The worst repetition must not be under this part of the median. */
  readonly steady?: number;
  /** Equal is not enough. */
  readonly ahead?: true;
}

export interface Verdict {
  readonly section: Section;
  readonly name: string;
  readonly ours: number;
  readonly rival: string | undefined;
  readonly theirs: number | undefined;
  /** Ours to theirs. */
  readonly ratio: number | undefined;
  /** What must be, in words. */
  readonly must: string;
  readonly met: boolean;
  readonly reached: boolean | undefined;
  readonly metric: Metric;
}

const passts = ['passt', 'passt-12'];
const published = ['in1', 'inrev1'];
const outward = ['up1', 'up4', 'down1', 'down4'];

const goals: readonly Goal[] = [
  ...[...outward, ...published].flatMap((test): Goal[] => [
    { metric: metric(test, 'gbit'), leagues: ['offload'], must: 0.8, reach: 1, steady: 0.8 },
    { metric: metric(test, 'peer_s_per_gb'), leagues: ['offload'], must: 1.3, reach: 1 },
  ]),
  ...outward.flatMap((test): Goal[] => [
    { metric: metric(test, 'gbit'), leagues: ['one'], must: 1 },
    { metric: metric(test, 'peer_s_per_gb'), leagues: ['one'], must: 1 },
    { metric: metric(test, 'gbit'), leagues: ['tap'], rivals: ['slirp4netns'], must: 1, ahead: true },
    { metric: metric(test, 'gbit'), leagues: ['tap'], mtus: [1500], rivals: ['pasta'], must: 1, ahead: true },
  ]),
  ...['rr', 'udprr'].flatMap((test): Goal[] => [
    { metric: metric(test, 'p50_us'), leagues: ['offload'], rivals: passts, must: 1.25, reach: 1 },
    { metric: metric(test, 'p99_us'), leagues: ['offload'], rivals: passts, must: 2, reach: 1 },
  ]),
  { metric: metric('inrr', 'p50_us'), leagues: ['offload'], must: 1.25, reach: 1 },
  { metric: metric('inrr', 'p99_us'), leagues: ['offload'], must: 2, reach: 1 },
  { metric: metric('cb_64', 'rate'), leagues: ['offload'], must: 1, reach: 1.3 },
  { metric: metric('cb_seq', 'rate'), leagues: ['offload'], must: 1, reach: 1.3 },
  { metric: metric('cb_64', 'peer_us_per_op'), leagues: ['offload'], rivals: passts, must: 2 },
  ...['udp_up', 'udp_down'].flatMap((test): Goal[] => [
    { metric: metric(test, 'recv_pps'), leagues: ['offload'], rivals: ['qemu-slirp'], must: 1 },
    { metric: metric(test, 'peer_us_per_pkt'), leagues: ['offload'], rivals: ['qemu-slirp'], must: 1 },
    { metric: metric(`${test}20k`, 'loss_pct'), leagues: ['offload'], bound: true, must: 0 },
  ]),
  { metric: metric('dns', 'qps'), leagues: ['offload'], rivals: ['gvproxy'], must: 3 },
  { metric: metric('conc', 'echoed'), leagues: ['offload'], bound: true, must: 1000 },
  { metric: metric(undefined, 'rss_peak_kb'), leagues: ['offload'], bound: true, must: 200, reach: 120 },
];

/** Whether `ours` is as good as `wanted`, or better. */
const good = (better: 'more' | 'less', ours: number, wanted: number, ahead = false): boolean =>
  ours === wanted ? !ahead : better === 'more' ? ours > wanted : ours < wanted;

function judge(goal: Goal, section: Section): Verdict | undefined {
  const { metric, must, reach, bound, steady, ahead } = goal;
  const { better, unit } = metric;
  const peer = section.ours;
  const ours = peer === undefined ? undefined : section.median(peer, metric);
  const best = bound ? undefined : section.best(metric, goal.rivals);
  if (peer === undefined || ours === undefined || (!bound && !best)) return;
  const factor = best?.value ?? 1;
  const worst = Math.min(...section.values(peer, metric)) / ours;
  const unsteady = steady !== undefined && worst < steady;
  const failed = section.failed(peer, metric);
  const words = [
    `${better === 'less' ? 'at most' : ahead ? 'more than' : 'at least'} ${must} ${bound ? unit : 'x'}`,
    ...(unsteady ? [`its worst repetition was ${worst.toFixed(2)} of the median`] : []),
    ...(failed > 0 ? [failed === 1 ? 'a repetition failed' : `${failed} repetitions failed`] : []),
  ];
  return {
    section,
    metric,
    name: metric.name,
    ours,
    rival: best?.peer,
    theirs: best?.value,
    ratio: best && ours / best.value,
    must: words.join('; '),
    met: !unsteady && failed === 0 && good(better, ours, must * factor, ahead),
    reached: reach === undefined ? undefined : good(better, ours, reach * factor),
  };
}

/** Every goal that the sections have figures for. */
export const judgeAll = (sections: readonly Section[]): Verdict[] =>
  sections.flatMap((section) =>
    goals
      .filter(({ leagues, mtus }) => leagues.includes(section.league) && (!mtus || mtus.includes(section.mtu)))
      .flatMap((goal) => judge(goal, section) ?? []),
  );
