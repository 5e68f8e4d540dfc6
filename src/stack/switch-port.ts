/** A place where a link is plugged in: its transmit side, whether it has room, and which flows wait to send through it. */

import type { Drops } from './drops.ts';
import type { Arena, LinkPort } from './port.ts';
import { DOUBLE_ZERO } from './wire/double.ts';

/** What waits its turn to send through a port. The list is the port's; each is in it at most once. */
export interface Sender {
  nextReady: Sender | undefined;
  isReady: boolean;
}

export class SwitchPort {
  readonly ingress: number;
  readonly link: LinkPort;
  readonly mtu: number;
  /** The link refused a frame and has not called `writable` since. */
  blocked = false;
  /** Frames were committed since the last flush. */
  dirty = false;
  detached = false;
  framesIn = 0;
  framesOut = 0;
  /** What the address table learnt from this port last, so that it need not look again for every frame. */
  learntMac = DOUBLE_ZERO;
  learntAddress = 0;
  readonly learntIpv6 = new Int32Array(4);
  learntIpv6Mac = DOUBLE_ZERO;
  /** Counts the changes of these two. */
  ipv6Learnings = 0;
  readonly #drops: Drops;
  #first: Sender | undefined = undefined;
  #last: Sender | undefined = undefined;

  constructor(ingress: number, link: LinkPort, drops: Drops) {
    this.ingress = ingress;
    this.link = link;
    this.mtu = link.mtu;
    this.#drops = drops;
  }

  get arena(): Arena {
    return this.link.txArena;
  }

  get at(): number {
    return this.link.txOffset;
  }

  /** Room for a frame now. TCP waits for `writable` after a false. */
  reserve(octets: number): boolean {
    if (this.blocked || this.detached) return false;
    if (this.link.reserve(octets)) return true;
    this.blocked = true;
    return false;
  }

  /** The same for what cannot wait: refused means dropped, and is counted. */
  reserveOrDrop(octets: number): boolean {
    if (this.reserve(octets)) return true;
    this.#drops.count('link-full');
    return false;
  }

  commit(octets: number): void {
    this.framesOut++;
    this.dirty = true;
    this.link.commit(octets, 0, 0, 0);
  }

  commitOffloaded(octets: number, checksumStart: number, checksumOffset: number, segmentOctets: number): void {
    this.framesOut++;
    this.dirty = true;
    this.link.commit(octets, checksumStart, checksumOffset, segmentOctets);
  }

  flush(): void {
    if (!this.dirty) return;
    this.dirty = false;
    this.link.flush();
  }

  get hasReady(): boolean {
    return this.#first !== undefined;
  }

  pushReady(sender: Sender): void {
    if (sender.isReady) return;
    sender.isReady = true;
    sender.nextReady = undefined;
    if (this.#last) this.#last.nextReady = sender;
    else this.#first = sender;
    this.#last = sender;
  }

  takeReady(): Sender | undefined {
    const sender = this.#first;
    if (!sender) return undefined;
    this.#first = sender.nextReady;
    if (!this.#first) this.#last = undefined;
    sender.nextReady = undefined;
    sender.isReady = false;
    return sender;
  }

  /** Puts back one that could not go on for want of room: it is first again. */
  putBack(sender: Sender): void {
    if (sender.isReady) return;
    sender.isReady = true;
    sender.nextReady = this.#first;
    this.#first = sender;
    if (!this.#last) this.#last = sender;
  }
}
