/** Sockets of Linux without Node between: what `linux-host-net.ts` loads where it can. */

import { Place } from '../../native/memory.ts';
import { Readiness } from '../../native/readiness.ts';
import {
  AF_INET,
  AF_INET6,
  AF_UNIX,
  close,
  codeOf,
  connectSocket,
  EINPROGRESS,
  IPPROTO_TCP,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOCKADDR,
  socket,
  TCP_NODELAY,
} from '../../native/system-calls.ts';
import type { Address } from '../../stack/port.ts';
import type { HostDatagramHandler, HostDatagramSocket, HostListener, HostStream, StreamHandler } from '../port.ts';
import { LinuxDatagrams } from './linux-datagram.ts';
import { LinuxListener } from './linux-listener.ts';
import { LinuxStream } from './linux-stream.ts';
import { LinuxStreamShared } from './linux-stream-shared.ts';
import { encodeAddress, encodePath } from './socket-address.ts';

export class NativeHostNet {
  readonly readiness: Readiness;
  readonly #streams: LinuxStreamShared;
  readonly #datagrams: LinuxDatagrams;
  readonly #name = new Place(SOCKADDR);

  /** Throws where there is no epoll. */
  constructor(serviced: () => void) {
    this.readiness = new Readiness(serviced);
    this.#streams = new LinuxStreamShared(this.readiness);
    this.#datagrams = new LinuxDatagrams(this.readiness);
  }

  connect(address: Address, port: number, handler: StreamHandler): HostStream {
    const octets = encodeAddress(this.#name, address, port);
    return this.#dial(octets === 16 ? AF_INET : AF_INET6, octets, handler);
  }

  connectPath(path: string, handler: StreamHandler): HostStream {
    const octets = encodePath(this.#name, path);
    if (octets > 0) return this.#dial(AF_UNIX, octets, handler);
    const stream = new LinuxStream(this.#streams, false);
    stream.refuse(handler, 'ENAMETOOLONG');
    return stream;
  }

  /** `address` is numeric. */
  async listen(address: string, port: number, accept: (stream: HostStream) => StreamHandler): Promise<HostListener> {
    return new LinuxListener(this.#streams, address, port, accept);
  }

  bindDatagram(family: 4 | 6, handler: HostDatagramHandler): HostDatagramSocket {
    return this.#datagrams.bind(family, handler);
  }

  /** `address` is numeric. */
  listenDatagram(
    address: string,
    port: number,
    handler: HostDatagramHandler,
  ): Promise<HostListener & { socket: HostDatagramSocket }> {
    return this.#datagrams.listen(address, port, handler);
  }

  flush(): void {
    this.#datagrams.flush();
  }

  /** To what `#name` says. */
  #dial(family: number, octets: number, handler: StreamHandler): HostStream {
    const tcp = family !== AF_UNIX;
    const stream = new LinuxStream(this.#streams, tcp);
    const fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
      if (tcp) this.#streams.setOption(fd, IPPROTO_TCP, TCP_NODELAY, 1);
      const result = connectSocket(fd, this.#name.address, octets);
      if (result >= 0 || result === EINPROGRESS) {
        stream.dial(fd, handler);
        return stream;
      }
      close(fd);
      stream.refuse(handler, codeOf(result));
    } else stream.refuse(handler, codeOf(fd));
    return stream;
  }
}
