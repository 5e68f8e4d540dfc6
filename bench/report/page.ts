/** The generated parts of docs/PERFORMANCE.md, each between markers, and the charts that they show. */

import { type BarRow, type Chart, draw, formatted } from './bars.ts';
import type { Verdict } from './goals.ts';
import type { Machine } from './machine.ts';
import { type Group, groups, type Metric } from './metrics.ts';
import { isLimit, isOurs, type League, type Repetition, type Section } from './race.ts';

const leagues: Readonly<Record<League, readonly [string, string]>> = {
  offload: ['Stream socket', "QEMU's stream framing; the bridge cuts and joins segments as a guest's offload does"],
  one: ['Stream socket, one frame a write', "QEMU's stream framing; the bridge writes frame by frame, as QEMU does"],
  plain: ['Stream socket, no offload', "QEMU's stream framing; the guest's kernel handles every frame"],
  tap: ['TAP device', 'the core holds a TAP device in the guest namespace'],
};

export const titleOf = ({ league, mtu }: Section): string => `${leagues[league][0]}, MTU ${mtu}`;

const against = (section: Section, metric: Metric): string => {
  const ours = section.ours === undefined ? undefined : section.median(section.ours, metric);
  const best = section.best(metric);
  return ours === undefined || !best || best.value === 0 ? '' : (ours / best.value).toFixed(2);
};

function rowOf(section: Section, metric: Metric): BarRow | undefined {
  const bars = section.peers.flatMap((peer) => {
    const values = section.values(peer, metric);
    if (values.length === 0) return [];
    const kind: BarRow['bars'][number]['kind'] = isOurs(peer) ? 'ours' : isLimit(peer) ? 'limit' : 'rival';
    const median = section.median(peer, metric)!;
    return [{ label: peer, kind, median, least: Math.min(...values), most: Math.max(...values) }];
  });
  if (bars.length === 0) return;
  const ratio = against(section, metric);
  const better = metric.better === 'more' ? 'more is better' : 'less is better';
  const note = ratio === '' ? better : `${ratio} x the best rival; ${better}`;
  return { title: metric.name, unit: metric.unit, note, digits: metric.digits, bars };
}

/** Charts by file name; a group without figures has none. */
export function charts(sections: readonly Section[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const section of sections)
    for (const group of groups) {
      const rows = group.metrics.flatMap((metric) => rowOf(section, metric) ?? []);
      if (rows.length === 0) continue;
      const { title, scale } = group;
      const chart: Chart = {
        title: `${title}: ${titleOf(section)}`,
        subtitle: leagues[section.league][1],
        scale,
        rows,
      };
      found.set(chartName(section, group), draw(chart));
    }
  return found;
}

const chartName = ({ league, mtu }: Section, { id }: Group): string => `${league}-${mtu}-${id}.svg`;

/** The first `left` columns are words, the others numbers. */
const tableOf = (head: readonly string[], rows: readonly (readonly string[])[], left = 1): string =>
  [head, head.map((_, i) => (i < left ? '---' : '---:')), ...rows].map((row) => `| ${row.join(' | ')} |`).join('\n');

function cell(section: Section, peer: string, metric: Metric): string {
  const values = section.values(peer, metric);
  if (values.length === 0) return '-';
  const number = (value: number): string => formatted(value, metric.digits);
  const least = number(Math.min(...values));
  const most = number(Math.max(...values));
  const median = number(section.median(peer, metric)!);
  const shown = isOurs(peer) ? `**${median}**` : median;
  return least === most ? shown : `${shown} (${least} to ${most})`;
}

function sectionText(section: Section, drawn: ReadonlyMap<string, string>): string {
  const { peers } = section;
  const metrics = groups.flatMap((group) => group.metrics).filter((metric) => rowOf(section, metric));
  const rows = metrics.map((metric) => [
    `${metric.name}, ${metric.unit}`,
    ...peers.map((peer) => cell(section, peer, metric)),
    against(section, metric),
  ]);
  const pictures = groups
    .map((group) => ({ name: chartName(section, group), title: group.title }))
    .filter(({ name }) => drawn.has(name))
    .map(({ name, title }) => `![${title}, ${titleOf(section)}](charts/${name})`);
  const repetitions = Math.max(
    ...peers.map((peer) => section.repetitions.filter((repetition) => repetition.peer === peer).length),
  );
  const { failures } = section;
  return [
    `### ${titleOf(section)}`,
    `${repetitions === 1 ? 'One repetition' : `Medians of ${repetitions} repetitions (least to most)`}; ${leagues[section.league][1]}.`,
    ...pictures,
    `<details><summary>The numbers</summary>\n\n${tableOf(['', ...peers, 'ours / best rival'], rows)}\n\n</details>`,
    ...(failures.length > 0 ? [`Failed: ${failures.join('; ')}.`] : []),
  ].join('\n\n');
}

export const raceText = (sections: readonly Section[], drawn: ReadonlyMap<string, string>): string =>
  sections.map((section) => sectionText(section, drawn)).join('\n\n');

/** Every verdict, and which ways of attachment have none here. */
export function verdictText(verdicts: readonly Verdict[]): string {
  const met = verdicts.filter((verdict) => verdict.met).length;
  const reachable = verdicts.filter((verdict) => verdict.reached !== undefined);
  const reached = reachable.filter((verdict) => verdict.reached).length;
  const rows = verdicts.map(({ section, metric, ...verdict }) => [
    `${verdict.name}, ${metric.unit}`,
    titleOf(section),
    verdict.must,
    verdict.met ? (verdict.reached ? 'yes, and the aim' : 'yes') : '**no**',
    formatted(verdict.ours, metric.digits),
    verdict.theirs === undefined ? '' : `${formatted(verdict.theirs, metric.digits)} ${verdict.rival}`,
    verdict.ratio === undefined ? '' : verdict.ratio.toFixed(2),
  ]);
  const missing = Object.entries(leagues)
    .filter(([league]) => league !== 'plain' && !verdicts.some(({ section }) => section.league === league))
    .map(([, [title]]) => title);
  return [
    `${met} of ${verdicts.length} figures that must be reached are met; of ${reachable.length} that have a further aim, ${reached} reach it.`,
    ...(missing.length > 0 ? [`Not measured: ${missing.join('; ')}.`] : []),
    tableOf(['Figure', 'Where', 'Must', 'Met', 'Slipway', 'Rival', 'Ratio'], rows, 4),
  ].join('\n\n');
}

/** The commands that a file's repetitions come from. `ours`: `npm run bench -- e2e` wrote it, not netbench. */
export function commandsOf(repetitions: readonly Repetition[], ours: boolean): string[] {
  const runs = Map.groupBy(repetitions, ({ gso, one, secs }) => JSON.stringify({ gso, one, secs }));
  return [...runs.values()].map((run) => {
    const { gso, one, secs } = run[0]!;
    const list = (values: readonly (string | number)[]): string => [...new Set(values)].join();
    const flags = ours ? (gso ? '' : ' --no-offload') : gso ? ' --gso' : '';
    const [start, peers, reps, seconds] = ours
      ? ['npm run bench -- e2e', '--peers', '--repetitions', '--seconds']
      : ['netbench.py run', '--peer', '--reps', '--secs'];
    const names = list(run.map(({ peer }) => peer));
    const mtus = list(run.map(({ mtu }) => mtu));
    const most = Math.max(...run.map(({ rep }) => rep)) + 1;
    return `${start}${flags}${one ? ' --one' : ''} ${peers} ${names} --mtu ${mtus} ${reps} ${most} ${seconds} ${secs}`;
  });
}

/** How the sections were measured. `versions`: of the peers' programs, where they are installed. */
export function measuredText(
  sections: readonly Section[],
  { cpu, cores, memoryGb, kernel, system, node, commit }: Machine,
  versions: ReadonlyMap<string, string>,
  commands: readonly string[],
): string {
  const all = sections.flatMap((section) => section.repetitions);
  const ended = Math.max(...all.map(({ t }) => t));
  const date = ended > 0 ? new Date(ended * 1000).toISOString().slice(0, 10) : 'on an unknown day';
  const lines = [
    ['Date', date],
    ['Commit', commit],
    ['Machine', `${cpu}, ${cores} cores, ${memoryGb} GB`],
    ['System', `${system}, Linux ${kernel}`],
    ['Node', node],
    ...[...versions].map(([peer, version]) => [peer, version]),
    ...commands.map((command) => ['Command', `\`${command}\``]),
  ];
  return tableOf(['', ''], lines, 2);
}

/** What `npm run bench` wrote about one bench. */
export interface BenchResult {
  readonly date: string;
  readonly rows: readonly {
    readonly name: string;
    readonly value: number;
    readonly unit: string;
    readonly ratio?: number;
    readonly baseline?: string;
  }[];
}

export const benchText = (results: readonly BenchResult[]): string =>
  tableOf(
    ['', 'Figure', 'Ratio'],
    results.flatMap(({ rows }) =>
      rows.map(({ name, value, unit, ratio, baseline }) => [
        name,
        `${formatted(value, value >= 1000 ? 0 : value >= 10 ? 1 : 3)} ${unit}`,
        ratio === undefined ? '' : `${ratio.toFixed(2)} x ${baseline}`,
      ]),
    ),
  );

/** Start-up's must-figures, of the rows that serve.bench.ts leaves. */
export function startText(result: BenchResult): string {
  const verdict = (end: string, most: number, unit: string): string => {
    const row = result.rows.find(({ name }) => name === `slipway net serve, ${end}`);
    return row ? `${end} at most ${most} ${unit}: ${row.value <= most ? 'met' : '**not met**'}` : '';
  };
  return `${benchText([result])}\n\nMust: ${verdict('ready', 300, 'ms')}; ${verdict('resident', 70, 'MB')}.`;
}

/** The must-figure of vhost-user, of the rows that links.bench.ts leaves: half of the stream link's CPU. */
export function linksText(result: BenchResult): string {
  const verdicts = result.rows
    .filter(({ unit, baseline }) => unit === 'CPU s/GB' && baseline === 'stream')
    .map(({ name, ratio = Number.POSITIVE_INFINITY }) => `${name}: ${ratio <= 0.5 ? 'met' : '**not met**'}`);
  return `${benchText([result])}\n\nMust: half of the stream link's CPU. ${verdicts.join('; ')}.`;
}

/** Puts `body` between the markers of `name`; a page without them is one that somebody broke. */
export function replaceSection(page: string, name: string, body: string): string {
  const begin = `<!-- ${name}: generated -->`;
  const end = `<!-- ${name}: end -->`;
  const from = page.indexOf(begin);
  const to = page.indexOf(end, from);
  if (from < 0 || to < 0) throw new Error(`the page lacks the markers ${begin} and ${end}: put them back`);
  return `${page.slice(0, from + begin.length)}\n${body}\n${page.slice(to)}`;
}
