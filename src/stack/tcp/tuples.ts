/**
 * The connections by their addresses, ports and ingress, and what is chosen by these: initial sequence numbers
 * (RFC 6528) and ports of our own (RFC 6056). Segments come in runs, so the connection found last is looked at first.
 */

import { FlowTable, KEY_WORDS } from '../flow-table.ts';
import type { KeyedHash } from '../keyed-hash.ts';
import type { Packet } from '../packet.ts';
import type { Random } from '../port.ts';
import { type Address, word } from '../wire/address.ts';
import type { Connection } from './connection.ts';
import { type Seq, seq, seqAdd } from './seq.ts';

/** RFC 6335's dynamic ports. */
const FIRST_PORT = 49152;
const PORTS = 65536 - FIRST_PORT;

export class Tuples {
  readonly #hash: KeyedHash;
  readonly #random: Random;
  readonly #flows: FlowTable<Connection>;
  readonly #key = new Int32Array(KEY_WORDS);
  readonly #lastKey = new Int32Array(KEY_WORDS);
  #last: Connection | undefined = undefined;
  readonly #randomWord = new Uint8Array(4);

  constructor(hash: KeyedHash, random: Random) {
    this.#hash = hash;
    this.#random = random;
    this.#flows = new FlowTable(hash);
  }

  get size(): number {
    return this.#flows.size;
  }

  values(): IterableIterator<Connection> {
    return this.#flows.values();
  }

  /** The connection of a packet from the guest, whose TCP header begins with the word `ports`. */
  ofPacket(packet: Packet, ports: number): Connection | undefined {
    if (packet.isIpv6) return this.#ofIpv6(packet, ports);
    const key = this.#key;
    const lastKey = this.#lastKey;
    const last = this.#last;
    this.#fill(packet.source3, packet.destination3, ports, packet.port.ingress);
    if (last && lastKey[8] === ports && lastKey[3] === key[3] && lastKey[7] === key[7] && lastKey[9] === key[9])
      return last;
    const found = this.#flows.find(key);
    if (found) {
      this.#last = found;
      lastKey.set(key);
    }
    return found;
  }

  /** The same by addresses. `ports`: the guest's, then the peer's. */
  find(guest: Address, peer: Address, ports: number, ingress: number): Connection | undefined {
    return this.#flows.find(this.#keyOfAddresses(guest, peer, ports, ingress));
  }

  /** Whether a connection has the tuple of `c`. */
  has(c: Connection): boolean {
    return this.#flows.find(this.#keyOf(c)) !== undefined;
  }

  add(c: Connection): void {
    this.#flows.set(this.#keyOf(c), c);
  }

  delete(c: Connection): void {
    if (this.#last === c) this.#last = undefined;
    const key = this.#keyOf(c);
    if (this.#flows.find(key) === c) this.#flows.delete(key);
  }

  /** Gives `c` a port of ours that is free, RFC 6056 3.3.1 with a random start; false: none is. */
  choosePort(c: Connection): boolean {
    const start = this.random() >>> 0;
    for (let i = 0; i < PORTS; i++) {
      c.peerPort = FIRST_PORT + ((start + i) % PORTS);
      if (!this.has(c)) return true;
    }
    return false;
  }

  /** RFC 6528 3: a clock of 4 microseconds, and a secret function of the tuple. */
  initialSequence(c: Connection, nowMs: number): Seq {
    const clock = Math.floor(nowMs * 250) % 0x1_0000_0000;
    return seqAdd(seq(this.#hash.strong(this.#keyOf(c), KEY_WORDS)), clock | 0);
  }

  /** RFC 7323 5.4: where the tuple's clock begins; the same for a later connection of it. */
  timestampOffset(c: Connection): number {
    return this.#hash.strong(this.#keyOf(c), KEY_WORDS - 1);
  }

  /** 32 bits. */
  random(): number {
    const bytes = this.#randomWord;
    this.#random.fill(bytes);
    return (bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]!;
  }

  #ofIpv6(packet: Packet, ports: number): Connection | undefined {
    const key = this.#key;
    key[0] = packet.source0;
    key[1] = packet.source1;
    key[2] = packet.source2;
    key[3] = packet.source3;
    key[4] = packet.destination0;
    key[5] = packet.destination1;
    key[6] = packet.destination2;
    key[7] = packet.destination3;
    key[8] = ports;
    key[9] = packet.port.ingress;
    return this.#flows.find(key);
  }

  /** Both addresses are IPv4: the other words are those of the mapped form. */
  #fill(guest: number, peer: number, ports: number, ingress: number): void {
    const key = this.#key;
    key[0] = 0;
    key[1] = 0;
    key[2] = 0xffff;
    key[3] = guest;
    key[4] = 0;
    key[5] = 0;
    key[6] = 0xffff;
    key[7] = peer;
    key[8] = ports;
    key[9] = ingress;
  }

  #keyOf(c: Connection): Int32Array {
    return this.#keyOfAddresses(c.guestAddress, c.peerAddress, (c.guestPort << 16) | c.peerPort, c.ingress);
  }

  #keyOfAddresses(guest: Address, peer: Address, ports: number, ingress: number): Int32Array {
    const key = this.#key;
    for (let i = 0; i < 4; i++) {
      key[i] = word(guest, i);
      key[4 + i] = word(peer, i);
    }
    key[8] = ports;
    key[9] = ingress;
    return key;
  }
}
