/**
 * Finds a connection by its two ports. A host-opened connection has a host port of its own; a guest-opened one has a
 * guest port of its own: a second connection from the same guest port is refused.
 */

interface Ports {
  readonly hostPort: number;
  readonly guestPort: number;
}

/** Host ports of host-opened connections begin here, out of the way of the ports services use. */
export const firstHostPort = 0x4000_0000;
const hostPorts = 0x4000_0000;

export class ConnectionTable<T extends Ports> {
  readonly #byHostPort = new Map<number, T>();
  readonly #byGuestPort = new Map<number, T>();
  #nextHostPort = 0;

  get size(): number {
    return this.#byHostPort.size + this.#byGuestPort.size;
  }

  get guestOpened(): number {
    return this.#byGuestPort.size;
  }

  find(hostPort: number, guestPort: number): T | undefined {
    const opened = this.#byHostPort.get(hostPort);
    if (opened?.guestPort === guestPort) return opened;
    const accepted = this.#byGuestPort.get(guestPort);
    return accepted?.hostPort === hostPort ? accepted : undefined;
  }

  /** A host port that no connection uses; ports come round only after 2^30 connections. */
  allocateHostPort(): number {
    for (;;) {
      const port = firstHostPort + this.#nextHostPort;
      this.#nextHostPort = (this.#nextHostPort + 1) % hostPorts;
      if (!this.#byHostPort.has(port)) return port;
    }
  }

  addHostOpened(item: T): void {
    this.#byHostPort.set(item.hostPort, item);
  }

  /** False: the guest port is taken. */
  addGuestOpened(item: T): boolean {
    if (this.#byGuestPort.has(item.guestPort)) return false;
    this.#byGuestPort.set(item.guestPort, item);
    return true;
  }

  delete(item: T): void {
    if (this.#byHostPort.get(item.hostPort) === item) this.#byHostPort.delete(item.hostPort);
    if (this.#byGuestPort.get(item.guestPort) === item) this.#byGuestPort.delete(item.guestPort);
  }

  *[Symbol.iterator](): Iterator<T> {
    yield* this.#byHostPort.values();
    yield* this.#byGuestPort.values();
  }
}
