/**
 * The host's network on Linux: streams and datagrams through the system calls themselves (`linux-stream.ts`,
 * `linux-datagram.ts`), where koffi and epoll are to be had, and everywhere else through Node.
 *
 * The foreign functions are loaded in the background, so that nobody waits for them at the start: until they are there
 * connections and datagram sockets are Node's, and a listener waits for them.
 */

import type { Address } from '../../stack/port.ts';
import { parseAddress } from '../../stack/wire/address.ts';
import type {
  HostDatagramHandler,
  HostDatagramSocket,
  HostListener,
  HostNetPort,
  HostStream,
  StreamHandler,
} from '../port.ts';
import type { NativeHostNet } from './native-host-net.ts';
import { NodeHostNet } from './node-host-net.ts';

export class LinuxHostNet implements HostNetPort {
  readonly #portable: NodeHostNet;
  #native: NativeHostNet | undefined;
  /** Settles when it is known whether there is a native edge: true when there is. */
  readonly loaded: Promise<boolean>;

  /**
   * `serviced` is told after handlers were called: the owner polls the stack when all that is ready has been told.
   * `turnOver` is told that it has been: the owner polls at once, which saves a round trip a turn of the event loop.
   */
  constructor(serviced: () => void = () => {}, turnOver: () => void = serviced) {
    this.#portable = new NodeHostNet(serviced);
    this.loaded = this.#load(turnOver);
  }

  connect(address: Address, port: number, handler: StreamHandler): HostStream {
    return (this.#native ?? this.#portable).connect(address, port, handler);
  }

  connectPath(path: string, handler: StreamHandler): HostStream {
    return (this.#native ?? this.#portable).connectPath(path, handler);
  }

  async listen(address: string, port: number, accept: (stream: HostStream) => StreamHandler): Promise<HostListener> {
    await this.loaded;
    // A zone (fe80::1%eth0) is more than an address says.
    const native = parseAddress(address) && this.#native;
    return (native ?? this.#portable).listen(address, port, accept);
  }

  bindDatagram(family: 4 | 6, handler: HostDatagramHandler): HostDatagramSocket {
    return (this.#native ?? this.#portable).bindDatagram(family, handler);
  }

  async listenDatagram(
    address: string,
    port: number,
    handler: HostDatagramHandler,
  ): Promise<HostListener & { socket: HostDatagramSocket }> {
    await this.loaded;
    const native = parseAddress(address) && this.#native;
    return (native ?? this.#portable).listenDatagram(address, port, handler);
  }

  flush(): void {
    this.#native?.flush();
  }

  /**
   * Calls `run` when this turn of the event loop that serves the sockets is over, or in the next; or when nothing has come to
   * it at once, or a few turns from now.
   */
  later(when: 'soon' | 'quiet', run: () => void): void {
    if (this.#native) this.#native.readiness[when](run);
    else setImmediate(run);
  }

  async #load(turnOver: () => void): Promise<boolean> {
    if (process.platform !== 'linux') return false;
    try {
      const { NativeHostNet } = await import('./native-host-net.ts');
      this.#native = new NativeHostNet(turnOver);
      return true;
    } catch {
      return false; // no koffi for this processor or C library, or no epoll
    }
  }
}
