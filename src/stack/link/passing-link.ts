/** A link that stands before another one, and passes on what it has no part in. */

import type { Arena, LinkHandler, LinkOffload, LinkPort } from '../port.ts';

export abstract class PassingLink implements LinkPort {
  /** The one behind it. */
  protected link: LinkPort;

  constructor(link: LinkPort) {
    this.link = link;
  }

  get name(): string {
    return this.link.name;
  }

  get mtu(): number {
    return this.link.mtu;
  }

  get offload(): LinkOffload {
    return this.link.offload;
  }

  get txArena(): Arena {
    return this.link.txArena;
  }

  get txOffset(): number {
    return this.link.txOffset;
  }

  abstract start(handler: LinkHandler): void;

  reserve(octets: number): boolean {
    return this.link.reserve(octets);
  }

  commit(octets: number, checksumStart: number, checksumOffset: number, segmentOctets: number): void {
    this.link.commit(octets, checksumStart, checksumOffset, segmentOctets);
  }

  flush(): void {
    this.link.flush();
  }

  close(): void {
    this.link.close();
  }
}
