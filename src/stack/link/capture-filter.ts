/**
 * The captures' filter language, in tcpdump's words:
 *
 *     host A, net CIDR, port N, portrange N-M     each with src or dst before it
 *     tcp, udp, icmp, icmp6, arp, ip, ip6         alone, or before one of the above: `tcp port 80`
 *     ether host MAC
 *     and, or, not (or &&, ||, !), parentheses
 *
 * As there, `and` and `or` bind alike, from left to right, and a word that is missing is the one said last:
 * `port 80 or 443`, `host 10.0.0.1 or 10.0.0.2`. Names are not looked up. An expression is compiled once into functions over a `FrameHeaders` record.
 */

import { type Address, parseAddress, parseSubnet } from '../wire/address.ts';
import * as ethernet from '../wire/ethernet.ts';
import * as ipv4 from '../wire/ipv4.ts';
import { PROTOCOL_ICMPV6 } from '../wire/ipv6.ts';
import { FrameHeaders, Net } from './frame-headers.ts';

export class CaptureFilterError extends Error {
  readonly code = 'CAPTURE_FILTER';
}

type Test = (headers: FrameHeaders) => boolean;

export interface CaptureFilter {
  /** As it was written. */
  readonly text: string;
  /** Whether a frame passes, of which `length` octets lie at `at`: its headers, at least. */
  passes(view: DataView, at: number, length: number): boolean;
}

const MAX_TERMS = 256;

const isIp = ({ type }: FrameHeaders): boolean => type === ethernet.TYPE_IPV4 || type === ethernet.TYPE_IPV6;

const protocols: Readonly<Record<string, Test>> = {
  tcp: ({ protocol }) => protocol === ipv4.PROTOCOL_TCP,
  udp: ({ protocol }) => protocol === ipv4.PROTOCOL_UDP,
  icmp: ({ type, protocol }) => type === ethernet.TYPE_IPV4 && protocol === ipv4.PROTOCOL_ICMP,
  icmp6: ({ type, protocol }) => type === ethernet.TYPE_IPV6 && protocol === PROTOCOL_ICMPV6,
  arp: ({ type }) => type === ethernet.TYPE_ARP,
  ip: ({ type }) => type === ethernet.TYPE_IPV4,
  ip6: ({ type }) => type === ethernet.TYPE_IPV6,
};

const kinds = new Set(['host', 'net', 'port', 'portrange']);
const primitives = new Set([...kinds, 'src', 'dst']);
const operators: Readonly<Record<string, string>> = { '&&': 'and', '||': 'or', '!': 'not' };

class Parser {
  readonly #text: string;
  readonly #words: string[];
  #at = 0;
  #terms = 0;
  #depth = 0;
  #last: { kind: string; side: 'src' | 'dst' | undefined; protocol: Test | undefined } = {
    kind: 'host',
    side: undefined,
    protocol: undefined,
  };

  constructor(text: string) {
    this.#text = text;
    this.#words = text.match(/&&|\|\||[()!]|[^\s()!&|]+|[&|]/g) ?? [];
  }

  parse(): Test {
    if (this.#words.length === 0) throw this.#wrong('it is empty');
    const test = this.#all();
    const left = this.#peek();
    if (left !== undefined) throw this.#wrong(`'and' or 'or' is missing before '${left}'`);
    return test;
  }

  #all(): Test {
    let left = this.#not();
    for (;;) {
      const a = left;
      if (this.#accept('and')) {
        const b = this.#not();
        left = (headers) => a(headers) && b(headers);
      } else if (this.#accept('or')) {
        const b = this.#not();
        left = (headers) => a(headers) || b(headers);
      } else return left;
    }
  }

  #not(): Test {
    if (++this.#terms > MAX_TERMS || this.#depth > MAX_TERMS) throw this.#wrong('it is too long');
    this.#depth++;
    const test = this.#term();
    this.#depth--;
    return test;
  }

  #term(): Test {
    if (this.#accept('not')) {
      const negated = this.#not();
      return (headers) => !negated(headers);
    }
    if (!this.#accept('(')) return this.#primary();
    const inner = this.#all();
    if (!this.#accept(')')) throw this.#wrong("')' is missing");
    return inner;
  }

  #primary(): Test {
    const word = this.#next('a host, port or protocol');
    if (word === 'ether') {
      this.#expect('host');
      const mac = ethernet.parseMac(this.#next('a MAC address'));
      if (mac === undefined) throw this.#wrong("'ether host' wants a MAC address such as 02:00:00:00:00:01");
      return ({ type, sourceMac, destinationMac }) => type !== 0 && (sourceMac === mac || destinationMac === mac);
    }
    const protocol = Object.hasOwn(protocols, word) ? protocols[word] : undefined;
    if (!protocol) return this.#primitive(word);
    if (!primitives.has(this.#peek() ?? '')) return protocol;
    const primitive = this.#primitive(this.#next(''), protocol);
    return (headers) => protocol(headers) && primitive(headers);
  }

  #primitive(word: string, protocol?: Test): Test {
    if (!primitives.has(word)) {
      // The qualifiers are those said last.
      const { kind, side, protocol } = this.#last;
      if (!/^[\d.:/a-f-]+$/.test(word)) throw this.#wrong(`'${word}' is not understood`);
      this.#at--;
      const test = this.#compare(kind, side);
      return protocol ? (headers) => protocol(headers) && test(headers) : test;
    }
    const side = word === 'src' || word === 'dst' ? word : undefined;
    // `src A` is short for `src host A`.
    const kind = !side ? word : kinds.has(this.#peek() ?? '') ? this.#next('') : 'host';
    this.#last = { kind, side, protocol };
    return this.#compare(kind, side);
  }

  #compare(kind: string, side: 'src' | 'dst' | undefined): Test {
    const source = side !== 'dst';
    const destination = side !== 'src';
    if (kind === 'host' || kind === 'net') {
      const net = this.#net(kind);
      return (headers) =>
        headers.hasAddresses && ((source && net.has(headers.source)) || (destination && net.has(headers.destination)));
    }
    const [first, last] = this.#ports(kind);
    return (headers) =>
      isIp(headers) &&
      ((source && headers.sourcePort >= first && headers.sourcePort <= last) ||
        (destination && headers.destinationPort >= first && headers.destinationPort <= last));
  }

  #net(kind: 'host' | 'net'): Net {
    const text = this.#next(kind === 'host' ? 'an address' : 'a network');
    const address: Address | undefined = parseAddress(text);
    if (address) return new Net(address, 128);
    if (kind === 'host') throw this.#wrong(`'${text}' is not an address (names are not looked up)`);
    const subnet = parseSubnet(text);
    if (!subnet) throw this.#wrong(`'${text}' is not a network such as 10.0.0.0/8`);
    return new Net(subnet.address, subnet.prefix);
  }

  #ports(kind: string): readonly [first: number, last: number] {
    const text = this.#next(kind === 'port' ? 'a port' : 'ports');
    const match = (kind === 'port' ? /^(\d{1,5})$/ : /^(\d{1,5})-(\d{1,5})$/).exec(text);
    const first = Number(match?.[1]);
    const last = Number(match?.[2] ?? match?.[1]);
    if (match && first <= last && last <= 65535) return [first, last];
    throw this.#wrong(kind === 'port' ? `'${text}' is not a port` : `'${text}' is not a range such as 8000-8010`);
  }

  #peek(): string | undefined {
    const word = this.#words[this.#at]?.toLowerCase();
    return word === undefined ? undefined : (operators[word] ?? word);
  }

  #accept(word: string): boolean {
    if (this.#peek() !== word) return false;
    this.#at++;
    return true;
  }

  #expect(word: string): void {
    if (!this.#accept(word)) throw this.#wrong(`'${word}' is missing`);
  }

  #next(what: string): string {
    const word = this.#peek();
    if (word === undefined) throw this.#wrong(`${what} is missing at the end`);
    this.#at++;
    return word;
  }

  #wrong(why: string): CaptureFilterError {
    return new CaptureFilterError(`the capture filter '${this.#text}' is wrong: ${why}`);
  }
}

/** Throws a `CaptureFilterError` that says what is wrong. */
export function parseCaptureFilter(text: string): CaptureFilter {
  const test = new Parser(text).parse();
  const headers = new FrameHeaders();
  return {
    text,
    passes(view, at, length) {
      headers.read(view, at, length);
      return test(headers);
    },
  };
}
