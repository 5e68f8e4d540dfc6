/**
 * Turns the guest's boot marks into seconds since the hypervisor's start.
 *
 * A mark carries the guest's uptime, whose zero lies some way after our start: the firmware ran, the kernel was copied.
 * Arrival minus uptime is that distance plus the time the mark was under way, so the smallest over all marks is the
 * nearest to the truth; the marks before are then told anew. The number of names is bounded, as the guest invents them.
 */

const MOST_MARKS = 32;

export class BootClock {
  readonly #uptimes = new Map<string, number>();
  readonly #host = new Map<string, number>();
  #offset = Number.POSITIVE_INFINITY;

  /** A mark of the guest's that arrived `sinceStart` seconds after our start. */
  guestMark(name: string, uptime: number, sinceStart: number): void {
    if (this.#uptimes.has(name) || this.#uptimes.size >= MOST_MARKS) return;
    this.#uptimes.set(name, uptime);
    this.#offset = Math.min(this.#offset, Math.max(0, sinceStart - uptime));
  }

  /** A step seen from the host; it stands above the guest's mark of that name. */
  hostMark(name: string, sinceStart: number): void {
    if (!this.#host.has(name)) this.#host.set(name, sinceStart);
  }

  marks(): Readonly<Record<string, number>> {
    const all = new Map([...this.#uptimes].map(([name, uptime]) => [name, this.#offset + uptime]));
    for (const [name, seconds] of this.#host) all.set(name, seconds);
    const sorted = [...all].sort(([, one], [, other]) => one - other);
    return Object.fromEntries(sorted.map(([name, seconds]) => [name, Math.round(seconds * 1000) / 1000]));
  }
}
