/**
 * A guest made of frames alone, on QEMU's stream socket: it sends what it is told to, hears everything, and answers the
 * ARP requests that are about its address, as whoever stands behind the socket wants to know where to send.
 */

import { once } from 'node:events';
import net from 'node:net';
import * as arp from '../../src/stack/wire/arp.ts';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import { arpFrame, type FrameOptions, transportChecksum, word } from '../stack/frames.ts';
import { GUEST_MAC } from '../stack/world.ts';

const LENGTH = 4;

export interface FrameGuestOptions {
  readonly address: string;
  readonly gateway: string;
  readonly mac?: number;
}

/** A TCP segment in numbers as they stand in the header. */
export interface Segment {
  readonly sourcePort: number;
  readonly port: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly flags: number;
  readonly window: number;
  readonly options?: Uint8Array;
  readonly urgent?: number;
  readonly payload?: Uint8Array;
}

/** The segment's octets, with their checksum. */
export function tcpBytes(segment: Segment, from: string, to: string): Uint8Array {
  const { options = new Uint8Array(0), payload = new Uint8Array(0) } = segment;
  const header = 20 + options.length;
  const bytes = new Uint8Array(header + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, segment.sourcePort);
  view.setUint16(2, segment.port);
  view.setUint32(4, segment.sequence >>> 0);
  view.setUint32(8, segment.acknowledgement >>> 0);
  view.setUint16(12, (header << 10) | segment.flags);
  view.setUint16(14, segment.window);
  view.setUint16(18, segment.urgent ?? 0);
  bytes.set(options, 20);
  bytes.set(payload, header);
  view.setUint16(16, transportChecksum(from, to, 6, bytes));
  return bytes;
}

export class FrameGuest {
  readonly address: string;
  readonly gateway: string;
  readonly mac: number;
  gatewayMac = 0;
  /** Told of every frame but ARP. */
  onFrame: (frame: Uint8Array) => void = () => undefined;
  readonly #socket: net.Socket;
  #pending: Buffer = Buffer.alloc(0);
  #resolved: (() => void) | undefined;

  private constructor(socket: net.Socket, options: FrameGuestOptions) {
    this.address = options.address;
    this.gateway = options.gateway;
    this.mac = options.mac ?? GUEST_MAC;
    this.#socket = socket;
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => this.#read(chunk));
  }

  /** Resolves when the gateway has answered by ARP. */
  static async connect(path: string, options: FrameGuestOptions): Promise<FrameGuest> {
    const socket = net.connect({ path });
    await once(socket, 'connect');
    const guest = new FrameGuest(socket, options);
    const resolved = new Promise<void>((resolve) => (guest.#resolved = resolve));
    const ask = (): void => guest.send(arpFrame(arp.REQUEST, guest.mac, guest.address, guest.gateway));
    const again = setInterval(ask, 500);
    ask();
    await resolved;
    clearInterval(again);
    return guest;
  }

  /** What frames of this guest's have in common, for `frames.ts`. */
  get frameOptions(): FrameOptions {
    return { from: this.address, sourceMac: this.mac, destinationMac: this.gatewayMac };
  }

  send(frame: Uint8Array): void {
    const length = Buffer.alloc(LENGTH);
    length.writeUInt32BE(frame.length);
    this.#socket.cork();
    this.#socket.write(length);
    this.#socket.write(frame);
    process.nextTick(() => this.#socket.uncork());
  }

  get isConnected(): boolean {
    return !this.#socket.destroyed;
  }

  close(): void {
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    const pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    let at = 0;
    while (pending.length - at >= LENGTH) {
      const octets = pending.readUInt32BE(at);
      if (pending.length - at - LENGTH < octets) break;
      this.#frame(pending.subarray(at + LENGTH, at + LENGTH + octets));
      at += LENGTH + octets;
    }
    this.#pending = pending.subarray(at);
  }

  #frame(frame: Uint8Array): void {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
    if (frame.length < ethernet.HEADER_OCTETS) return;
    if (ethernet.type(view, 0) !== ethernet.TYPE_ARP) {
      this.onFrame(frame);
      return;
    }
    const at = ethernet.HEADER_OCTETS;
    if (arp.check(view, at, frame.length - at) !== 0) return;
    if (arp.operation(view, at) === arp.REPLY && arp.senderAddress(view, at) === word(this.gateway)) {
      this.gatewayMac = ethernet.mac(view, at + arp.SENDER_MAC);
      this.#resolved?.();
    } else if (arp.operation(view, at) === arp.REQUEST && arp.targetAddress(view, at) === word(this.address)) {
      const asker = [arp.SENDER_ADDRESS, 1, 2, 3].map((_, i) => view.getUint8(at + arp.SENDER_ADDRESS + i)).join('.');
      const destinationMac = ethernet.mac(view, at + arp.SENDER_MAC);
      const reply = arpFrame(arp.REPLY, this.mac, this.address, asker, { destinationMac });
      const out = new DataView(reply.buffer);
      ethernet.setMac(out, at + arp.TARGET_MAC, destinationMac);
      this.send(reply);
    }
  }
}
