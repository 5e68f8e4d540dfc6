/**
 * A chart as SVG: for each figure a row of horizontal bars, one a peer, as long as the median, with whiskers from the
 * worst to the best repetition and the numbers beside. Readable in light and dark; ours has the one colour.
 */

export interface Bar {
  readonly label: string;
  readonly kind: 'ours' | 'rival' | 'limit';
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

export interface BarRow {
  readonly title: string;
  readonly unit: string;
  /** A word about the row, at its right. */
  readonly note: string;
  readonly digits: number;
  readonly bars: readonly Bar[];
}

export interface Chart {
  readonly title: string;
  readonly subtitle: string;
  readonly scale: 'shared' | 'own';
  readonly rows: readonly BarRow[];
}

const WIDTH = 900;
const MARGIN = 18;
const BAR_LEFT = 148;
const BAR_RIGHT = 668;
const BAR_HEIGHT = 13;
const BAR_STEP = 18;
const ROW_HEAD = 24;
const ROW_GAP = 12;
const TITLE = 62;
/** Bars beyond this many times ours are cut, so that ours can be seen. */
const CUT = 6;

const style = `
text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
.paper { fill: #ffffff; stroke: #d1d9e0; }
.title { font-size: 16px; font-weight: 600; }
.row { font-size: 13px; font-weight: 600; }
.quiet { fill: #59636e; }
.own { font-weight: 600; }
.ours { fill: #0969da; }
.rival { fill: #afb8c1; }
.limit { fill: none; stroke: #afb8c1; stroke-dasharray: 3 2; }
.whisker { stroke: #1f2328; stroke-width: 1.2; fill: none; }
.base { stroke: #d1d9e0; }
.cut { stroke: #ffffff; stroke-width: 3; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .paper { fill: #0d1117; stroke: #3d444d; }
  .quiet { fill: #9198a1; }
  .ours { fill: #4493f8; }
  .rival { fill: #59636e; }
  .limit { stroke: #59636e; }
  .whisker { stroke: #e6edf3; }
  .base { stroke: #3d444d; }
  .cut { stroke: #0d1117; }
}`;

const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign]!);

const text = (x: number, y: number, words: string, kind: string, end = false): string =>
  `<text x="${x}" y="${y}" class="${kind}"${end ? ' text-anchor="end"' : ''}>${escaped(words)}</text>`;

/** A number with as many digits after the point as its kind has, and spaces between thousands. */
export const formatted = (value: number, digits: number): string =>
  value.toFixed(digits).replace(/\B(?=(\d{3})+(?!\d))(?<!\.\d*)/g, '\u202f');

/** The end of a row's scale: the longest whisker, or less where that would hide ours. */
function endOf(rows: readonly BarRow[]): number {
  const bars = rows.flatMap((row) => row.bars);
  const most = Math.max(0, ...bars.map((bar) => bar.most));
  const ours = Math.max(0, ...bars.filter((bar) => bar.kind === 'ours').map((bar) => bar.most));
  return (ours > 0 ? Math.min(most, ours * CUT) : most) || 1;
}

function drawBar(bar: Bar, y: number, end: number, digits: number): string[] {
  const x = (value: number): number => BAR_LEFT + (Math.min(value, end) / end) * (BAR_RIGHT - BAR_LEFT);
  const place = (value: number): string => x(value).toFixed(1);
  const middle = y + BAR_HEIGHT / 2;
  const own = bar.kind === 'ours' ? 'own' : 'quiet';
  const parts = [
    text(BAR_LEFT - 8, y + 11, bar.label, own, true),
    `<rect x="${BAR_LEFT}" y="${y}" width="${(x(bar.median) - BAR_LEFT).toFixed(1)}" height="${BAR_HEIGHT}" class="${bar.kind}"/>`,
  ];
  const varied = bar.least !== bar.most;
  if (varied && bar.least < end) {
    const cap = (value: number): string => `M${place(value)} ${middle - 4}V${middle + 4}`;
    parts.push(
      `<path d="M${place(bar.least)} ${middle}H${place(bar.most)}${cap(bar.least)}${bar.most <= end ? cap(bar.most) : ''}" class="whisker"/>`,
    );
  }
  if (bar.median > end)
    parts.push(`<path d="M${BAR_RIGHT - 16} ${y + BAR_HEIGHT + 2}l8 ${-BAR_HEIGHT - 4}" class="cut"/>`);
  const figure = formatted(bar.median, digits);
  const range = varied ? `${formatted(bar.least, digits)} to ${formatted(bar.most, digits)}` : '';
  parts.push(text(BAR_RIGHT + 70, y + 11, figure, own, true), text(WIDTH - MARGIN, y + 11, range, 'quiet', true));
  return parts;
}

export function draw({ title, subtitle, scale, rows }: Chart): string {
  const shared = endOf(rows);
  const parts: string[] = [];
  let y = TITLE;
  for (const row of rows) {
    const end = scale === 'shared' ? shared : endOf([row]);
    const top = y + ROW_HEAD;
    const bottom = top + row.bars.length * BAR_STEP - (BAR_STEP - BAR_HEIGHT);
    parts.push(
      text(MARGIN, y + 13, `${row.title}, ${row.unit}`, 'row'),
      text(WIDTH - MARGIN, y + 13, row.note, 'quiet', true),
      `<path d="M${BAR_LEFT - 0.5} ${top - 3}V${bottom + 3}" class="base"/>`,
      ...row.bars.flatMap((bar, i) => drawBar(bar, top + i * BAR_STEP, end, row.digits)),
    );
    y = bottom + ROW_GAP;
  }
  const height = y + 6;
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    `<title>${escaped(`${title}. ${subtitle}`)}</title>`,
    `<style>${style}\n</style>`,
    `<rect x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="6" class="paper"/>`,
    text(MARGIN, 28, title, 'title'),
    text(MARGIN, 46, subtitle, 'quiet'),
    ...parts,
    '</svg>',
  ].join('\n')}\n`;
}
