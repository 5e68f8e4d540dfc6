/**
 * A listening TCP socket on Linux. Connections are accepted in batches, some of them per turn of the loop. When
 * descriptors run out, those that wait stay in the backlog, and it is tried again a while later: asking again at once
 * would only burn the processor.
 */

import { Place } from '../../native/memory.ts';
import type { Readiness, ReadyHandler } from '../../native/readiness.ts';
import {
  AF_INET,
  AF_INET6,
  accept4,
  bindSocket,
  close,
  EAGAIN,
  ECONNABORTED,
  EINTR,
  EPOLLET,
  EPOLLIN,
  errorOf,
  getsockname,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPV6_V6ONLY,
  listenSocket,
  SO_REUSEADDR,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOCKADDR,
  SOL_SOCKET,
  socket,
  TCP_NODELAY,
} from '../../native/system-calls.ts';
import { parseAddress } from '../../stack/wire/address.ts';
import type { HostListener, HostStream, StreamHandler } from '../port.ts';
import { LinuxStream } from './linux-stream.ts';
import type { LinuxStreamShared } from './linux-stream-shared.ts';
import { encodeAddress } from './socket-address.ts';

/** Connections the kernel holds for us while we are busy; it lowers this to its own limit. */
const BACKLOG = 4096;
/** Accepted per turn. */
const BATCH = 64;
const RETRY_MS = 100;

export class LinuxListener implements HostListener, ReadyHandler {
  readonly address: string;
  readonly port: number;
  readonly #shared: LinuxStreamShared;
  readonly #readiness: Readiness;
  readonly #accept: (stream: HostStream) => StreamHandler;
  readonly #registration: number;
  #fd: number;

  /** Throws an Error with Node's code. `address` is numeric. */
  constructor(shared: LinuxStreamShared, address: string, port: number, accept: (stream: HostStream) => StreamHandler) {
    this.#shared = shared;
    this.#readiness = shared.readiness;
    this.#accept = accept;
    const parsed = parseAddress(address)!;
    const name = new Place(SOCKADDR);
    const octets = encodeAddress(name, parsed, port);
    const family = octets === 16 ? AF_INET : AF_INET6;
    this.#fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (this.#fd < 0) throw errorOf('socket', this.#fd);
    shared.setOption(this.#fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (family === AF_INET6) shared.setOption(this.#fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    // Accepted sockets inherit it.
    shared.setOption(this.#fd, IPPROTO_TCP, TCP_NODELAY, 1);
    this.#try('bind', bindSocket(this.#fd, name.address, octets));
    this.#try('listen', listenSocket(this.#fd, BACKLOG));
    const bound = shared.name(getsockname, this.#fd)!;
    this.address = bound.address;
    this.port = bound.port;
    this.#registration = this.#try('epoll_ctl', this.#readiness.add(this.#fd, EPOLLIN | EPOLLET, this));
  }

  ready(): void {
    for (let accepted = 0; accepted < BATCH; ) {
      if (this.#fd < 0) return;
      const fd = accept4(this.#fd, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0) {
        new LinuxStream(this.#shared, true).adopt(fd, this.#accept);
        accepted++;
      } else if (fd === EAGAIN) return;
      else if (fd !== EINTR && fd !== ECONNABORTED) {
        setTimeout(this.#again, RETRY_MS).unref();
        return;
      }
    }
    this.#readiness.soon(this.#again);
  }

  close(): void {
    if (this.#fd < 0) return;
    this.#readiness.remove(this.#registration);
    close(this.#fd);
    this.#fd = -1;
  }

  readonly #again = (): void => {
    this.ready();
    this.#readiness.turnOver();
  };

  #try(call: string, result: number): number {
    if (result >= 0) return result;
    close(this.#fd);
    throw errorOf(call, result);
  }
}
