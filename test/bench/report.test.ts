/** What is made of the race's results: statistics, verdicts, charts, the page. */

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { draw, formatted } from '../../bench/report/bars.ts';
import { judgeAll, type Verdict } from '../../bench/report/goals.ts';
import { groups, metric } from '../../bench/report/metrics.ts';
import {
  charts,
  commandsOf,
  linksText,
  raceText,
  replaceSection,
  startText,
  verdictText,
} from '../../bench/report/page.ts';
import { median, readHeader, readRepetitions, type Section, sectionsOf } from '../../bench/report/race.ts';

interface Line {
  readonly peer: string;
  readonly mtu?: number;
  readonly gso?: boolean;
  readonly one?: boolean;
  readonly rep?: number;
  readonly res: object;
}

const fileOf = (...lines: readonly Line[]): string =>
  lines.map((line) => JSON.stringify({ mtu: 1500, gso: true, one: false, rep: 0, secs: 2, t: 1, ...line })).join('\n');
const sectionsIn = (...lines: readonly Line[]): Section[] => sectionsOf([readRepetitions(fileOf(...lines))]);
const up = (gbit: number, rest: object = {}): object => ({ up1: { gbit, bytes: 1e9, ...rest } });
const verdictOf = (name: string, ...lines: readonly Line[]): Verdict | undefined =>
  judgeAll(sectionsIn(...lines)).find((verdict) => verdict.name === name);
const TCP_UP = 'TCP up, 1 stream';

t.test('the median', (t) => {
  t.equal(median([3]), 3);
  t.equal(median([9, 1, 5]), 5);
  t.equal(median([10, 1, 2, 4]), 3, 'of an even number: the mean of the two in the middle');
  fc.assert(
    fc.property(fc.array(fc.double({ noNaN: true, min: -1e9, max: 1e9 }), { minLength: 1 }), (values) => {
      const middle = median(values);
      const below = values.filter((value) => value < middle).length;
      const above = values.filter((value) => value > middle).length;
      return below <= values.length / 2 && above <= values.length / 2;
    }),
  );
  t.end();
});

t.test('lines that are no repetitions are left out, whatever they are', (t) => {
  const text = `{"machine":{}}\n${fileOf({ peer: 'slipway', res: up(1) })}\n{"peer":"passt","mtu":15\n\nnull\n[1]`;
  t.same(
    readRepetitions(text).map(({ peer }) => peer),
    ['slipway'],
  );
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (line) => {
      readHeader(`${line}\n`);
      const sections = sectionsOf([readRepetitions(line)]);
      judgeAll(sections);
      raceText(sections, charts(sections));
    }),
  );
  const anything = fc.dictionary(fc.constantFrom('gbit', 'bytes', 'error', 'rate'), fc.jsonValue());
  const line = fc.record({
    peer: fc.constantFrom('slipway', 'passt', 'bridge2g'),
    mtu: fc.integer(),
    res: fc.dictionary(
      fc.constantFrom('up1', 'cb_64', 'error', 'died_in', 'rss_idle_kb'),
      fc.oneof(anything, fc.jsonValue()),
    ),
  });
  fc.assert(
    fc.property(fc.array(line, { maxLength: 4 }), (lines) => {
      const sections = sectionsIn(...lines);
      judgeAll(sections);
      raceText(sections, charts(sections));
    }),
  );
  t.end();
});

t.test('only what may be compared shares a section', (t) => {
  const sections = sectionsIn(
    { peer: 'passt', res: up(1) },
    { peer: 'slipway', res: up(1) },
    { peer: 'slipway', mtu: 65520, res: up(1) },
    { peer: 'slipway', one: true, res: up(1) },
    { peer: 'slipway', gso: false, res: up(1) },
    { peer: 'pasta', gso: false, res: up(1) },
    { peer: 'slipway-tap', gso: false, res: up(1) },
  );
  t.same(
    sections.map(({ league, mtu, peers }) => [league, mtu, ...peers]),
    [
      ['offload', 1500, 'slipway', 'passt'],
      ['offload', 65520, 'slipway'],
      ['one', 1500, 'slipway'],
      ['plain', 1500, 'slipway'],
      ['tap', 1500, 'slipway-tap', 'pasta'],
    ],
  );
  const files = [1, 2].map((gbit) => readRepetitions(fileOf({ peer: 'slipway', res: up(gbit) })));
  t.equal(sectionsOf(files)[0]!.median('slipway', metric('up1', 'gbit')), 2, 'the last file that has a section counts');
  t.end();
});

t.test('the best rival', (t) => {
  const [section] = sectionsIn(
    { peer: 'slipway', res: up(100) },
    { peer: 'bridge2g', res: up(90) },
    { peer: 'gvproxy', res: up(2, { peer_s_per_gb: 5 }) },
    { peer: 'passt', res: up(8, { peer_s_per_gb: 0.1, bytes: 1e6 }) },
    { peer: 'passt-12', res: { up1: { error: 'timeout' } } },
  );
  t.same(section!.best(metric('up1', 'gbit')), { peer: 'passt', value: 8 }, 'neither we nor a limit of the harness');
  t.same(section!.best(metric('up1', 'peer_s_per_gb')), { peer: 'gvproxy', value: 5 }, 'CPU needs octets that moved');
  t.same(section!.best(metric('up1', 'gbit'), ['gvproxy']), { peer: 'gvproxy', value: 2 });
  t.equal(section!.best(metric('dns', 'qps')), undefined);
  t.same(section!.failures, ['passt-12: up1: timeout']);
  t.end();
});

t.test('verdicts', (t) => {
  const against = (ours: object, theirs: object): Verdict =>
    verdictOf(TCP_UP, { peer: 'slipway', res: ours }, { peer: 'passt', res: theirs })!;
  t.match(against(up(8), up(10)), { met: true, reached: false, ratio: 0.8, rival: 'passt' }, 'at the bound');
  t.match(against(up(7.9), up(10)), { met: false, reached: false });
  t.match(against(up(10), up(10)), { met: true, reached: true });
  t.equal(verdictOf(TCP_UP, { peer: 'slipway', res: up(10) }), undefined, 'no rival, no verdict');
  t.equal(verdictOf(TCP_UP, { peer: 'passt', res: up(10) }), undefined, 'without us neither');

  const repetitions = (...gbits: number[]): Line[] => gbits.map((gbit) => ({ peer: 'slipway', res: up(gbit) }));
  const passt = { peer: 'passt', res: up(5) };
  t.match(verdictOf(TCP_UP, ...repetitions(10, 10, 8), passt), { met: true });
  t.match(verdictOf(TCP_UP, ...repetitions(10, 10, 7), passt), { met: false, must: /0\.70 of the median/ }, 'unsteady');
  const failed = { peer: 'slipway', res: { up1: { error: 'timeout' } } };
  t.match(verdictOf(TCP_UP, ...repetitions(10, 10), failed, passt), { met: false, must: /a repetition failed/ });

  const tap = (gbit: number): Line[] => [
    { peer: 'slipway-tap', gso: false, res: up(gbit) },
    { peer: 'slirp4netns', gso: false, res: up(5) },
  ];
  t.match(verdictOf(TCP_UP, ...tap(5)), { met: false }, 'ahead means ahead');
  t.match(verdictOf(TCP_UP, ...tap(5.1)), { met: true });

  const lost = (loss_pct: number) =>
    verdictOf('UDP up, lost at 20 000 per s', { peer: 'slipway', res: { udp_up20k: { loss_pct } } });
  t.match(lost(0), { met: true }, 'a bound needs no rival');
  t.match(lost(0.1), { met: false });
  t.match(
    verdictOf('Resident, peak', { peer: 'slipway', res: { rss_peak_kb: 200 * 1024 } }),
    { ours: 200, met: true, reached: false },
    'in MB',
  );
  const text = verdictText([against(up(10), up(10)), against(up(1), up(10))]);
  t.match(text, /^1 of 2 figures .*of 2 .*, 1 reach/);
  t.match(text, 'Not measured: Stream socket, one frame a write; TAP device.');
  t.end();
});

t.test('the commands that were run', (t) => {
  const repetitions = readRepetitions(
    fileOf(
      { peer: 'slipway', res: {} },
      { peer: 'passt', res: {} },
      { peer: 'slipway', mtu: 65520, rep: 2, res: {} },
      { peer: 'pasta', gso: false, one: true, res: {} },
    ),
  );
  t.same(commandsOf(repetitions, false), [
    'netbench.py run --gso --peer slipway,passt --mtu 1500,65520 --reps 3 --secs 2',
    'netbench.py run --one --peer pasta --mtu 1500 --reps 1 --secs 2',
  ]);
  t.match(commandsOf(repetitions, true)[1], 'npm run bench -- e2e --no-offload --one --peers pasta --mtu 1500');
  t.end();
});

t.test('verdicts of the benches', (t) => {
  const rows = [
    { name: 'slipway net serve, ready', value: 299, unit: 'ms' },
    { name: 'slipway net serve, resident', value: 71, unit: 'MB' },
  ];
  t.match(startText({ date: '', rows }), /ready at most 300 ms: met; resident at most 70 MB: \*\*not met\*\*/);
  const row = (name: string, ratio: number) => ({ name, value: 1, unit: 'CPU s/GB', ratio, baseline: 'stream' });
  t.match(linksText({ date: '', rows: [row('a', 0.5), row('b', 0.51)] }), /a: met; b: \*\*not met\*\*/);
  t.end();
});

t.test('numbers, charts and markers', (t) => {
  t.equal(formatted(1234567.4, 0), '1\u202f234\u202f567');
  t.equal(formatted(12.3456, 4), '12.3456', 'no spaces after the point');
  const bar = { label: 'a & <b>', kind: 'rival', median: 90, least: 80, most: 100 } as const;
  const ours = { label: 'slipway', kind: 'ours', median: 1, least: 1, most: 1 } as const;
  const zero = { label: 'none', kind: 'limit', median: 0, least: 0, most: 0 } as const;
  const row = { title: 'x', unit: 's', note: '', digits: 0 };
  const svg = draw({
    title: 'T',
    subtitle: 'S',
    scale: 'own',
    rows: [
      { ...row, bars: [ours, bar] },
      { ...row, bars: [zero] },
    ],
  });
  t.match(svg, 'a &amp; &lt;b&gt;');
  t.notMatch(svg, /NaN|Infinity|undefined/);
  t.match(svg, /class="cut"/, 'a bar that would hide ours is cut');
  const names = groups.flatMap((group) => group.metrics.map(({ test, field }) => `${test}.${field}`));
  t.equal(new Set(names).size, names.length, 'every figure is shown once');

  const page = 'before\n<!-- race: generated -->\nold\n<!-- race: end -->\nafter';
  t.equal(replaceSection(page, 'race', 'new'), page.replace('old', 'new'));
  t.throws(() => replaceSection(page, 'other', 'new'), /lacks the markers/);
  t.end();
});

t.test('npm run bench', (t) => {
  const bench = (...words: string[]) =>
    spawnSync(process.execPath, [join(import.meta.dirname, '../../tools/bench.ts'), ...words], { encoding: 'utf8' });
  const help = bench('--help');
  t.equal(help.status, 0);
  for (const name of ['wire', 'tables', 'segment', 'tcp', 'pipe', 'serve', 'start', 'e2e', 'report'])
    t.match(help.stdout, new RegExp(`^  ${name} +\\S`, 'm'), name);
  t.match(bench('nothing'), { status: 2, stderr: /no bench 'nothing'/ });
  t.match(bench('e2e', '--mtu', 'x'), { status: 2, stderr: /--mtu: 'x'/ });
  t.match(bench('e2e', '--peers', 'x'), { status: 2, stderr: /no peer 'x'/ });
  t.match(bench('report', '/nowhere.jsonl'), { status: 2, stderr: /no file/ });
  t.end();
});
