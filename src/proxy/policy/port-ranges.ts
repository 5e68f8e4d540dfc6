/** Ports as users write them: `443`, `8000-8100`, several set apart by commas. */

export type PortRanges = readonly (readonly [first: number, last: number])[];

/** Undefined when it is anything else; empty text is no port at all. */
export function parsePortRanges(text: string): PortRanges | undefined {
  const ranges: (readonly [number, number])[] = [];
  for (const item of text.split(',').map((word) => word.trim())) {
    if (item === '') continue;
    const match = /^(\d+)(?:-(\d+))?$/.exec(item);
    if (!match) return undefined;
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (first < 1 || last > 65535 || first > last) return undefined;
    ranges.push([first, last]);
  }
  return ranges;
}

export function includesPort(ranges: PortRanges, port: number): boolean {
  for (const [first, last] of ranges) if (port >= first && port <= last) return true;
  return false;
}

export const formatPortRanges = (ranges: PortRanges): string =>
  ranges.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(',');
