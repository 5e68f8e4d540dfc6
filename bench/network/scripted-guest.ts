/**
 * A guest that plays a part: it opens connections, sends, acknowledges and ends them, echoes or swallows what comes to its
 * service, is a name server there, and counts what it is answered. It speaks as Linux does (timestamps, SACK permitted,
 * windows scaled), so that the stack takes the ways it takes with one; but it keeps nothing to send it again, so that it is
 * for a network that loses nothing.
 *
 * A connection of its own is ended once all of its octets were acknowledged, and, if they are to be echoed, came back.
 * No timers: whoever waits for something gives up by itself.
 */

import type { Arena } from '../../src/stack/port.ts';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import * as ipv4 from '../../src/stack/wire/ipv4.ts';
import * as tcp from '../../src/stack/wire/tcp.ts';
import * as tcpOptions from '../../src/stack/wire/tcp-options.ts';
import * as udp from '../../src/stack/wire/udp.ts';
import { GuestFrames, IP, LENGTH_PREFIX, type Segment, TRANSPORT } from './guest-frames.ts';
import { answerTo, isQuery } from './name-answer.ts';

/** Unacknowledged at once, octets. */
const MOST_IN_FLIGHT = 128 * 1024;
const FIRST_PORT = 20_000;
const PORTS = 40_000;

/** What becomes of a connection. */
export interface Part {
  /** To be sent by whoever opens it. */
  readonly octets: number;
  /** The other side sends as much back. */
  readonly echo: boolean;
  /** It is ended by FIN, not RST. */
  readonly orderly: boolean;
}

type Conversation = { -readonly [K in keyof Segment]: Segment[K] } & {
  /** Undefined: the other side opened it. */
  readonly part: Part | undefined;
  sndUna: number;
  sndWnd: number;
  sndWndShift: number;
  /** Octets to be sent yet. */
  left: number;
  received: number;
  established: boolean;
  /** Our FIN went. */
  finSent: boolean;
  /** Segments with data that were not acknowledged. */
  unacknowledged: number;
};

export interface ScriptedGuestOptions {
  /** Where frames are written to, and how much of it is to be sent. */
  readonly out: Arena;
  readonly send: (octets: number) => void;
  readonly mtu: number;
  readonly gatewayMac: number;
  /** The guest's address, as a word. */
  readonly address: number;
  /** Where it serves. */
  readonly servicePort: number;
}

export class ScriptedGuest {
  /** Connections of its own that are open, and those that have ended. */
  open = 0;
  ended = 0;
  /** Datagrams that came to other ports than the service's. */
  answers = 0;
  /** The service sends back what comes. */
  echoes = true;
  readonly #frames: GuestFrames;
  readonly #send: (octets: number) => void;
  readonly #servicePort: number;
  readonly #conversations = new Map<number, Conversation>();
  readonly #options = new tcpOptions.TcpOptions();
  #ports = 0;

  constructor({ out, send, mtu, gatewayMac, address, servicePort }: ScriptedGuestOptions) {
    this.#frames = new GuestFrames(out, address, gatewayMac, mtu);
    this.#send = send;
    this.#servicePort = servicePort;
  }

  connect(address: number, port: number, part: Part): void {
    const c = this.#converse(address, FIRST_PORT + (this.#ports++ % PORTS), port, part);
    this.#frames.segment(c, tcp.SYN);
    c.sndNxt++;
    this.open++;
  }

  datagram(address: number, ownPort: number, port: number, payload: Uint8Array): void {
    this.#frames.datagram(address, ownPort, port, payload);
  }

  /** Hears the whole frames among octets `from` to `to`, and answers; returns where the first that is not whole begins. */
  hear({ bytes, view }: Arena, from: number, to: number): number {
    let at = from;
    while (to - at >= LENGTH_PREFIX) {
      const end = at + LENGTH_PREFIX + view.getUint32(at);
      if (end > to) break;
      this.#frame(bytes, view, at, end);
      at = end;
    }
    for (const c of this.#conversations.values()) this.#goOn(c);
    this.flush();
    return at;
  }

  /** Sends what was written. */
  flush(): void {
    const octets = this.#frames.take();
    if (octets > 0) this.#send(octets);
  }

  #frame(bytes: Uint8Array, view: DataView, at: number, end: number): void {
    if (end - at < TRANSPORT + udp.HEADER_OCTETS || !this.#frames.hasRoom) return;
    if (ethernet.type(view, at + LENGTH_PREFIX) !== ethernet.TYPE_IPV4) return;
    const protocol = ipv4.protocol(view, at + IP);
    if (protocol === ipv4.PROTOCOL_UDP) this.#datagram(bytes, view, at);
    else if (protocol === ipv4.PROTOCOL_TCP) this.#segment(view, at);
  }

  #datagram(bytes: Uint8Array, view: DataView, at: number): void {
    const head = at + TRANSPORT;
    if (udp.destinationPort(view, head) !== this.#servicePort) {
      this.answers++;
      return;
    }
    const payload = bytes.subarray(head + udp.HEADER_OCTETS, head + udp.length(view, head));
    const answer = isQuery(payload) ? answerTo(payload) : payload;
    this.#frames.datagram(ipv4.source(view, at + IP), this.#servicePort, udp.sourcePort(view, head), answer);
  }

  #segment(view: DataView, at: number): void {
    const head = at + TRANSPORT;
    const flags = tcp.flags(view, head);
    const ownPort = tcp.destinationPort(view, head);
    const port = tcp.sourcePort(view, head);
    let c = this.#conversations.get(key(ownPort, port));
    if (!c) {
      if (ownPort !== this.#servicePort || flags !== tcp.SYN) return;
      c = this.#converse(ipv4.source(view, at + IP), ownPort, port, undefined);
    }
    if ((flags & tcp.RST) !== 0) {
      this.#end(c);
      return;
    }
    const header = tcp.headerOctets(view, head);
    tcpOptions.parse(view, head + tcp.HEADER_OCTETS, header - tcp.HEADER_OCTETS, this.#options);
    c.tsRecent = this.#options.timestampValue;
    if ((flags & tcp.SYN) !== 0) {
      c.rcvNxt = (tcp.sequence(view, head) + 1) >>> 0;
      c.sndWndShift = this.#options.windowScale;
      if ((flags & tcp.ACK) === 0) {
        this.#frames.segment(c, tcp.SYN | tcp.ACK);
        c.sndNxt++;
        return;
      }
      c.unacknowledged = 1;
    }
    c.established = true;
    c.sndUna = tcp.acknowledgement(view, head);
    // The window of a SYN is never scaled. RFC 7323 2.2
    c.sndWnd = tcp.window(view, head) << ((flags & tcp.SYN) === 0 ? c.sndWndShift : 0);
    const payload = ipv4.totalLength(view, at + IP) - ipv4.HEADER_OCTETS - header;
    if (payload > 0) this.#data(c, payload);
    if ((flags & tcp.FIN) !== 0) {
      c.rcvNxt = (c.rcvNxt + 1) >>> 0;
      this.#frames.segment(c, c.finSent ? tcp.ACK : tcp.ACK | tcp.FIN);
      this.#end(c);
    }
  }

  #data(c: Conversation, octets: number): void {
    c.rcvNxt = (c.rcvNxt + octets) >>> 0;
    c.received += octets;
    if (!c.part && this.echoes) c.left += octets;
    // RFC 9293 3.8.6.3: every second segment is acknowledged at once.
    if (++c.unacknowledged >= 2) this.#acknowledge(c);
  }

  /** After what was heard: sends, ends, or acknowledges. */
  #goOn(c: Conversation): void {
    const { part } = c;
    if (!c.established) return;
    const all = c.left === 0 && c.sndUna === c.sndNxt && !c.finSent;
    if (part && all && (!part.echo || c.received >= part.octets)) {
      if (part.orderly) {
        this.#frames.segment(c, tcp.ACK | tcp.FIN);
        c.finSent = true;
        c.sndNxt = (c.sndNxt + 1) >>> 0;
        c.unacknowledged = 0;
      } else {
        this.#frames.segment(c, tcp.ACK | tcp.RST);
        this.#end(c);
      }
      return;
    }
    while (c.left > 0 && this.#frames.hasRoom) {
      const inFlight = (c.sndNxt - c.sndUna) | 0;
      const whole = Math.min(c.left, this.#frames.mss);
      const octets = Math.min(whole, Math.min(c.sndWnd, MOST_IN_FLIGHT) - inFlight);
      // The sender's silly window. RFC 9293 3.8.6.2.1
      if (octets <= 0 || (octets < whole && inFlight > 0)) break;
      this.#frames.segment(c, tcp.ACK | tcp.PSH, octets);
      c.sndNxt = (c.sndNxt + octets) >>> 0;
      c.left -= octets;
      c.unacknowledged = 0;
    }
    if (c.unacknowledged > 0) this.#acknowledge(c);
  }

  #acknowledge(c: Conversation): void {
    if (!this.#frames.hasRoom) return;
    this.#frames.segment(c, tcp.ACK);
    c.unacknowledged = 0;
  }

  #converse(address: number, ownPort: number, port: number, part: Part | undefined): Conversation {
    const iss = 1000;
    const c: Conversation = {
      address,
      ownPort,
      port,
      part,
      sndNxt: iss,
      sndUna: iss,
      sndWnd: 0,
      sndWndShift: 0,
      rcvNxt: 0,
      tsRecent: 0,
      left: part?.octets ?? 0,
      received: 0,
      established: false,
      finSent: false,
      unacknowledged: 0,
    };
    this.#conversations.set(key(ownPort, port), c);
    return c;
  }

  #end(c: Conversation): void {
    if (!this.#conversations.delete(key(c.ownPort, c.port)) || !c.part) return;
    this.open--;
    this.ended++;
  }
}

const key = (ownPort: number, port: number): number => ownPort * 0x1_0000 + port;
