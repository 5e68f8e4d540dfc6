/** Cuts a stream of octets into lines of bounded length. A line beyond the bound is told once and ends the reading. */
export class LineReader {
  readonly #limitOctets: number;
  readonly #onLine: (line: string) => void;
  readonly #onOverflow: () => void;
  #chunks: Buffer[] = [];
  #held = 0;
  #ended = false;

  constructor(limitOctets: number, onLine: (line: string) => void, onOverflow: () => void) {
    this.#limitOctets = limitOctets;
    this.#onLine = onLine;
    this.#onOverflow = onOverflow;
  }

  push(chunk: Buffer): void {
    let rest = chunk;
    while (!this.#ended) {
      const at = rest.indexOf(10);
      const part = at < 0 ? rest : rest.subarray(0, at);
      this.#held += part.length;
      if (this.#held > this.#limitOctets) {
        this.end();
        this.#onOverflow();
        return;
      }
      if (part.length > 0) this.#chunks.push(part);
      if (at < 0) return;
      const line = Buffer.concat(this.#chunks).toString('utf8');
      this.#chunks = [];
      this.#held = 0;
      rest = rest.subarray(at + 1);
      this.#onLine(line.endsWith('\r') ? line.slice(0, -1) : line);
    }
  }

  /** Nothing more is told, also from within a line's callback. */
  end(): void {
    this.#ended = true;
    this.#chunks = [];
  }
}
