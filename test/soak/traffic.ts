/**
 * The guest's side of the soak: connections to the host in a steady trickle, each brought to an end of its own: in good
 * order by either side, reset by either, refused, or abandoned at any moment by a guest that says nothing more. What
 * was abandoned stays so; what the guest knows nothing of is reset, as a kernel does.
 */

import * as tcp from '../../src/stack/wire/tcp.ts';
import { type FrameGuest, tcpBytes } from '../clients/frame-guest.ts';
import { ipFrame, readIp, udpFrame } from '../stack/frames.ts';
import { wishes } from './host.ts';

const HOST = '192.168.65.2';
const FIRST_PORT = 1024;
const PORTS = 64_000;
const OPTIONS = Uint8Array.of(2, 4, 5, 0xb4, 1, 3, 3, 7);

interface Ending {
  readonly name: string;
  /** What the host is asked for once the connection stands; undefined: nothing is said. */
  readonly wish?: string;
  /** The guest's part is over after this: it says nothing more. */
  readonly vanishes?: 'at once' | 'when connected' | 'at the first answer' | 'after its FIN' | 'at the FIN';
  /** The window that the guest tells of once it is connected. */
  readonly window?: number;
  readonly resets?: 'when connected' | 'at the first answer';
  /** The guest closes as soon as it has heard something, not after the host's FIN. */
  readonly closesFirst?: boolean;
  readonly refused?: boolean;
}

export const endings: readonly Ending[] = [
  { name: 'closed by the guest first', wish: wishes.echo, closesFirst: true },
  { name: 'closed by the host first', wish: wishes.close },
  { name: 'closed by the host after 100 kB', wish: wishes.write },
  { name: 'reset by the guest at the SYN-ACK', resets: 'when connected' },
  { name: 'reset by the guest with data on its way', wish: wishes.write, resets: 'at the first answer' },
  { name: 'reset by the host', wish: wishes.reset },
  { name: 'refused by the host', refused: true },
  { name: 'SYN, then silence', vanishes: 'at once' },
  { name: 'connected, then silence', vanishes: 'when connected' },
  { name: 'silence with data on its way', wish: wishes.write, vanishes: 'at the first answer' },
  { name: 'silence with a closed window', wish: wishes.write, window: 0, vanishes: 'at the first answer' },
  { name: "silence after the guest's FIN", wish: wishes.hold, closesFirst: true, vanishes: 'after its FIN' },
  { name: "silence at the host's FIN", wish: wishes.close, vanishes: 'at the FIN' },
];

/** The order in which they come: what is abandoned lives for minutes, and comes a quarter as often. */
const turns = [1, 2, 3, 4].flatMap((turn) => endings.filter(({ vanishes }) => turn === 1 || !vanishes));

interface Connection {
  readonly ending: Ending;
  sndNxt: number;
  rcvNxt: number;
  connected: boolean;
  finSent: boolean;
  silent: boolean;
}

export class SoakTraffic {
  opened = 0;
  datagrams = 0;
  answered = 0;
  readonly #guest: FrameGuest;
  readonly #tcpPorts: readonly number[];
  readonly #refusing: number;
  readonly #udpPort: number;
  readonly #connections = new Map<number, Connection>();

  /** `refusing`: a port of the host's that nobody listens on. */
  constructor(guest: FrameGuest, tcpPorts: readonly number[], refusing: number, udpPort: number) {
    this.#guest = guest;
    this.#tcpPorts = tcpPorts;
    this.#refusing = refusing;
    this.#udpPort = udpPort;
    guest.onFrame = (frame) => this.#heard(frame);
  }

  /** Opens the next connection; every twentieth time it sends a datagram as well. */
  open(): void {
    const number = this.opened++;
    const ending = turns[number % turns.length]!;
    const guestPort = FIRST_PORT + (number % PORTS);
    const server = this.#tcpPorts[Math.floor(number / PORTS) % this.#tcpPorts.length]!;
    const port = ending.refused ? this.#refusing : server;
    const connection = {
      ending,
      sndNxt: (number * 7919 * 65_537) >>> 0,
      rcvNxt: 0,
      connected: false,
      finSent: false,
      silent: ending.vanishes === 'at once',
    };
    this.#connections.set(port * 65_536 + guestPort, connection);
    this.#send(guestPort, port, connection, tcp.SYN, undefined, OPTIONS);
    connection.sndNxt = (connection.sndNxt + 1) >>> 0;
    if (number % 20 !== 0) return;
    this.datagrams++;
    const options = { ...this.#guest.frameOptions, to: HOST };
    this.#guest.send(udpFrame(FIRST_PORT + (this.datagrams % 2000), this.#udpPort, Uint8Array.of(1, 2, 3), options));
  }

  #send(
    guestPort: number,
    port: number,
    connection: Pick<Connection, 'sndNxt' | 'rcvNxt'> & { readonly ending?: Ending; readonly connected?: boolean },
    flags: number,
    payload?: Uint8Array,
    options?: Uint8Array,
  ): void {
    const segment = {
      sourcePort: guestPort,
      port,
      sequence: connection.sndNxt,
      acknowledgement: connection.rcvNxt,
      flags,
      window: connection.connected ? (connection.ending?.window ?? 65_535) : 65_535,
      ...(payload && { payload }),
      ...(options && { options }),
    };
    const { address } = this.#guest;
    this.#guest.send(ipFrame(6, tcpBytes(segment, address, HOST), { ...this.#guest.frameOptions, to: HOST }));
  }

  #heard(frame: Uint8Array): void {
    // Router advertisements, for one.
    if (frame[12] !== 8 || frame[13] !== 0) return;
    const { protocol, payload, source } = readIp(frame, this.#guest.gatewayMac);
    if (source !== HOST) return;
    if (protocol === 17) this.answered++;
    if (protocol !== 6) return;
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    const port = tcp.sourcePort(view, 0);
    const guestPort = tcp.destinationPort(view, 0);
    const flags = tcp.flags(view, 0);
    const key = port * 65_536 + guestPort;
    const c = this.#connections.get(key);
    const octets = payload.length - tcp.headerOctets(view, 0);
    if ((flags & tcp.RST) !== 0) {
      this.#connections.delete(key);
      return;
    }
    if (!c) {
      this.#send(guestPort, port, { sndNxt: tcp.acknowledgement(view, 0), rcvNxt: 0 }, tcp.RST);
      return;
    }
    if (c.silent) return;
    const send = (flags: number, payload?: Uint8Array): void => {
      this.#send(guestPort, port, c, flags, payload);
      c.sndNxt = (c.sndNxt + (payload?.length ?? 0) + ((flags & tcp.FIN) !== 0 ? 1 : 0)) >>> 0;
    };
    const reset = (): void => {
      send(tcp.RST | tcp.ACK);
      this.#connections.delete(key);
    };
    const { ending } = c;
    if ((flags & tcp.SYN) !== 0) {
      c.rcvNxt = (tcp.sequence(view, 0) + 1) >>> 0;
      c.connected = true;
      if (ending.resets === 'when connected') {
        reset();
        return;
      }
      send(tcp.ACK);
      if (ending.vanishes === 'when connected') c.silent = true;
      else if (ending.wish) send(tcp.ACK | tcp.PSH, Buffer.from(`${ending.wish} and more`));
      if (ending.vanishes === 'after its FIN') {
        send(tcp.FIN | tcp.ACK);
        c.silent = true;
      }
      return;
    }
    const fin = (flags & tcp.FIN) !== 0;
    if (octets === 0 && !fin) {
      if (c.finSent && c.ending.closesFirst !== true) this.#connections.delete(key);
      return;
    }
    if (ending.resets === 'at the first answer') {
      reset();
      return;
    }
    if (ending.vanishes === 'at the first answer') {
      c.silent = true;
      return;
    }
    if (tcp.sequence(view, 0) !== c.rcvNxt) {
      send(tcp.ACK);
      return;
    }
    c.rcvNxt = (c.rcvNxt + octets + (fin ? 1 : 0)) >>> 0;
    if (ending.vanishes === 'at the FIN' && fin) {
      send(tcp.ACK);
      c.silent = true;
    } else if (!c.finSent && (fin || ending.closesFirst)) {
      c.finSent = true;
      send(tcp.FIN | tcp.ACK);
    } else {
      send(tcp.ACK);
      // What the stack has in TIME-WAIT the guest need not know any more.
      if (fin && c.finSent) this.#connections.delete(key);
    }
  }
}
