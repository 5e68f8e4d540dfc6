/**
 * Two ways to one guest, of which one is there at a time: QEMU's stream, or vhost-user. Both links dial; frames go by the
 * one that somebody answers, so that whoever starts the VM may choose. For the stack it is one link, and flows outlive a
 * change. Timers: none of its own.
 */

import type { Arena, LinkHandler, LinkOffload, LinkPort } from '../../stack/port.ts';

/** A link that knows whether somebody is at its other end. */
export interface DialledLink extends LinkPort {
  readonly attached: boolean;
}

export class EitherLink implements LinkPort {
  readonly name = 'guest';
  readonly mtu: number;
  readonly #links: readonly [DialledLink, DialledLink];
  #reserved: DialledLink;
  #closed = false;

  constructor(first: DialledLink, second: DialledLink) {
    this.mtu = first.mtu;
    this.#links = [first, second];
    this.#reserved = first;
  }

  get attached(): boolean {
    return this.#current.attached;
  }

  get offload(): LinkOffload {
    return this.#current.offload;
  }

  get txArena(): Arena {
    return this.#reserved.txArena;
  }

  get txOffset(): number {
    return this.#reserved.txOffset;
  }

  start(handler: LinkHandler): void {
    for (const link of this.#links)
      link.start({
        input: (batch) => handler.input(batch),
        writable: () => handler.writable(),
        deserted: () => {
          if (!this.attached) handler.deserted?.();
        },
        closed: (error) => this.#ended(handler, error),
      });
  }

  reserve(octets: number): boolean {
    const [first, second] = this.#links;
    this.#reserved = this.#current;
    if (this.#reserved.attached) return this.#reserved.reserve(octets);
    // Whichever somebody answers first tells of its room.
    second.reserve(octets);
    return first.reserve(octets);
  }

  commit(octets: number, checksumStart: number, checksumOffset: number, segmentOctets: number): void {
    this.#reserved.commit(octets, checksumStart, checksumOffset, segmentOctets);
  }

  flush(): void {
    this.#reserved.flush();
  }

  close(): void {
    for (const link of this.#links) link.close();
  }

  get #current(): DialledLink {
    const [first, second] = this.#links;
    return second.attached ? second : first;
  }

  #ended(handler: LinkHandler, error?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.close();
    handler.closed(error);
  }
}
