/**
 * UDP sockets of the host by system calls: received in batches (`recvmmsg`), sent in batches (linux-datagram-queue.ts).
 *
 * A socket that is ready is read until it is empty or has had its share of the turn; epoll then says so again. Where
 * the kernel has put datagrams of one peer together (UDP_GRO, udp(7)), they are handed on one by one. ICMP
 * errors come by the socket's error queue (IP_RECVERR, ip(7)) with the peer that the datagram was for, which an
 * unconnected socket would not hear of otherwise. "Unreachable" is told, out of hops with the router that says so, and
 * too big with the path's MTU; what else there is (parameter problems) is no news about the peer.
 *
 * DF is a socket's, not a datagram's: it is set or cleared before the first that wants it so, after what waits has left.
 * The kernel then refuses what its MTU of the path is too small for, and the error queue has that MTU.
 *
 * The kernel's buffers are asked to be large, within its limits (net.core.rmem_max): what comes while the loop is busy
 * elsewhere has to wait there.
 *
 * Memory that the kernel is told of by address is held by `LinuxDatagrams`.
 */

import { Place } from '../../native/memory.ts';
import type { Readiness, ReadyHandler } from '../../native/readiness.ts';
import {
  AF_INET,
  AF_INET6,
  bindSocket,
  close,
  codeOf,
  EAGAIN,
  EMSGSIZE,
  EPOLLERR,
  EPOLLIN,
  errorOf,
  getsockname,
  IOVEC,
  IP_MTU_DISCOVER,
  IP_RECVERR,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_MTU_DISCOVER,
  IPV6_RECVERR,
  IPV6_UNICAST_HOPS,
  IPV6_V6ONLY,
  MMSGHDR,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSGHDR,
  recvmmsg,
  recvmsg,
  SO_RCVBUF,
  SO_SNDBUF,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOL_SOCKET,
  setsockopt,
  socket,
} from '../../native/system-calls.ts';
import type { Address, FragmentList } from '../../stack/port.ts';
import { isIpv4, parseAddress, setIpv4, setWord } from '../../stack/wire/address.ts';
import type { HostDatagramHandler, HostDatagramSocket, HostErrorCode, HostListener } from '../port.ts';
import { isLinkLocal6 } from '../scoped-address.ts';
import { DatagramQueue, type QueueSender } from './linux-datagram-queue.ts';
import { decodeAddress, decodePort, encodeAddress } from './socket-address.ts';

/** Every path takes a packet with this much of a datagram. RFC 791 3.1: 576 octets, its headers among them. */
const FITS = 548;
/** Values of IP_MTU_DISCOVER, ip(7): fragments where they are needed, and none. */
const PMTUDISC_WANT = 1;
const PMTUDISC_DO = 2;
/** Largest UDP payload over IPv4; what is longer cannot be given to a guest. */
const LARGEST = 65507;
/** Messages of one system call; of a turn's first, which shows whether they are runs of up to 64 KiB. */
const BATCH = 64;
const FIRST = 8;
/** Datagrams of one socket after which others have their turn. */
const SHARE = 128;
/** Errors of one socket in one turn. */
const ERRORS = 64;
const SLOT = 65536;
const PEER = 32;
const CONTROL = 256;
const QUOTED = 1280;
/** struct cmsghdr with one int. */
const RUN_CONTROL = 24;
const SOL_UDP = 17;
const UDP_GRO = 104;
/** What a second of 20 000 datagrams needs for 50 ms, in the kernel's reckoning. */
const BUFFER_OCTETS = 2 << 20;

/** Offsets in struct msghdr, and of mmsghdr's count behind it. */
const NAME = 0;
const NAME_LENGTH = 8;
const VECTOR = 16;
const VECTOR_LENGTH = 24;
const CONTROL_AT = 32;
const CONTROL_LENGTH = 40;
const RECEIVED = 56;

/** struct sock_extended_err behind a struct cmsghdr, and what it says. */
const ERROR = 16;
const ERROR_END = 32;
const SO_EE_ORIGIN_LOCAL = 1;
const SO_EE_ORIGIN_ICMP = 2;
const SO_EE_ORIGIN_ICMP6 = 3;
const ICMP_UNREACHABLE = 3;
const ICMP6_UNREACHABLE = 1;
const ICMP_TIME_EXCEEDED = 11;
const ICMP6_TIME_EXCEEDED = 3;
/** SO_EE_OFFENDER: whom the error came from. */
const OFFENDER = ERROR_END;

/** All datagram sockets of one adapter, and what they share. */
export class LinuxDatagrams {
  readonly #readiness: Readiness;
  readonly queue = new DatagramQueue();
  readonly #slots = new Place(BATCH * SLOT);
  /** Per slot the last payload's view: the next one is often as long. */
  readonly #payloads: Uint8Array[] = [];
  readonly #peers = new Place(BATCH * PEER);
  readonly #vectors = new Place(BATCH * IOVEC);
  readonly #headers = new Place(BATCH * MMSGHDR);
  readonly #runs = new Place(BATCH * RUN_CONTROL);
  readonly #message = new Place(MSGHDR);
  readonly #control = new Place(CONTROL);
  /** What an error quotes of a datagram: no more than an error has room for. */
  readonly #quoted = new Place(QUOTED);
  readonly #quotedVector = new Place(IOVEC);
  readonly #word = new Place(4);
  readonly #peer: Address = new Uint8Array(16);
  #flushSoon = false;
  readonly #flush = (): void => {
    this.#flushSoon = false;
    this.queue.flush();
  };

  constructor(readiness: Readiness) {
    this.#readiness = readiness;
    this.#quotedVector.setPointer(0, this.#quoted.address);
    this.#quotedVector.setPointer(8, QUOTED);
    this.#message.setPointer(VECTOR, this.#quotedVector.address);
    this.#message.setPointer(VECTOR_LENGTH, 1);
    const headers = this.#headers;
    for (let i = 0; i < BATCH; i++) {
      this.#payloads.push(this.#slots.bytes.subarray(i * SLOT, i * SLOT));
      this.#vectors.setPointer(i * IOVEC, this.#slots.address + i * SLOT);
      this.#vectors.setPointer(i * IOVEC + 8, SLOT);
      headers.setPointer(i * MMSGHDR + NAME, this.#peers.address + i * PEER);
      headers.view.setUint32(i * MMSGHDR + NAME_LENGTH, PEER, true);
      headers.setPointer(i * MMSGHDR + VECTOR, this.#vectors.address + i * IOVEC);
      headers.setPointer(i * MMSGHDR + VECTOR_LENGTH, 1);
      headers.setPointer(i * MMSGHDR + CONTROL_AT, this.#runs.address + i * RUN_CONTROL);
      headers.view.setUint32(i * MMSGHDR + CONTROL_LENGTH, RUN_CONTROL, true);
    }
  }

  /** Bound at once; after a failure, which `failed` tells later, `port` is 0 and nothing is sent. */
  bind(family: 4 | 6, handler: HostDatagramHandler): HostDatagramSocket {
    const opened = new LinuxDatagramSocket(this, family, handler);
    const result = this.#open(opened, family === 4 ? ANY4 : ANY6, 0);
    if (result < 0) this.#readiness.defer({ deferred: () => handler.failed(opened, codeOf(result)) });
    return opened;
  }

  /** The same at an address and port that are wanted. */
  async listen(
    address: string,
    port: number,
    handler: HostDatagramHandler,
  ): Promise<HostListener & { socket: HostDatagramSocket }> {
    const wanted = parseAddress(address);
    const opened = new LinuxDatagramSocket(this, wanted && isIpv4(wanted) ? 4 : 6, handler);
    const result = wanted ? this.#open(opened, wanted, port) : EINVAL;
    if (result < 0) throw errorOf(`bind ${address}:${port}`, result);
    return { address, port: opened.port, socket: opened, close: () => opened.close() };
  }

  /** Sends what waits; the owner calls it when a batch from a link is done. Without that it is done before long. */
  flush(): void {
    this.queue.flush();
  }

  /** Gives a socket's datagrams this many hops, where they say nothing else. */
  useHopLimit(of: LinuxDatagramSocket, hopLimit: number): void {
    if (of.family === 4) this.#option(of.fd, IPPROTO_IP, IP_TTL, hopLimit);
    else this.#option(of.fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, hopLimit);
  }

  /** From now on a socket's datagrams go whole, or they may be cut. */
  useWhole(of: LinuxDatagramSocket, whole: boolean): void {
    this.queue.flush();
    const value = whole ? PMTUDISC_DO : PMTUDISC_WANT;
    if (of.family === 4) this.#option(of.fd, IPPROTO_IP, IP_MTU_DISCOVER, value);
    else this.#option(of.fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, value);
  }

  /** Something waits to be sent. */
  queued(): void {
    if (this.#flushSoon) return;
    this.#flushSoon = true;
    queueMicrotask(this.#flush);
  }

  portOf(fd: number): number {
    this.#word.view.setUint32(0, PEER, true);
    return getsockname(fd, this.#peers.address, this.#word.address) < 0 ? 0 : decodePort(this.#peers.view, 0);
  }

  remove(closed: LinuxDatagramSocket): void {
    this.queue.drop(closed);
    this.#readiness.remove(closed.registration);
    close(closed.fd);
  }

  /** Hands on what has come for a socket, as much as its turn allows. */
  receive(from: LinuxDatagramSocket): void {
    const { view } = this.#headers;
    let again = true;
    let most = FIRST;
    for (let handedOn = 0; handedOn < SHARE && from.isOpen; ) {
      const count = recvmmsg(from.fd, this.#headers.address, most, MSG_DONTWAIT, 0);
      if (count < 0) {
        // An error that waits fails one call, and is in the error queue as well.
        if (count === EAGAIN || !again) return;
        again = false;
        this.errors(from);
        continue;
      }
      let hasRuns = false;
      for (let i = 0, at = 0; i < count; i++, at += MMSGHDR) {
        const octets = view.getUint32(at + RECEIVED, true);
        let each = octets;
        if (view.getUint32(at + CONTROL_LENGTH, true) !== 0) {
          hasRuns = true;
          each = this.#runs.view.getInt32(i * RUN_CONTROL + 16, true);
        }
        view.setUint32(at + NAME_LENGTH, PEER, true);
        view.setUint32(at + CONTROL_LENGTH, RUN_CONTROL, true);
        const port = this.#peerAt(i * PEER);
        handedOn += port < 0 ? 1 : this.#handOn(from, i, octets, each, port);
      }
      if (count < most) return;
      if (!hasRuns) most = BATCH;
    }
  }

  /** `octets` from `#peer`, `each` a datagram, the last one what is left; returns how many they are. */
  #handOn(from: LinuxDatagramSocket, slot: number, octets: number, each: number, port: number): number {
    const { bytes } = this.#slots;
    const at = slot * SLOT;
    if (octets <= each || each <= 0) {
      let payload = this.#payloads[slot]!;
      if (payload.length !== octets) payload = this.#payloads[slot] = bytes.subarray(at, at + octets);
      if (from.isOpen) from.handler.received(from, payload, this.#peer, port);
      return 1;
    }
    const end = at + octets;
    for (let i = at; i < end && from.isOpen; i += each)
      from.handler.received(from, bytes.subarray(i, Math.min(i + each, end)), this.#peer, port);
    return Math.ceil(octets / each);
  }

  /**
   * Each entry of the error queue: whom the datagram was for, its payload's beginning as the error quotes it, and struct
   * sock_extended_err as a control message. What the kernel itself refused is told when it is sent; `refusedPort` is the
   * port of such a one, and `refusedPayload` its payload, which the queue has not.
   */
  errors(from: LinuxDatagramSocket, refusedPort = 0, refusedPayload?: Uint8Array): void {
    let refused = refusedPort;
    const { view, address } = this.#message;
    const { view: control } = this.#control;
    for (let i = 0; i < ERRORS && from.isOpen; i++) {
      this.#message.setPointer(NAME, this.#peers.address);
      view.setUint32(NAME_LENGTH, PEER, true);
      this.#message.setPointer(CONTROL_AT, this.#control.address);
      this.#message.setPointer(CONTROL_LENGTH, CONTROL);
      const octets = recvmsg(from.fd, address, MSG_ERRQUEUE | MSG_DONTWAIT);
      if (octets < 0) return;
      const level = control.getInt32(8, true);
      const type = control.getInt32(12, true);
      const isError =
        (level === IPPROTO_IP && type === IP_RECVERR) || (level === IPPROTO_IPV6 && type === IPV6_RECVERR);
      if (!isError || view.getUint32(CONTROL_LENGTH, true) < ERROR_END) continue;
      const error = control.getUint32(ERROR, true);
      const origin = control.getUint8(ERROR + 4);
      const icmpType = control.getUint8(ERROR + 5);
      const isIcmp = (type4: number, type6: number): boolean =>
        (origin === SO_EE_ORIGIN_ICMP && icmpType === type4) || (origin === SO_EE_ORIGIN_ICMP6 && icmpType === type6);
      let port = this.#peerAt(0);
      let payload = octets > 0 ? this.#quoted.bytes.subarray(0, octets) : undefined;
      if (origin === SO_EE_ORIGIN_LOCAL) {
        // Refused twice, as it was tried twice.
        port = refused;
        payload = refusedPayload;
        refused = 0;
      }
      if (port <= 0) continue;
      // ee_info: the path's MTU, as the kernel or a router knows it.
      if (error === -EMSGSIZE)
        from.handler.tooBig?.(from, control.getUint32(ERROR + 8, true), this.#peer, port, payload);
      else if (isIcmp(ICMP_UNREACHABLE, ICMP6_UNREACHABLE))
        from.handler.failed(from, codeOf(error), this.#peer, port, payload);
      else if (isIcmp(ICMP_TIME_EXCEEDED, ICMP6_TIME_EXCEEDED)) {
        const router = decodeAddress(control, OFFENDER);
        if (router) from.handler.expired?.(from, router, this.#peer, port, payload);
      }
    }
  }

  /** Reads a peer's name: the address, with its scope, into `#peer`, the port as result; -1: it is none of these families. */
  #peerAt(at: number): number {
    const { view, bytes } = this.#peers;
    const family = view.getUint16(at, true);
    if (family === AF_INET) setIpv4(this.#peer, view.getInt32(at + 4));
    else if (family === AF_INET6) {
      for (let i = 0; i < 16; i++) this.#peer[i] = bytes[at + 8 + i]!;
      if (isLinkLocal6(this.#peer)) setWord(this.#peer, 1, view.getUint32(at + 24, true));
    } else return -1;
    return view.getUint16(at + 2);
  }

  /** 0, or the negative errno. */
  #open(opened: LinuxDatagramSocket, address: Address, port: number): number {
    const ipv4 = opened.family === 4;
    const fd = socket(ipv4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return fd;
    if (!ipv4) this.#option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    const length = encodeAddress(this.#peers, address, port);
    const bound = bindSocket(fd, this.#peers.address, length);
    if (bound < 0) {
      close(fd);
      return bound;
    }
    this.#option(fd, ipv4 ? IPPROTO_IP : IPPROTO_IPV6, ipv4 ? IP_RECVERR : IPV6_RECVERR, 1);
    this.#option(fd, SOL_UDP, UDP_GRO, 1);
    this.#option(fd, SOL_SOCKET, SO_RCVBUF, BUFFER_OCTETS);
    this.#option(fd, SOL_SOCKET, SO_SNDBUF, BUFFER_OCTETS);
    const registration = this.#readiness.add(fd, EPOLLIN, opened);
    if (registration < 0) {
      close(fd);
      return registration;
    }
    opened.opened(fd, registration);
    return 0;
  }

  #option(fd: number, level: number, option: number, value: number): void {
    this.#word.view.setInt32(0, value, true);
    setsockopt(fd, level, option, this.#word.address, 4);
  }
}

const EINVAL = -22;
const ANY4 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0);
const ANY6 = new Uint8Array(16);

class LinuxDatagramSocket implements HostDatagramSocket, ReadyHandler, QueueSender {
  owner: unknown = undefined;
  readonly family: 4 | 6;
  readonly handler: HostDatagramHandler;
  readonly #datagrams: LinuxDatagrams;
  fd = -1;
  registration = -1;
  isOpen = false;
  cuts = true;
  #port = 0;
  /** 0: the host's own, until somebody asks for another. */
  #hopLimit = 0;
  #whole = false;

  constructor(datagrams: LinuxDatagrams, family: 4 | 6, handler: HostDatagramHandler) {
    this.#datagrams = datagrams;
    this.family = family;
    this.handler = handler;
  }

  opened(fd: number, registration: number): void {
    this.fd = fd;
    this.registration = registration;
    this.isOpen = true;
  }

  get port(): number {
    if (this.#port === 0 && this.isOpen) this.#port = this.#datagrams.portOf(this.fd);
    return this.#port;
  }

  send(payload: FragmentList, address: Address, port: number, hopLimit = this.#hopLimit, whole = false): boolean {
    if (!this.isOpen || payload.octets > LARGEST || port === 0) return false;
    if (whole !== this.#whole && payload.octets > FITS) this.#datagrams.useWhole(this, (this.#whole = whole));
    // What the first has, the others have as a rule: it becomes the socket's own.
    if (this.#hopLimit === 0 && hopLimit > 0) this.#datagrams.useHopLimit(this, (this.#hopLimit = hopLimit));
    const own = hopLimit === this.#hopLimit ? 0 : hopLimit;
    if (!this.#datagrams.queue.add(this, payload, address, port, own)) return false;
    this.#datagrams.queued();
    return true;
  }

  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.#port = 0;
    this.#datagrams.remove(this);
  }

  ready(events: number): void {
    if ((events & EPOLLERR) !== 0) this.#datagrams.errors(this);
    // Whatever the event: an error that found no place in the error queue is cleared by the next call alone.
    this.#datagrams.receive(this);
  }

  unsent(code: HostErrorCode, address: Address, port: number, payload: Uint8Array): void {
    if (!this.isOpen) return;
    if (code === 'EMSGSIZE') this.#datagrams.errors(this, port, payload);
    this.handler.failed(this, code, address, port, payload);
  }
}
