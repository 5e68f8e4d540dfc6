/**
 * The vsock lane, whole: the vhost-user back end that QEMU connects to, the virtio-vsock device behind it, and the
 * host's sockets in front. Linux only. One object per VM; it lives in the process that owns QEMU.
 */

import type { Duplex } from 'node:stream';
import type { GuestChannelPort } from '../port.ts';
import { VhostUserBackEnd } from '../vhost-user/back-end.ts';
import { Poller } from '../vhost-user/poller.ts';
import { connectGuest } from './connect-client.ts';
import { systemTimers, type Timers } from './deadline-queue.ts';
import { HostListeners } from './host-listeners.ts';
import { defaultStreamLimits, type StreamLimits, type StreamStats } from './limits.ts';
import type { Forward } from './socket-path.ts';
import { VsockTransport } from './transport.ts';

export interface VsockDeviceOptions {
  /** Unix socket that QEMU's vhost-user chardev connects to. */
  readonly socketPath: string;
  /** Directory of `connect` and `00000002.PPPPPPPP`. */
  readonly directory: string;
  readonly guestCid?: number;
  /** Sockets that lead straight to a guest port. */
  readonly forwards?: readonly Forward[];
  readonly limits?: Partial<StreamLimits>;
  readonly timers?: Timers;
  readonly log?: (line: string) => void;
}

export interface VsockStats extends StreamStats {
  /** Whether QEMU is connected, and whether a driver runs in the guest. */
  readonly connected: boolean;
  readonly running: boolean;
  readonly protocolErrors: number;
  readonly brokenQueues: number;
}

export class VsockDevice implements GuestChannelPort {
  readonly #options: VsockDeviceOptions;
  readonly #limits: StreamLimits;
  #poller: Poller | undefined;
  #transport: VsockTransport | undefined;
  #backEnd: VhostUserBackEnd | undefined;
  #listeners: HostListeners | undefined;

  constructor(options: VsockDeviceOptions) {
    this.#options = options;
    this.#limits = { ...defaultStreamLimits, ...options.limits };
  }

  /** Listens for QEMU and for the host's clients; throws an Error that names cause and remedy. */
  start(): void {
    const { socketPath, directory, guestCid = 3, forwards = [], timers = systemTimers, log = () => {} } = this.#options;
    const poller = new Poller(() => this.#transport?.turn());
    this.#poller = poller;
    const transport = new VsockTransport({ guestCid, directory, limits: this.#limits, poller, timers });
    this.#transport = transport;
    this.#backEnd = new VhostUserBackEnd({ socketPath, device: transport, poller, log });
    this.#listeners = new HostListeners({
      directory,
      forwards,
      guestCid,
      poller,
      timers,
      handshakeTimeoutMs: this.#limits.connectTimeoutMs,
      open: (fd, port, answer) => transport.open(fd, port, answer),
      log,
    });
    try {
      this.#backEnd.start();
      this.#listeners.start();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** A stream to a port the guest listens on; rejects with `code` ECONNREFUSED. */
  connect(port: number): Promise<Duplex> {
    return connectGuest(this.#options.directory, port);
  }

  /** The machine stands still, or goes on: streams outlive that. */
  hold(held: boolean): void {
    this.#transport?.hold(held);
  }

  stats(): VsockStats | undefined {
    if (!this.#transport || !this.#backEnd) return undefined;
    return {
      ...this.#transport.stats,
      connected: this.#backEnd.connected,
      running: this.#transport.running,
      protocolErrors: this.#backEnd.stats.protocolErrors,
      brokenQueues: this.#backEnd.stats.brokenQueues,
    };
  }

  close(): void {
    this.#listeners?.close();
    this.#backEnd?.close();
    this.#transport?.close();
    this.#poller?.close();
    this.#poller = undefined;
  }
}
