/** A netstack on a fake link, under a fake clock, with a forwarder that keeps what it is given. */

import type { Ipv6Options } from '../../src/stack/ipv6-identity.ts';
import type { Netstack } from '../../src/stack/netstack.ts';
import type { EchoRequest, Forwarder, LinkOffload, TcpConnection, UdpDatagram } from '../../src/stack/port.ts';
import type { TcpLimits } from '../../src/stack/tcp/limits.ts';
import { formatAddress, parseAddress, parseIpv6 } from '../../src/stack/wire/address.ts';
import { macToBytes } from '../../src/stack/wire/ethernet.ts';
import { FakeLink } from './fake-link.ts';
import { answerTo } from './probed-guest.ts';
import { makeStack } from './recorded-stack.ts';

export const GATEWAY_MAC = 0x02_00_00_00_00_01;
export const GUEST_MAC = 0x02_00_00_00_00_03;

export const address = (text: string): Uint8Array => parseAddress(text)!;

/** Numbers that are the same on every run. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 0x1_0000_0000;
  };
}

export interface WorldOptions {
  readonly mtu?: number;
  readonly offload?: LinkOffload;
  readonly limits?: Partial<TcpLimits>;
  readonly seed?: number;
  readonly forwarder?: Partial<Forwarder>;
  /** With IPv6: fd00:1:2:3::/64, and what else is said of it. */
  readonly ipv6?: Partial<Ipv6Options>;
  /** The guest does not answer either when it is asked itself whether it is there. */
  readonly isSilent?: boolean;
}

export class World {
  nowMs = 1000;
  readonly link: FakeLink;
  readonly netstack: Netstack;
  readonly ingress: number;
  /** SYNs handed to the forwarder. */
  readonly dialled: TcpConnection[] = [];
  readonly gone: TcpConnection[] = [];
  /** What else was forwarded, as text. */
  readonly forwarded: string[] = [];
  readonly payloads: Uint8Array[] = [];
  woken = 0;
  /** What the guest has answered, and is yet to come in. */
  readonly #answers: Uint8Array[] = [];

  constructor(options: WorldOptions = {}) {
    this.link = new FakeLink(options.mtu, options.offload);
    const random = seededRandom(options.seed ?? 1);
    this.netstack = makeStack({
      clock: { nowMs: () => this.nowMs },
      random: {
        fill: (into) => {
          for (let i = 0; i < into.length; i++) into[i] = random() * 256;
        },
      },
      forwarder: {
        tcp: (connection) => this.dialled.push(connection),
        tcpGone: (connection) => this.gone.push(connection),
        udp: (datagram) => this.#datagram('udp', datagram),
        echo: (request) => this.#datagram(`echo ${request.identifier}/${request.sequence}`, request),
        ...options.forwarder,
      },
      macAddress: macToBytes(GATEWAY_MAC),
      gateway: address('192.168.65.1'),
      hostAlias: address('192.168.65.2'),
      prefix: 24,
      wake: () => this.woken++,
      ipv6: options.ipv6 && { prefix: parseIpv6('fd00:1:2:3::')!, ...options.ipv6 },
      ...(options.limits && { limits: options.limits }),
    });
    this.ingress = this.netstack.attach(this.link);
    if (options.isSilent) return;
    this.link.answers = (frame) => {
      const answer = answerTo(frame);
      if (answer) this.#answers.push(answer);
      return answer !== undefined;
    };
  }

  poll(): void {
    this.netstack.poll(this.nowMs, 1 << 30);
    if (this.#answers.length > 0) this.link.input(this.#answers.splice(0));
  }

  /** Lets time pass, polling whenever the stack asks for it. */
  advance(ms: number): void {
    const end = this.nowMs + ms;
    for (let polls = 0; ; polls++) {
      const at = this.netstack.pollAt();
      if (at > end) break;
      if (polls > 1_000_000) throw new Error('polled for ever');
      this.nowMs = Math.max(this.nowMs, at);
      this.poll();
    }
    this.nowMs = end;
    this.poll();
  }

  /** Drops that were counted, without those that were not. */
  drops(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.netstack.drops).filter(([, count]) => count > 0));
  }

  #datagram(what: string, datagram: UdpDatagram | EchoRequest): void {
    const { payload } = datagram;
    const bytes = new Uint8Array(payload.octets);
    let at = 0;
    for (let i = 0; i < payload.count; i++) {
      const { arena, offset, length } = payload.items[i]!;
      bytes.set(arena.bytes.subarray(offset, offset + length), at);
      at += length;
    }
    this.payloads.push(bytes);
    const from = `${formatAddress(datagram.guestAddress)}:${datagram.guestPort}`;
    const to = `${formatAddress(datagram.peerAddress)}:${datagram.peerPort}`;
    this.forwarded.push(`${what} ${from} > ${to} ${bytes.length}`);
  }
}
