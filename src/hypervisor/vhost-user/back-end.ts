/**
 * The vhost-user back end: serves one device to one front end (QEMU) at a time over a unix socket. QEMU
 * docs/interop/vhost-user.rst. It listens, and a later connection replaces an earlier, so that a front end may come
 * again; or it dials a front end that listens (QEMU's `server=on`), and again whenever that one has gone, so that the
 * back end may be replaced under a running guest.
 *
 * Events: a connection, a message, a kick. Timers: between attempts to dial (DIAL_MIN_MS, doubling to DIAL_MAX_MS). A queue runs
 * while it has a memory table, a size, addresses and a kick descriptor and is enabled, and stops at GET_VRING_BASE, at
 * a new kick descriptor, when disabled, when it breaks, or when the front end goes. A message that makes no sense ends
 * the connection, with a reason in the log; what the guest writes only ever breaks a queue (virtqueue.ts).
 */

import { addressOfBuffer } from '../../native/memory.ts';
import { close, EPOLLIN, write } from '../../native/system-calls.ts';
import { checkSocketPath } from '../vsock/socket-path.ts';
import type { VhostUserDevice } from './device.ts';
import { GuestMemory, type RegionSpec } from './guest-memory.ts';
import {
  featureProtocol,
  flagNeedReply,
  flagReply,
  type Message,
  maxRegions,
  noDescriptor,
  protocolFeature,
  request,
  wordAt,
} from './message.ts';
import { MessageSocket } from './message-socket.ts';
import type { Poller } from './poller.ts';
import { acceptUnix, closeListener, connectUnix, listenUnix } from './unix-socket.ts';
import { maxQueueSize, type QueueAddresses, ringFeatures, Virtqueue } from './virtqueue.ts';

export interface BackEndStats {
  /** Front ends that connected. */
  connections: number;
  /** Connections ended for a message that made no sense. */
  protocolErrors: number;
  /** Queues stopped for what the guest put there. */
  brokenQueues: number;
}

export interface BackEndOptions {
  readonly socketPath: string;
  readonly device: VhostUserDevice;
  readonly poller: Poller;
  readonly log: (line: string) => void;
  /** The front end listens on the socket, and we dial. */
  readonly dial?: boolean;
}

const DIAL_MIN_MS = 25;
/** A front end that starts waits for us, and its guest with it. */
const DIAL_MAX_MS = 200;

interface QueueState {
  size: number;
  base: number;
  addresses: QueueAddresses | undefined;
  kickFd: number;
  callFd: number;
  errorFd: number;
  enabled: boolean;
  queue: Virtqueue | undefined;
}

const stoppedQueue = (): QueueState => ({
  size: 0,
  base: 0,
  addresses: undefined,
  kickFd: -1,
  callFd: -1,
  errorFd: -1,
  enabled: false,
  queue: undefined,
});

/** A message the back end does not accept: ends the connection. */
class ProtocolError extends Error {}

export class VhostUserBackEnd {
  readonly stats: BackEndStats = { connections: 0, protocolErrors: 0, brokenQueues: 0 };
  readonly #options: BackEndOptions;
  readonly #device: VhostUserDevice;
  readonly #poller: Poller;
  readonly #one = new ArrayBuffer(8);
  readonly #oneAddress = addressOfBuffer(this.#one);
  #listener = -1;
  #socket: MessageSocket | undefined;
  #memory: GuestMemory | undefined;
  #queues: QueueState[] = [];
  #features = 0n;
  #dialling: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: BackEndOptions) {
    this.#options = options;
    this.#device = options.device;
    this.#poller = options.poller;
    new BigUint64Array(this.#one)[0] = 1n;
  }

  /** Listens or dials; throws an Error that names cause and remedy. */
  start(): void {
    const { socketPath, dial = false } = this.#options;
    checkSocketPath(socketPath);
    if (dial) {
      this.#dial(DIAL_MIN_MS);
      return;
    }
    this.#listener = listenUnix(socketPath, 1);
    this.#poller.add(this.#listener, EPOLLIN, () => this.#accept());
  }

  get connected(): boolean {
    return this.#socket !== undefined;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#dialling);
    this.#disconnect();
    if (this.#listener < 0) return;
    this.#poller.remove(this.#listener);
    closeListener(this.#listener, this.#options.socketPath);
    this.#listener = -1;
  }

  #accept(): void {
    for (;;) {
      const fd = acceptUnix(this.#listener);
      if (fd < 0) return;
      this.#disconnect();
      this.#serve(fd);
    }
  }

  #dial(nextMs: number): void {
    const fd = connectUnix(this.#options.socketPath);
    if (fd >= 0) this.#serve(fd);
    else this.#dialLater(nextMs);
  }

  #dialLater(afterMs: number): void {
    this.#dialling = setTimeout(() => this.#dial(Math.min(2 * afterMs, DIAL_MAX_MS)), afterMs);
  }

  #serve(fd: number): void {
    this.stats.connections++;
    this.#queues = Array.from({ length: this.#device.queueCount }, stoppedQueue);
    const socket = new MessageSocket(fd);
    this.#socket = socket;
    this.#poller.add(fd, EPOLLIN, () => this.#receive(socket));
    if (this.#options.dial) this.#options.log(`${this.#device.name}: connected`);
  }

  #disconnect(): void {
    const socket = this.#socket;
    if (!socket) return;
    this.#socket = undefined;
    for (const [index, state] of this.#queues.entries()) {
      this.#stop(index);
      for (const fd of [state.kickFd, state.callFd, state.errorFd]) if (fd >= 0) close(fd);
    }
    this.#queues = [];
    this.#memory?.close();
    this.#memory = undefined;
    this.#features = 0n;
    this.#poller.remove(socket.fd);
    socket.close();
    this.#device.gone?.();
    if (this.#options.dial && !this.#closed) this.#dialLater(DIAL_MIN_MS);
  }

  #receive(socket: MessageSocket): void {
    while (this.#socket === socket) {
      const message = socket.receive();
      if (message === undefined) return;
      if (typeof message === 'string') {
        this.#options.log(`${this.#device.name}: ${message}`);
        this.#disconnect();
        return;
      }
      const taken = new Set<number>();
      try {
        const reply = this.#handle(message, taken);
        if (reply) this.#reply(message, reply);
        else if ((message.flags & flagNeedReply) !== 0) this.#reply(message, word(0n));
      } catch (error) {
        this.stats.protocolErrors++;
        this.#options.log(`${this.#device.name}: vhost-user request ${message.request}: ${(error as Error).message}`);
        this.#disconnect();
      }
      for (const fd of message.descriptors) if (!taken.has(fd)) close(fd);
    }
  }

  /** Acts on one message and gives the reply it has. Descriptors it keeps go into `taken`; the caller closes the rest. */
  #handle(message: Message, taken: Set<number>): Uint8Array | undefined {
    const { payload } = message;
    switch (message.request) {
      case request.GET_FEATURES:
        return word(this.#offered);
      case request.SET_FEATURES: {
        const features = u64(payload);
        if ((features & ~this.#offered) !== 0n)
          throw new ProtocolError(`features ${features.toString(16)} not offered`);
        this.#features = features;
        this.#device.negotiated(features);
        break;
      }
      case request.GET_PROTOCOL_FEATURES:
        // QEMU warns of a configuration that it does not ask for: a network device's it has itself.
        return word(
          protocolFeature.MQ |
            protocolFeature.REPLY_ACK |
            (this.#device.config.length > 0 ? protocolFeature.CONFIG : 0n),
        );
      case request.SET_PROTOCOL_FEATURES:
      case request.SET_OWNER:
      case request.SET_CONFIG:
        break;
      case request.RESET_OWNER:
        for (const index of this.#queues.keys()) this.#stop(index);
        break;
      case request.GET_QUEUE_NUM:
        return word(BigInt(this.#device.queueCount));
      case request.GET_CONFIG:
        return this.#readConfig(payload);
      case request.SET_MEM_TABLE:
        this.#setMemory(message);
        break;
      case request.SET_VRING_NUM: {
        const { state, value } = this.#ringState(payload);
        if (value === 0 || value > maxQueueSize || (value & (value - 1)) !== 0)
          throw new ProtocolError(`a queue of ${value} entries`);
        state.size = value;
        break;
      }
      case request.SET_VRING_BASE: {
        const { state, value } = this.#ringState(payload);
        state.base = value & 0xffff;
        break;
      }
      case request.SET_VRING_ADDR:
        this.#setAddresses(payload);
        break;
      case request.SET_VRING_ENABLE: {
        const { index, state, value } = this.#ringState(payload);
        state.enabled = value === 1;
        this.#update(index);
        break;
      }
      case request.GET_VRING_BASE: {
        const { index, state } = this.#ringState(payload);
        this.#stop(index);
        this.#dropDescriptor(state, 'kickFd');
        const reply = new Uint8Array(8);
        const view = new DataView(reply.buffer);
        view.setUint32(0, index, true);
        view.setUint32(4, state.base, true);
        return reply;
      }
      case request.SET_VRING_KICK:
        this.#setDescriptor(message, 'kickFd', taken);
        break;
      case request.SET_VRING_CALL:
        this.#setDescriptor(message, 'callFd', taken);
        break;
      case request.SET_VRING_ERR:
        this.#setDescriptor(message, 'errorFd', taken);
        break;
      default:
        throw new ProtocolError('a request that was not negotiated');
    }
    return undefined;
  }

  get #offered(): bigint {
    return this.#device.features | ringFeatures | featureProtocol;
  }

  #setMemory(message: Message): void {
    const { payload, descriptors } = message;
    const count = payload.byteLength >= 8 ? payload.getUint32(0, true) : 0;
    if (count === 0 || count > maxRegions || descriptors.length !== count || payload.byteLength < 8 + count * 32)
      throw new ProtocolError(`a memory table of ${count} regions with ${descriptors.length} descriptors`);
    const specs: RegionSpec[] = descriptors.map((fd, index) => ({
      guestAddress: wordAt(payload, 8 + index * 32),
      octets: wordAt(payload, 16 + index * 32),
      frontEndAddress: wordAt(payload, 24 + index * 32),
      fileOffset: wordAt(payload, 32 + index * 32),
      fd,
    }));
    const memory = new GuestMemory(specs);
    const old = this.#memory;
    this.#memory = memory;
    try {
      for (const state of this.#queues) state.queue?.remap(memory);
    } finally {
      old?.close();
    }
    for (const index of this.#queues.keys()) this.#update(index);
  }

  #setAddresses(payload: DataView): void {
    const { index, state } = this.#ringState(payload);
    if (payload.byteLength < 40) throw new ProtocolError('a short SET_VRING_ADDR');
    // Index and flags (dirty logging, not offered), then descriptors, used, available, log.
    state.addresses = {
      descriptors: wordAt(payload, 8),
      used: wordAt(payload, 16),
      available: wordAt(payload, 24),
    };
    this.#update(index);
  }

  #setDescriptor(message: Message, which: 'kickFd' | 'callFd' | 'errorFd', taken: Set<number>): void {
    if (message.payload.byteLength < 8) throw new ProtocolError('a short payload');
    const word = message.payload.getUint32(0, true);
    const index = word & 0xff;
    const state = this.#queues[index];
    if (!state) throw new ProtocolError(`queue ${index} of ${this.#queues.length}`);
    if (which === 'kickFd') this.#stop(index);
    this.#dropDescriptor(state, which);
    const fd = message.descriptors[0];
    if ((word & noDescriptor) === 0 && fd !== undefined) {
      state[which] = fd;
      taken.add(fd);
    }
    if (which === 'kickFd') this.#update(index);
  }

  #dropDescriptor(state: QueueState, which: 'kickFd' | 'callFd' | 'errorFd'): void {
    if (state[which] >= 0) close(state[which]);
    state[which] = -1;
  }

  /** The queue that a payload of (index, value) names. */
  #ringState(payload: DataView): { index: number; state: QueueState; value: number } {
    if (payload.byteLength < 8) throw new ProtocolError('a short payload');
    const index = payload.getUint32(0, true);
    const state = this.#queues[index];
    if (!state) throw new ProtocolError(`queue ${index} of ${this.#queues.length}`);
    return { index, state, value: payload.getUint32(4, true) };
  }

  /** Starts or stops a queue as its state now says. */
  #update(index: number): void {
    const state = this.#queues[index]!;
    // Without VHOST_USER_F_PROTOCOL_FEATURES a ring starts enabled ("Ring states").
    const enabled = state.enabled || (this.#features & featureProtocol) === 0n;
    const ready = this.#memory && state.addresses && state.size > 0 && state.kickFd >= 0 && enabled;
    if (!ready) this.#stop(index);
    else if (!state.queue) this.#startQueue(index, state, this.#memory!, state.addresses!);
  }

  #startQueue(index: number, state: QueueState, memory: GuestMemory, addresses: QueueAddresses): void {
    const queue = new Virtqueue({
      memory,
      addresses,
      size: state.size,
      base: state.base,
      call: () => {
        if (state.callFd >= 0) write(state.callFd, this.#oneAddress, 8);
      },
      onBroken: (reason) => {
        this.stats.brokenQueues++;
        this.#options.log(`${this.#device.name}: queue ${index} stopped until the guest resets it: ${reason}`);
        if (state.errorFd >= 0) write(state.errorFd, this.#oneAddress, 8);
      },
    });
    state.queue = queue;
    // Edge-triggered, so the counter need not be read: each write to it is a new event.
    this.#poller.add(state.kickFd, EPOLLIN, () => {
      if (!queue.broken) this.#device.kicked(index);
    });
    this.#device.queueStarted(index, queue);
  }

  #stop(index: number): void {
    const state = this.#queues[index]!;
    const { queue } = state;
    if (!queue) return;
    state.queue = undefined;
    this.#poller.remove(state.kickFd);
    this.#device.queueStopped(index);
    state.base = queue.base;
  }

  #readConfig(payload: DataView): Uint8Array {
    // offset, size, flags (u32 each), then `size` octets, which the reply fills in.
    const offset = payload.byteLength >= 12 ? payload.getUint32(0, true) : 0;
    const size = payload.byteLength >= 12 ? payload.getUint32(4, true) : 0;
    const { config } = this.#device;
    if (size === 0 || 12 + size > payload.byteLength) throw new ProtocolError(`a configuration of ${size} octets`);
    const reply = new Uint8Array(12 + size);
    const view = new DataView(reply.buffer);
    view.setUint32(0, offset, true);
    view.setUint32(4, size, true);
    reply.set(config.subarray(Math.min(offset, config.length), Math.min(offset + size, config.length)), 12);
    return reply;
  }

  #reply(message: Message, payload: Uint8Array): void {
    if (!this.#socket?.send(message.request, flagReply, payload)) throw new ProtocolError('the reply cannot be sent');
  }
}

function word(value: bigint): Uint8Array {
  const payload = new Uint8Array(8);
  new DataView(payload.buffer).setBigUint64(0, value, true);
  return payload;
}

function u64(payload: DataView): bigint {
  if (payload.byteLength < 8) throw new ProtocolError('a short payload');
  return payload.getBigUint64(0, true);
}
