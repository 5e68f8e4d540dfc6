/** A benny suite as rows: operations a second, each as a ratio to the suite's first case, the baseline. */

import benny from 'benny';
import type { Row } from './table.ts';

/** What the cases made, so that no compiler finds that nobody asked for it. */
export const made: { last: unknown } = { last: undefined };

/** `perRun`: operations that one call of a case does. */
export async function suite(name: string, cases: Readonly<Record<string, () => unknown>>, perRun = 1): Promise<Row[]> {
  const added = Object.entries(cases).map(([label, work]) =>
    benny.add(label, () => {
      made.last = work();
    }),
  );
  const summary = await benny.suite(name, ...added);
  const baseline = summary.results[0]!;
  return summary.results.map((result) => ({
    name: `${name}: ${result.name}`,
    value: result.ops * perRun,
    unit: 'per s',
    ratio: result.ops / baseline.ops,
    baseline: baseline.name,
  }));
}
