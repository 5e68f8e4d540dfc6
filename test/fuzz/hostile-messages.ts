/**
 * Hostile messages to the gateway's services and to the entrance, by a seed: DHCP, NTP, SOCKS, TLS hellos and HTTP, each
 * made soundly and then changed at random, cut, joined or thrown away for random octets. HTTP goes to the relay itself, by
 * connections that end anyhow. Nothing may throw; what is answered is no longer than asked; leases and connections stay
 * within their bounds; and a host that is taken for a name is one to every other reader too.
 */

import { once } from 'node:events';
import { duplexPair } from 'node:stream';
import { DhcpServer } from '../../src/proxy/dhcp.ts';
import {
  parseCredentials,
  parseDatagram,
  parseGreeting,
  parseRequest,
} from '../../src/proxy/entrance/socks-message.ts';
import { HELLO_OCTETS, helloName } from '../../src/proxy/http-proxy/client-hello.ts';
import { HttpRefusal, parseAbsolute, parseAuthority, parseHost } from '../../src/proxy/http-proxy/message.ts';
import { HttpRelay } from '../../src/proxy/http-proxy/relay.ts';
import { NtpServer } from '../../src/proxy/ntp.ts';
import { parseAddress } from '../../src/stack/wire/address.ts';
import * as dhcp from '../../src/stack/wire/dhcp.ts';
import { address, FakeClock, FakeNetstack } from '../proxy/gateway-fakes.ts';
import { seededRandom } from '../stack/world.ts';

const GATEWAY = '192.168.65.1';
const PORTS = 3;
const LEASES_A_PORT = 16;
/** Requests that one connection to the relay sends, at most; how long it may take to end. */
const PIPELINED = 4;
const HTTP_SHARE = 0.02;

/** Pieces that HTTP and its hosts are made of. */
const words = [
  ...[
    'GET',
    'POST',
    'CONNECT',
    'OPTIONS',
    'PRI',
    ' ',
    ' ',
    '\r\n',
    '\r\n',
    '\r\n\r\n',
    '\n',
    '\0',
    'HTTP/1.1',
    'HTTP/1.0',
  ],
  ...['http://', 'https://', '/', '*', '?', '#', '@', ':', ':80', ':0', ':99999', '[', ']', '%25lo', '.', '..', '::1'],
  ...['example.org', 'localhost', '127.0.0.1', '0x7f.1', '017700000001', '①', '::ffff:7f00:1', 'xn--', '-', '_'],
  ...[
    'Host: ',
    'Host: a.example',
    'Connection: ',
    'close',
    'Upgrade: websocket',
    'Content-Length: 5',
    'Content-Length: -1',
  ],
  ...[
    'Transfer-Encoding: chunked',
    'Expect: 100-continue',
    'Proxy-Authorization: Basic !!!',
    '5\r\nhello\r\n',
    '0\r\n\r\n',
  ],
  ...['ffffffffffffffff\r\n', 'Via: ', '\t', 'x'.repeat(3000)],
];

export interface MessagesResult {
  readonly messages: number;
  readonly answers: number;
}

export class HostileMessages {
  readonly #random: () => number;
  readonly #clock = new FakeClock();
  readonly #netstack = new FakeNetstack();
  readonly #dhcp: DhcpServer;
  readonly #relay: HttpRelay;
  #messages = 0;
  #answers = 0;

  constructor(seed: number) {
    // Neighbouring seeds would begin alike.
    this.#random = seededRandom(Math.imul(seed + 1, 0x9e37_79b1));
    this.#dhcp = new DhcpServer(
      this.#netstack,
      {
        subnet: { address: address('192.168.65.0'), prefix: 122 },
        gateway: address(GATEWAY),
        dns: [address(GATEWAY)],
        ntp: [address(GATEWAY)],
        reserved: [address('192.168.65.2')],
        mtu: 1500,
        perPort: LEASES_A_PORT,
        search: () => ['corp.example', `${'a'.repeat(60)}.example`],
      },
      this.#clock,
    );
    new NtpServer(this.#netstack, [address(GATEWAY)], {
      read: () => ({ epochMs: Date.now(), inStep: false, leap: 0, maxErrorMs: 0, precision: -20 }),
    });
    const refuse = async (): Promise<never> => {
      throw new HttpRefusal(403, 'not here');
    };
    this.#relay = new HttpRelay({
      form: seed % 2 === 0 ? 'absolute' : 'origin',
      routes: {
        route: refuse,
        tunnel: async ({ host }) => {
          if (host !== 'example.org') return refuse();
          const [near, far] = duplexPair();
          far.on('error', () => undefined).once('data', () => far.end('HTTP/1.1 101 as asked\r\n\r\n'));
          return near;
        },
      },
    });
  }

  /** Rejects where something is wrong. */
  async run(messages: number): Promise<MessagesResult> {
    const kinds = [
      () => this.#dhcpMessage(),
      () => this.#ntpMessage(),
      () => this.#socks(),
      () => this.#hosts(),
      () => this.#hello(),
    ];
    while (this.#messages < messages) {
      if (this.#random() < HTTP_SHARE) await this.#http();
      else {
        this.#messages++;
        this.#pick(kinds)();
      }
    }
    this.#relay.close();
    return { messages: this.#messages, answers: this.#answers };
  }

  #dhcpMessage(): void {
    this.#clock.now += this.#below(20_000);
    const bytes = new Uint8Array(320);
    const view = new DataView(bytes.buffer);
    let at = dhcp.emit(
      view,
      0,
      this.#pick([1, 1, 1, 0, 2]),
      this.#below(5),
      this.#below(2) << 15,
      this.#word(),
      0,
      0,
      this.#word() & 0,
    );
    bytes.set([2, 0, 0, 0, this.#below(2), this.#below(40)], dhcp.CLIENT_HARDWARE);
    at = dhcp.emitOption(view, at, dhcp.OPTION_MESSAGE_TYPE, Uint8Array.of(this.#pick([1, 3, 3, this.#below(10)])));
    for (let i = this.#below(4); i > 0; i--)
      at = dhcp.emitOption(view, at, this.#pick([12, 50, 52, 54, 55, 57, 61, 119, this.#below(256)]), this.#octets(12));
    bytes[at++] = dhcp.OPTION_END;
    const message = this.#random() < 0.5 ? bytes.subarray(0, at) : this.#spoil(bytes.subarray(0, at));
    const answers = this.#netstack.deliver(message, {
      guest: this.#pick(['0.0.0.0', '192.168.65.3', '10.0.0.1']),
      guestPort: 68,
      peer: this.#pick(['255.255.255.255', GATEWAY]),
      peerPort: 67,
      ingress: this.#below(PORTS),
    });
    this.#answered(answers.length, 1, 'DHCP');
    if (answers[0] && answers[0].payload.length > 1472) throw new Error('a DHCP answer is longer than a frame');
    if (this.#messages % 16 > 0) return;
    const leases = this.#dhcp.leases();
    for (let ingress = 0; ingress < PORTS; ingress++)
      if (leases.filter((lease) => lease.ingress === ingress).length > LEASES_A_PORT)
        throw new Error(`port ${ingress} has more leases than it may`);
    if (new Set(leases.map((lease) => lease.address)).size !== leases.length)
      throw new Error('an address is leased twice');
  }

  #ntpMessage(): void {
    const bytes = this.#octets(90);
    if (bytes.length > 0 && this.#random() < 0.5) bytes[0] = this.#pick([0x1b, 0x23, 0x0b, 0x13]);
    const answers = this.#netstack.deliver(bytes, { peer: GATEWAY, peerPort: 123 });
    this.#answered(answers.length, 1, 'NTP');
    if (answers[0] && answers[0].payload.length > bytes.length)
      throw new Error('an NTP answer is longer than the question');
  }

  #socks(): void {
    const kinds = [
      [5, 1 + this.#below(3), 0, 2],
      [1, 2, 109, 101, 1, 120],
      [5, 1 + this.#below(3), 0, this.#pick([1, 3, 4, this.#below(256)]), this.#below(256), ...this.#octets(20)],
      [0, 0, this.#below(2), this.#pick([1, 3, 4]), this.#below(30), ...this.#octets(40)],
    ];
    const bytes = this.#spoil(Uint8Array.from(this.#pick(kinds)));
    for (const parse of [parseGreeting, parseCredentials, parseRequest]) {
      const found = parse(bytes);
      if (found && found !== 'malformed' && (found.octets < 1 || found.octets > bytes.length))
        throw new Error(`${parse.name} took ${found.octets} of ${bytes.length} octets`);
      // What is whole stays so, whatever follows.
      if (found && found !== 'malformed' && !('host' in found && found.host === undefined)) {
        const again = parse(Uint8Array.of(...bytes.subarray(0, found.octets), 0, 1, 2));
        if (!again || again === 'malformed' || again.octets !== found.octets) throw new Error(`${parse.name} reads on`);
      }
    }
    const datagram = parseDatagram(bytes);
    if (datagram && datagram.payload.length >= bytes.length) throw new Error('a SOCKS datagram is all payload');
  }

  #hosts(): void {
    const text = this.#text(this.#below(6));
    const targets = [parseAuthority(text), parseAuthority(text, 80), parseAbsolute(text)?.target];
    for (const host of [parseHost(text), ...targets.map((target) => target?.host)]) {
      if (host === undefined) continue;
      if (host !== host.toLowerCase() || host === '') throw new Error(`'${host}' is no host`);
      const literal = parseAddress(host);
      // A name that another reader takes for an address would pass the gate as a name.
      const read = URL.parse(`http://${literal && host.includes(':') ? `[${host}]` : host}/`)?.hostname;
      if (!literal && read !== undefined && parseAddress(read.replace(/^\[|\]$/g, '')))
        throw new Error(`'${host}' is a name here and ${read} elsewhere`);
    }
  }

  #hello(): void {
    const bytes = this.#random() < 0.3 ? this.#octets(200) : this.#spoil(hello(this.#text(1).slice(0, 60)));
    const found = helloName(bytes);
    if (found?.name !== undefined && found.name.length > HELLO_OCTETS)
      throw new Error('a name is longer than its hello');
  }

  /** A connection to the relay; it ends by itself or is ended. */
  async #http(): Promise<void> {
    const [client, server] = duplexPair();
    client.on('error', () => undefined);
    this.#relay.serve(server);
    let answer = '';
    client.setEncoding('latin1').on('data', (chunk: string) => {
      answer += chunk;
    });
    for (let i = 1 + this.#below(PIPELINED); i > 0; i--) {
      this.#messages++;
      if (client.destroyed) break;
      client.write(this.#random() < 0.6 ? this.#request() : this.#spoil(Buffer.from(this.#request(), 'latin1')));
    }
    const ends = once(server, 'close');
    if (this.#random() < 0.3) client.destroy();
    else client.end();
    // A body that never comes keeps a connection; who is not served in a few turns goes.
    for (let turns = 0; turns < 6 && !server.destroyed; turns++) await new Promise((resolve) => setImmediate(resolve));
    client.destroy();
    server.destroy();
    await ends;
    if (answer !== '' && !/^HTTP\/1\.1 [1-5]\d\d /.test(answer))
      throw new Error(`the relay said '${answer.slice(0, 80)}'`);
    if (answer !== '') this.#answers++;
  }

  #request(): string {
    if (this.#random() < 0.2) return this.#text(20);
    const method = this.#pick(['GET', 'POST', 'CONNECT', 'OPTIONS', 'HEAD', 'BREW']);
    const target = this.#pick(['http://example.org/', '/', '*', 'example.org:443', this.#text(4).replace(/\s/g, '')]);
    const fields = Array.from(
      { length: this.#below(5) },
      () => `${this.#pick(words).trim() || 'X'}: ${this.#text(1).trim()}\r\n`,
    );
    const upgrade = this.#random() < 0.2 ? 'Connection: Upgrade\r\nUpgrade: websocket\r\n' : '';
    return `${method} ${target} HTTP/1.1\r\nHost: ${this.#pick(['example.org', this.#text(1)])}\r\n${upgrade}${fields.join('')}\r\n`;
  }

  #answered(answers: number, most: number, what: string): void {
    if (answers > most) throw new Error(`${answers} answers to one ${what} message`);
    this.#answers += answers;
  }

  #text(pieces: number): string {
    let text = '';
    for (let i = 0; i < pieces; i++)
      text += this.#random() < 0.2 ? String.fromCharCode(this.#below(300)) : this.#pick(words);
    return text;
  }

  /** With octets changed, cut off, put in or repeated. */
  #spoil(bytes: Uint8Array): Uint8Array {
    let spoilt = Uint8Array.from(bytes);
    for (let i = this.#below(4); i > 0; i--) {
      const at = this.#below(spoilt.length + 1);
      switch (this.#below(4)) {
        case 0:
          if (at < spoilt.length) spoilt[at] = this.#below(256);
          break;
        case 1:
          spoilt = spoilt.slice(0, at);
          break;
        case 2:
          spoilt = Uint8Array.of(...spoilt.subarray(0, at), ...this.#octets(8), ...spoilt.subarray(at));
          break;
        default:
          spoilt = Uint8Array.of(...spoilt, ...spoilt.subarray(at));
      }
    }
    return spoilt.length > 4000 ? spoilt.slice(0, 4000) : spoilt;
  }

  #octets(most: number): Uint8Array {
    return Uint8Array.from({ length: this.#below(most + 1) }, () => this.#below(256));
  }

  #word(): number {
    return this.#pick([0, 0, -1062715133, -1062715135, this.#below(2 ** 32) | 0]);
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #pick<T>(choices: readonly T[]): T {
    return choices[this.#below(choices.length)]!;
  }
}

/** A ClientHello with one name. RFC 8446 4.1.2, RFC 6066 3. */
function hello(name: string): Uint8Array {
  const text = [...Buffer.from(name)];
  const word = (value: number): number[] => [(value >> 8) & 255, value & 255];
  const list = [0, ...word(text.length), ...text];
  const extension = [0, 0, ...word(list.length + 2), ...word(list.length), ...list];
  const body = [3, 3, ...new Array<number>(32).fill(1), 0, 0, 2, 19, 1, 1, 0, ...word(extension.length), ...extension];
  const handshake = [1, 0, ...word(body.length), ...body];
  return Uint8Array.from([22, 3, 1, ...word(handshake.length), ...handshake]);
}
