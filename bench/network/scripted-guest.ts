/**
 * A guest that plays a part: it opens connections that carry an octet there and back, echoes what comes to its service, is a
 * name server there, and counts what it is answered. It speaks as Linux does (timestamps, SACK permitted, windows scaled),
 * so that the stack takes the ways it takes with one; but it keeps nothing to send it again, so that it is for a network
 * that loses nothing. No timers: whoever waits for something gives up by itself.
 */

import type { Arena } from '../../src/stack/port.ts';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import * as ipv4 from '../../src/stack/wire/ipv4.ts';
import * as tcp from '../../src/stack/wire/tcp.ts';
import * as tcpOptions from '../../src/stack/wire/tcp-options.ts';
import * as udp from '../../src/stack/wire/udp.ts';
import { GuestFrames, IP, LENGTH_PREFIX, type Segment, TRANSPORT } from './guest-frames.ts';
import { answerTo, isQuery } from './name-answer.ts';

const FIRST_PORT = 20_000;
const PORTS = 40_000;
const ISS = 1000;

/** How a connection of the guest's own ends. */
export type Ending = 'FIN' | 'RST';

type Conversation = { -readonly [K in keyof Segment]: Segment[K] } & {
  /** Undefined: the other side opened it. */
  readonly ending: Ending | undefined;
  finSent: boolean;
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

  connect(address: number, port: number, ending: Ending): void {
    const c = this.#converse(address, FIRST_PORT + (this.#ports++ % PORTS), port, ending);
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
    this.flush();
    return at;
  }

  /** Sends what was written. */
  flush(): void {
    const octets = this.#frames.take();
    if (octets > 0) this.#send(octets);
  }

  #frame(bytes: Uint8Array, view: DataView, at: number, end: number): void {
    if (end - at < TRANSPORT + udp.HEADER_OCTETS) return;
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
    if ((flags & tcp.SYN) !== 0) this.#opened(c, tcp.sequence(view, head), flags);
    const octets = ipv4.totalLength(view, at + IP) - ipv4.HEADER_OCTETS - header;
    if (octets > 0) this.#data(c, octets);
    if ((flags & tcp.FIN) === 0) return;
    c.rcvNxt++;
    this.#frames.segment(c, c.finSent ? tcp.ACK : tcp.ACK | tcp.FIN);
    this.#end(c);
  }

  /** A SYN is answered by one, and that by the octet to be echoed. */
  #opened(c: Conversation, irs: number, flags: number): void {
    c.rcvNxt = (irs + 1) >>> 0;
    if (c.ending) this.#frames.segment(c, tcp.ACK | tcp.PSH, 1);
    else this.#frames.segment(c, flags | tcp.ACK);
    c.sndNxt++;
  }

  /** What came is echoed; the echo is the end. */
  #data(c: Conversation, octets: number): void {
    c.rcvNxt = (c.rcvNxt + octets) >>> 0;
    if (!c.ending) {
      this.#frames.segment(c, tcp.ACK | tcp.PSH, octets);
      c.sndNxt += octets;
    } else if (c.ending === 'FIN') {
      this.#frames.segment(c, tcp.ACK | tcp.FIN);
      c.finSent = true;
      c.sndNxt++;
    } else {
      this.#frames.segment(c, tcp.ACK | tcp.RST);
      this.#end(c);
    }
  }

  #converse(address: number, ownPort: number, port: number, ending: Ending | undefined): Conversation {
    const c: Conversation = {
      address,
      ownPort,
      port,
      ending,
      sndNxt: ISS,
      rcvNxt: 0,
      tsRecent: 0,
      finSent: false,
    };
    this.#conversations.set(key(ownPort, port), c);
    return c;
  }

  #end(c: Conversation): void {
    if (!this.#conversations.delete(key(c.ownPort, c.port)) || !c.ending) return;
    this.open--;
    this.ended++;
  }
}

const key = (ownPort: number, port: number): number => ownPort * 0x1_0000 + port;
