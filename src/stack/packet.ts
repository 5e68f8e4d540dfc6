/**
 * The packet at hand: one record per netstack, filled for every frame and read on its way up. Nothing keeps it.
 * Addresses are four signed words each (IPv4 mapped: 0, 0, 0xffff, the address).
 */

import type { Fragments } from './fragment-list.ts';
import type { FrameBatch } from './frame-batch.ts';
import { CHECKSUM_UNKNOWN } from './frame-batch.ts';
import { sum } from './frame-memory.ts';
import type { Arena } from './port.ts';
import type { SwitchPort } from './switch-port.ts';
import { type Address, setWord } from './wire/address.ts';
import { join } from './wire/checksum.ts';
import * as ethernet from './wire/ethernet.ts';

export class Packet {
  /** Where it came in. Set before anything else is read. */
  declare port: SwitchPort;
  declare batch: FrameBatch;
  declare arena: Arena;
  declare view: DataView;
  frame = 0;
  /** False for what was put together from fragments: there is no Ethernet header before it. */
  hasEthernet = true;
  isIpv6 = false;
  /** Where things are in `view`. The headers lie contiguous: `contiguous` octets from the IP header on. */
  ethernetAt = 0;
  ipAt = 0;
  contiguous = 0;
  transportAt = 0;
  /** Of the IP packet, and of what IP carries. */
  ipOctets = 0;
  transportOctets = 0;
  protocol = 0;
  hopLimit = 0;
  dontFragment = false;
  source0 = 0;
  source1 = 0;
  source2 = 0;
  source3 = 0;
  destination0 = 0;
  destination1 = 0;
  destination2 = 0;
  destination3 = 0;

  copySource(into: Address): void {
    setWord(into, 0, this.source0);
    setWord(into, 1, this.source1);
    setWord(into, 2, this.source2);
    setWord(into, 3, this.source3);
  }

  copyDestination(into: Address): void {
    setWord(into, 0, this.destination0);
    setWord(into, 1, this.destination1);
    setWord(into, 2, this.destination2);
    setWord(into, 3, this.destination3);
  }

  /** Octets of the transport's header and payload that lie contiguous at `transportAt`. */
  get transportContiguous(): number {
    return Math.min(this.contiguous - (this.transportAt - this.ipAt), this.transportOctets);
  }

  /** Whether something below has vouched for the transport's checksum. */
  get checksumVerified(): boolean {
    return this.batch.checksum[this.frame] !== CHECKSUM_UNKNOWN;
  }

  /** The partial sum of all that IP carries. */
  transportSum(): number {
    const contiguous = this.transportContiguous;
    let total = sum(this.arena, this.transportAt, contiguous);
    let done = contiguous;
    if (done < this.transportOctets) {
      const { batch } = this;
      let fragment = batch.first[this.frame]! + 1;
      while (done < this.transportOctets) {
        const length = Math.min(batch.length[fragment]!, this.transportOctets - done);
        total = join(total, done, sum(batch.arena[fragment]!, batch.offset[fragment]!, length));
        done += length;
        fragment++;
      }
    }
    return total;
  }

  /** Octets of the IP packet that are at hand. */
  get availableOctets(): number {
    return this.batch.octets[this.frame]! - (this.hasEthernet ? ethernet.HEADER_OCTETS : 0);
  }

  /** Copies the first `octets` of the IP packet. They must be there. */
  copyTo(octets: number, into: Uint8Array, at: number): void {
    const { batch } = this;
    let length = Math.min(octets, this.contiguous);
    into.set(this.arena.bytes.subarray(this.ipAt, this.ipAt + length), at);
    for (let done = length, fragment = batch.first[this.frame]! + 1; done < octets; done += length, fragment++) {
      const begin = batch.offset[fragment]!;
      length = Math.min(octets - done, batch.length[fragment]!);
      into.set(batch.arena[fragment]!.bytes.subarray(begin, begin + length), at + done);
    }
  }

  /** Appends `octets` of what IP carries, from octet `skip` of it on, to a list. They must be there. */
  payload(skip: number, octets: number, into: Fragments): void {
    let left = octets;
    let from = skip;
    const contiguous = this.transportContiguous;
    if (from < contiguous && left > 0) {
      const length = Math.min(left, contiguous - from);
      into.push(this.arena, this.transportAt + from, length);
      left -= length;
      from += length;
    }
    if (left === 0) return;
    const { batch } = this;
    let fragment = batch.first[this.frame]! + 1;
    let before = contiguous;
    while (left > 0) {
      const available = batch.length[fragment]!;
      const within = from - before;
      if (within < available) {
        const length = Math.min(left, available - within);
        into.push(batch.arena[fragment]!, batch.offset[fragment]! + within, length);
        left -= length;
        from += length;
      }
      before += available;
      fragment++;
    }
  }
}
