/**
 * Datagrams on their way out. What the guest sent in one batch is put together here and handed to the kernel by few
 * system calls: `sendmmsg` for those of one socket, and of these one message for a run of equally long ones to the same
 * peer, which the kernel cuts into datagrams (UDP_SEGMENT, udp(7): a run passes the host's stack once).
 *
 * The owner flushes at the end of a batch; a queue without room flushes itself. An error is told for the datagram it
 * was about, and the others go on. ICMP's errors about earlier datagrams fail one later call each (and are told by the
 * error queue): that call is made again. A path that cannot take a run gets its datagrams one by one, from then on.
 *
 * Memory that the kernel is told of by address is held by this object.
 */

import { Place } from '../../native/memory.ts';
import {
  codeOf,
  EAGAIN,
  IOVEC,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_HOPLIMIT,
  MMSGHDR,
  MSG_DONTWAIT,
  sendmmsg,
} from '../../native/system-calls.ts';
import type { Address, FragmentList } from '../../stack/port.ts';
import { equal, isIpv4 } from '../../stack/wire/address.ts';
import type { HostErrorCode } from '../port.ts';
import { encodeAddress } from './socket-address.ts';

/** Messages and octets that wait at most; together they are less than a link's batch, so that memory stays warm. */
const MESSAGES = 128;
const OCTETS = 256 * 1024;
/** What one message cut by the kernel may be: 64 datagrams (UDP_MAX_SEGMENTS), and an IP packet's length. */
const RUN_DATAGRAMS = 64;
const RUN_OCTETS = 65000;
/** What the usual MTU has room for, by IP version: only datagrams that need no fragments can be a run. */
const LONGEST_IN_RUN = { 4: 1472, 6: 1452 };

const PEER = 32;
/** struct cmsghdr with one uint16_t or int; a message has room for two: its datagrams' length, and their hops. */
const CONTROL = 24;
const CONTROLS = 2 * CONTROL;
const IPPROTO_UDP = 17;
const UDP_SEGMENT = 103;

/** What the kernel says of a run that it, or the path, cannot cut: EIO, EINVAL, EMSGSIZE. */
const cannotCut = new Set([-5, -22, -90]);

/** Offsets in struct msghdr, the beginning of struct mmsghdr. */
const NAME = 0;
const NAME_LENGTH = 8;
const VECTOR = 16;
const VECTOR_LENGTH = 24;
const CONTROL_AT = 32;
const CONTROL_LENGTH = 40;

/** Who sends: told of what could not be sent. */
export interface QueueSender {
  readonly fd: number;
  /** The path takes runs; cleared when it turns out that it does not. */
  cuts: boolean;
  unsent(code: HostErrorCode, address: Address, port: number, payload: Uint8Array): void;
}

export class DatagramQueue {
  readonly #payload = new Place(OCTETS);
  readonly #headers = new Place(MESSAGES * MMSGHDR);
  readonly #vectors = new Place(MESSAGES * IOVEC);
  readonly #peers: readonly Place[] = Array.from({ length: MESSAGES }, () => new Place(PEER));
  readonly #controls = new Place(MESSAGES * CONTROLS);
  readonly #senders: (QueueSender | undefined)[] = new Array(MESSAGES).fill(undefined);
  readonly #addresses: readonly Address[] = Array.from({ length: MESSAGES }, () => new Uint8Array(16));
  readonly #ports = new Uint16Array(MESSAGES);
  /** Per message: hops that it may make; 0: as many as its socket says. */
  readonly #hopLimits = new Uint8Array(MESSAGES);
  /** Per message: where its octets are, how many, its datagrams' length and number; the last of a run may be shorter. */
  readonly #offsets = new Uint32Array(MESSAGES);
  readonly #lengths = new Uint32Array(MESSAGES);
  readonly #datagramOctets = new Uint16Array(MESSAGES);
  readonly #datagrams = new Uint8Array(MESSAGES);
  #count = 0;
  #octets = 0;
  #flushing = false;

  constructor() {
    const { view } = this.#controls;
    for (let i = 0; i < MESSAGES; i++) {
      const at = i * MMSGHDR;
      this.#headers.setPointer(at + NAME, this.#peers[i]!.address);
      this.#headers.setPointer(at + VECTOR, this.#vectors.address + i * IOVEC);
      this.#headers.setPointer(at + VECTOR_LENGTH, 1);
      // Two octets of data behind the header of 16.
      this.#controls.setPointer(i * CONTROLS, 18);
      view.setInt32(i * CONTROLS + 8, IPPROTO_UDP, true);
      view.setInt32(i * CONTROLS + 12, UDP_SEGMENT, true);
      this.#controls.setPointer(i * CONTROLS + CONTROL, 20);
    }
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** Copies a datagram; false: it came from within a flush that found no room. */
  add(sender: QueueSender, payload: FragmentList, address: Address, port: number, hopLimit: number): boolean {
    const { octets } = payload;
    if (this.#octets + octets > OCTETS || !this.#extendsRun(sender, octets, address, port, hopLimit)) {
      if (this.#count === MESSAGES || this.#octets + octets > OCTETS) {
        if (this.#flushing) return false;
        this.flush();
      }
      this.#begin(sender, address, port, hopLimit);
    }
    const { bytes } = this.#payload;
    let end = this.#octets;
    for (let i = 0; i < payload.count; i++) {
      const { arena, offset, length } = payload.items[i]!;
      // A loop for a few octets: `set` needs a view made for it.
      if (length < 64) for (let k = 0; k < length; k++) bytes[end + k] = arena.bytes[offset + k]!;
      else bytes.set(arena.bytes.subarray(offset, offset + length), end);
      end += length;
    }
    this.#octets = end;
    const last = this.#count - 1;
    if (this.#datagrams[last]! === 0) this.#datagramOctets[last] = octets;
    this.#datagrams[last]!++;
    this.#lengths[last]! += octets;
    return true;
  }

  /** Forgets what a sender that is closed has waiting. */
  drop(sender: QueueSender): void {
    for (let i = 0; i < this.#count; i++) if (this.#senders[i] === sender) this.#senders[i] = undefined;
  }

  /** Sends all that waits. */
  flush(): void {
    if (this.#count === 0 || this.#flushing) return;
    this.#flushing = true;
    // What is told of a failure may send again: the count grows.
    for (let from = 0; from < this.#count; ) {
      const sender = this.#senders[from];
      let to = from + 1;
      while (to < this.#count && this.#senders[to] === sender) to++;
      if (sender) this.#send(sender, from, to);
      from = to;
    }
    this.#flushing = false;
    this.#count = 0;
    this.#octets = 0;
  }

  #extendsRun(sender: QueueSender, octets: number, address: Address, port: number, hopLimit: number): boolean {
    const i = this.#count - 1;
    if (i < 0 || this.#senders[i] !== sender || this.#flushing || this.#ports[i] !== port || !sender.cuts) return false;
    if (this.#hopLimits[i] !== hopLimit) return false;
    const each = this.#datagramOctets[i]!;
    const datagrams = this.#datagrams[i]!;
    const length = this.#lengths[i]!;
    // Equally long so far, and this one no longer than they.
    const longest = LONGEST_IN_RUN[isIpv4(address) ? 4 : 6];
    if (octets === 0 || octets > each || each > longest || length !== each * datagrams) return false;
    if (datagrams === RUN_DATAGRAMS || length + octets > RUN_OCTETS) return false;
    return equal(this.#addresses[i]!, address);
  }

  #begin(sender: QueueSender, address: Address, port: number, hopLimit: number): void {
    const i = this.#count++;
    this.#senders[i] = sender;
    this.#addresses[i]!.set(address);
    this.#ports[i] = port;
    this.#hopLimits[i] = hopLimit;
    if (hopLimit !== 0) this.#describeHops(i, isIpv4(address), hopLimit);
    this.#offsets[i] = this.#octets;
    this.#lengths[i] = 0;
    this.#datagrams[i] = 0;
    const length = encodeAddress(this.#peers[i]!, address, port);
    this.#headers.view.setUint32(i * MMSGHDR + NAME_LENGTH, length, true);
  }

  #send(sender: QueueSender, from: number, to: number): void {
    for (let i = from; i < to; i++) this.#describe(i, this.#offsets[i]!, this.#lengths[i]!, this.#datagrams[i]! > 1);
    const { address } = this.#headers;
    let again = true;
    for (let i = from; i < to && this.#senders[i] === sender; ) {
      const sent = sendmmsg(sender.fd, address + i * MMSGHDR, to - i, MSG_DONTWAIT);
      if (sent > 0) {
        i += sent;
        again = true;
      } else if (again && sent !== EAGAIN) again = false;
      else {
        // A full socket takes none of the others either.
        const until = sent === EAGAIN ? to : i + 1;
        for (; i < until && this.#senders[i] === sender; i++) this.#failed(sender, i, sent);
        again = true;
      }
    }
  }

  /** Message `i` will not be sent as it is. */
  #failed(sender: QueueSender, i: number, error: number): void {
    const address = this.#addresses[i]!;
    const port = this.#ports[i]!;
    if (this.#datagrams[i] === 1 || !cannotCut.has(error)) {
      const at = this.#offsets[i]!;
      sender.unsent(codeOf(error), address, port, this.#payload.bytes.subarray(at, at + this.#datagramOctets[i]!));
      return;
    }
    sender.cuts = false;
    const end = this.#offsets[i]! + this.#lengths[i]!;
    let told = false;
    for (let at = this.#offsets[i]!; at < end; at += this.#datagramOctets[i]!) {
      const octets = Math.min(this.#datagramOctets[i]!, end - at);
      this.#describe(i, at, octets, false);
      const sent = sendmmsg(sender.fd, this.#headers.address + i * MMSGHDR, 1, MSG_DONTWAIT);
      if (sent > 0 || told) continue;
      told = true;
      sender.unsent(codeOf(sent), address, port, this.#payload.bytes.subarray(at, at + octets));
      if (this.#senders[i] !== sender) return;
    }
  }

  #describeHops(i: number, ipv4: boolean, hopLimit: number): void {
    const { view } = this.#controls;
    const at = i * CONTROLS + CONTROL;
    view.setInt32(at + 8, ipv4 ? IPPROTO_IP : IPPROTO_IPV6, true);
    view.setInt32(at + 12, ipv4 ? IP_TTL : IPV6_HOPLIMIT, true);
    view.setInt32(at + 16, hopLimit, true);
  }

  /** Which octets message `i` has, and whether the kernel is to cut them. */
  #describe(i: number, offset: number, length: number, cut: boolean): void {
    this.#vectors.setPointer(i * IOVEC, this.#payload.address + offset);
    this.#vectors.view.setUint32(i * IOVEC + 8, length, true);
    const at = i * MMSGHDR;
    const hops = this.#hopLimits[i] !== 0;
    if (cut) this.#controls.view.setUint16(i * CONTROLS + 16, this.#datagramOctets[i]!, true);
    if (cut || hops) {
      this.#headers.setPointer(at + CONTROL_AT, this.#controls.address + i * CONTROLS + (cut ? 0 : CONTROL));
      this.#headers.view.setUint32(at + CONTROL_LENGTH, cut && hops ? CONTROLS : CONTROL, true);
    } else {
      this.#headers.setPointer(at + CONTROL_AT, 0);
      this.#headers.view.setUint32(at + CONTROL_LENGTH, 0, true);
    }
  }
}
