/** A benny suite as rows: operations a second, each as a ratio to the suite's first case, the baseline. */

import benny from 'benny';
import type { Row } from './table.ts';

export async function suite(name: string, cases: Readonly<Record<string, () => unknown>>): Promise<Row[]> {
  const added = Object.entries(cases).map(([label, work]) => benny.add(label, () => void work()));
  const summary = await benny.suite(name, ...added);
  const baseline = summary.results[0]!;
  return summary.results.map((result) => ({
    name: `${name}: ${result.name}`,
    value: result.ops,
    unit: 'op/s',
    ratio: result.ops / baseline.ops,
    baseline: baseline.name,
  }));
}
