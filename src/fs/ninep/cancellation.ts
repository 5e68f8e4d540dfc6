/** Tells an operation that nobody waits for it any more: its request was flushed, its fid clunked, its connection closed. */
export class Cancellation {
  readonly #waits: () => void;
  #cancelled = false;
  #listener: (() => void) | undefined;

  /** @param waits called when the operation begins to wait for something that may never come */
  constructor(waits: () => void = () => undefined) {
    this.#waits = waits;
  }

  get cancelled(): boolean {
    return this.#cancelled;
  }

  /**
   * Whoever waits sets it, and it is called once cancelled, at once if that is so already. From then on the requests that
   * came later may overtake this one. There is one listener at a time.
   */
  set listener(listener: () => void) {
    this.#listener = listener;
    this.#waits();
    if (this.#cancelled) listener();
  }

  cancel(): void {
    if (this.#cancelled) return;
    this.#cancelled = true;
    this.#listener?.();
  }
}
