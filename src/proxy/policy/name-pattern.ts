/**
 * Names as rules have them, in any case of letters (RFC 4343): `example.org` is that name; `*.example.org` every name
 * below it, at any depth; `.example.org` both. Elsewhere `*` stands for any characters within one label, as in
 * `api-*.example.org`.
 */

export interface NamePattern {
  /** Labels, the last first. */
  readonly labels: readonly string[];
  /** What every name that matches ends in: most others are told by it. */
  readonly suffix: string;
  /** Names below match. */
  readonly below: boolean;
  /** The name itself matches. */
  readonly itself: boolean;
}

const label = /^[a-z0-9_*-]{1,63}$/;
/** What resolvers may take for a number, and with it the whole name for an address. */
const numeric = /^(?:\d+|0x[0-9a-f]*)$/;

/** Undefined when it is no such pattern. */
export function parseNamePattern(text: string): NamePattern | undefined {
  let name = text.toLowerCase().replace(/\.$/, '');
  if (name.length > 253) return undefined;
  let [below, itself] = [false, true];
  if (name.startsWith('*.')) {
    name = name.slice(2);
    [below, itself] = [true, false];
  } else if (name.startsWith('.')) {
    name = name.slice(1);
    below = true;
  }
  const labels = name.split('.').reverse();
  if (!labels.every((one) => label.test(one)) || labels[0] === '*' || numeric.test(labels[0]!)) return undefined;
  const starred = labels.findIndex((one) => one.includes('*'));
  const suffix = labels
    .slice(0, starred < 0 ? labels.length : starred)
    .reverse()
    .join('.');
  return { labels, suffix, below, itself };
}

export function formatNamePattern({ labels, below, itself }: NamePattern): string {
  const name = [...labels].reverse().join('.');
  return below ? `${itself ? '' : '*'}.${name}` : name;
}

/** `name` is without a dot at its end. */
export function matchesName({ labels, suffix, below, itself }: NamePattern, name: string): boolean {
  const lower = name.toLowerCase();
  if (!lower.endsWith(suffix)) return false;
  const found = lower.split('.');
  const deeper = found.length - labels.length;
  if (deeper < 0 || (deeper === 0 ? !itself : !below)) return false;
  for (let i = 0; i < labels.length; i++) if (!matchesLabel(labels[i]!, found[found.length - 1 - i]!)) return false;
  return true;
}

/** The pieces between the stars are looked for from left to right, each as early as it goes; the last one ends the label. */
function matchesLabel(pattern: string, text: string): boolean {
  const pieces = pattern.split('*');
  if (pieces.length === 1) return pattern === text;
  const [first, last] = [pieces[0]!, pieces.at(-1)!];
  if (text.length < first.length + last.length || !text.startsWith(first) || !text.endsWith(last)) return false;
  const end = text.length - last.length;
  let at = first.length;
  for (const piece of pieces.slice(1, -1)) {
    const found = text.indexOf(piece, at);
    if (found < 0 || found + piece.length > end) return false;
    at = found + piece.length;
  }
  return true;
}
