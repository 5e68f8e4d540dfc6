/**
 * One stream of the multiplexer: credits, half-closes and the host's socket. The socket is read only as far as the
 * guest's credit goes; what the guest sends is written at once, and counts against its window until the socket took it.
 */

import type net from 'node:net';
import { frameType, maxPayloadOctets } from './mux-frame.ts';
import type { MuxLink } from './mux-link.ts';
import { shutdownBoth, shutdownReceive, shutdownSend } from './packet.ts';

/** OPENING: ours, not accepted yet. DIALLING: the guest's, the host's socket not connected yet. */
export type MuxStreamState = 'OPENING' | 'DIALLING' | 'ESTABLISHED';

export interface MuxStreamOwner {
  /** The socket has data, and there is credit. */
  ready(stream: MuxStream): void;
  /** Octets went to the guest. */
  sent(octets: number): void;
  /** Both directions are over. */
  finished(stream: MuxStream): void;
}

export class MuxStream {
  readonly id: number;
  readonly port: number;
  /** Octets the guest may have on their way, or waiting for the socket. */
  readonly window: number;
  /** `OK LOCALPORT\n` is owed to the host's end. */
  readonly answer: boolean;
  state: MuxStreamState;
  socket: net.Socket | undefined;
  /** Octets that may go to the guest. */
  credit = 0;
  attempts = 0;
  readonly #link: MuxLink;
  readonly #owner: MuxStreamOwner;
  #used = 0;
  #owed = 0;
  #sent = 0;
  #received = 0;
  #corked = false;
  #released = false;

  constructor(
    link: MuxLink,
    owner: MuxStreamOwner,
    { id, port, window, answer, state }: Pick<MuxStream, 'id' | 'port' | 'window' | 'answer' | 'state'>,
  ) {
    this.#link = link;
    this.#owner = owner;
    this.id = id;
    this.port = port;
    this.window = window;
    this.answer = answer;
    this.state = state;
  }

  /** The stream begins. */
  establish(socket: net.Socket): void {
    this.state = 'ESTABLISHED';
    this.socket = socket;
    socket.on('readable', () => this.#readable());
    socket.on('end', () => this.#shutDown(shutdownSend));
    socket.on('error', () => {});
    // Before both ends: a write failed, or the host's end was reset. Nobody reads or writes there any more.
    socket.on('close', () => this.#shutDown(shutdownBoth));
    this.#readable();
  }

  #readable(): void {
    const { socket } = this;
    if (!socket) return;
    // At the end, read() is what makes 'end' come.
    if (socket.readableLength === 0 || (this.#received & shutdownReceive) !== 0) socket.read();
    else if (this.credit > 0) this.#owner.ready(this);
  }

  /** Sends one frame of the socket's data. True: there is more, and credit for it. */
  sendData(): boolean {
    const { socket } = this;
    const octets = Math.min(this.credit, maxPayloadOctets, socket?.readableLength ?? 0);
    if (!socket || octets === 0 || this.#sent !== 0) return false;
    const chunk = socket.read(octets) as Buffer | null;
    if (!chunk) return false;
    this.credit -= chunk.length;
    this.#owner.sent(chunk.length);
    this.#link.send(frameType.DATA, 0, this.id, 0, chunk);
    if (socket.readableLength === 0) socket.read(0);
    return socket.readableLength > 0 && this.credit > 0;
  }

  addCredit(octets: number): void {
    this.credit = Math.min(this.credit + octets, 0xffff_ffff);
    if ((this.socket?.readableLength ?? 0) > 0) this.#owner.ready(this);
  }

  /** Data from the guest; false: more than its window, or after its end. The payload is copied. */
  receive(payload: Buffer): boolean {
    const { socket } = this;
    if (!socket || payload.length > this.window - this.#used || (this.#received & shutdownSend) !== 0) return false;
    this.#used += payload.length;
    if (!socket.writable) {
      this.#took(payload.length);
      return true;
    }
    if (!this.#corked) {
      this.#corked = true;
      socket.cork();
    }
    socket.write(Buffer.from(payload), () => this.#took(payload.length));
    return true;
  }

  /** Ends a batch of frames: what was received goes to the socket in one write. */
  flush(): void {
    if (!this.#corked) return;
    this.#corked = false;
    this.socket?.uncork();
  }

  peerShutDown(flags: number): void {
    this.#received |= flags & shutdownBoth;
    if ((this.#received & shutdownReceive) !== 0) {
      // The guest takes nothing more, so nothing more is sent; what the host still writes is read and forgotten.
      this.#shutDown(shutdownSend);
      this.socket?.removeAllListeners('readable').resume();
    }
    if ((this.#received & shutdownSend) !== 0) {
      this.flush();
      this.socket?.end();
      this.#finish();
    }
  }

  /** Gives up the socket: what was written to it still arrives. */
  release(): void {
    this.#released = true;
    this.flush();
    this.socket?.destroySoon();
  }

  #shutDown(flags: number): void {
    if ((this.#sent | flags) === this.#sent || this.#over || this.#released) return;
    this.#sent |= flags;
    this.#link.send(frameType.SHUTDOWN, this.#sent, this.id, 0);
    this.#link.flushSoon();
    this.#finish();
  }

  get #over(): boolean {
    return (this.#sent & this.#received & shutdownSend) !== 0;
  }

  #finish(): void {
    if (this.#over) this.#owner.finished(this);
  }

  /** The socket took octets: credit goes back after half the window. */
  #took(octets: number): void {
    this.#owed += octets;
    if (this.#owed * 2 < this.window || (this.#received & shutdownSend) !== 0 || this.#released) return;
    this.#used -= this.#owed;
    this.#link.send(frameType.CREDIT, 0, this.id, this.#owed);
    this.#link.flushSoon();
    this.#owed = 0;
  }
}
