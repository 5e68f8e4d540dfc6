/** Two netstacks on a wire that loses, repeats, reorders, delays and corrupts frames, by a seed, in a time of its own. */

import { FrameBatch } from '../../src/stack/frame-batch.ts';
import { FrameMemory } from '../../src/stack/frame-memory.ts';
import type { Netstack } from '../../src/stack/netstack.ts';
import type { Arena, Forwarder, LinkHandler, LinkPort } from '../../src/stack/port.ts';
import type { TcpLimits } from '../../src/stack/tcp/limits.ts';
import { macToBytes } from '../../src/stack/wire/ethernet.ts';
import { arenaOf } from './fake-link.ts';
import { makeStack } from './recorded-stack.ts';
import { address, seededRandom } from './world.ts';

export interface Conditions {
  /** Each a probability per frame. */
  readonly loss?: number;
  readonly repetition?: number;
  readonly corruption?: number;
  /** Milliseconds, uniformly between 0 and this, beside the wire's own delay: so frames overtake each other. */
  readonly jitterMs?: number;
  readonly delayMs?: number;
  /** Frames on the wire, each way; more are refused at `reserve`. */
  readonly room?: number;
  /** The stacks put off what an answer may carry, until nothing is on its way that is due. */
  readonly patient?: boolean;
}

interface Flight {
  readonly atMs: number;
  readonly order: number;
  readonly to: WireEnd;
  readonly bytes: Uint8Array;
}

class WireEnd implements LinkPort {
  readonly name = 'wire';
  readonly mtu: number;
  readonly offload = { checksum: false, segmentOctets: 0 };
  readonly txArena: Arena = arenaOf(new Uint8Array(131072));
  readonly txOffset = 1;
  onWire = 0;
  refused = false;
  readonly #wire: LossyWire;
  declare handler: LinkHandler;
  declare peer: WireEnd;

  constructor(wire: LossyWire, mtu: number) {
    this.#wire = wire;
    this.mtu = mtu;
  }

  start(handler: LinkHandler): void {
    this.handler = handler;
  }

  reserve(_octets: number): boolean {
    if (this.onWire < this.#wire.room) return true;
    this.refused = true;
    return false;
  }

  commit(octets: number): void {
    this.#wire.send(this, this.txArena.bytes.slice(1, 1 + octets));
  }

  flush(): void {}

  close(): void {}
}

const hostOf = (host: number): Uint8Array => address(`fd00::${host.toString(16)}`);

export class LossyWire {
  nowMs = 1000;
  readonly room: number;
  readonly left: Netstack;
  readonly right: Netstack;
  readonly lost = { frames: 0 };
  readonly #conditions: Conditions;
  readonly #random: () => number;
  readonly #flights: Flight[] = [];
  /** Those that have put something off. */
  readonly #patient = new Set<Netstack>();
  #order = 0;
  readonly #ends: readonly [WireEnd, WireEnd];

  /** `left` is 192.168.65.1 and fd00::1, `right` is 192.168.65.129 and, with `ipv6`, fd00::81; each forwards what its own forwarder takes. */
  constructor(
    seed: number,
    conditions: Conditions,
    forwarders: { left: Forwarder; right: Forwarder },
    mtu = 1500,
    limits: Partial<TcpLimits> = {},
    ipv6 = false,
  ) {
    this.#conditions = conditions;
    this.room = conditions.room ?? Number.POSITIVE_INFINITY;
    this.#random = seededRandom(seed);
    const ends: [WireEnd, WireEnd] = [new WireEnd(this, mtu), new WireEnd(this, mtu)];
    ends[0].peer = ends[1];
    ends[1].peer = ends[0];
    this.#ends = ends;
    const make = (host: number, forwarder: Forwarder): Netstack =>
      makeStack({
        clock: { nowMs: () => this.nowMs },
        random: {
          fill: (into) => {
            for (let i = 0; i < into.length; i++) into[i] = this.#random() * 256;
          },
        },
        forwarder,
        memory: new FrameMemory(1 << 20),
        macAddress: macToBytes(0x02_00_00_00_00_00 + host),
        gateway: address(`192.168.65.${host}`),
        hostAlias: address(`192.168.65.${host + 1}`),
        prefix: 24,
        ipv6: ipv6 ? { prefix: address('fd00::'), gateway: hostOf(host), hostAlias: hostOf(host + 1) } : undefined,
        limits,
      });
    this.left = make(1, forwarders.left);
    this.right = make(129, forwarders.right);
    if (conditions.patient)
      for (const stack of [this.left, this.right]) stack.onPutOff = () => void this.#patient.add(stack);
    const one = this.left.attach(ends[0]);
    const two = this.right.attach(ends[1]);
    this.left.pinNeighbor(address('192.168.65.129'), one, macToBytes(0x02_00_00_00_00_00 + 129));
    this.right.pinNeighbor(address('192.168.65.1'), two, macToBytes(0x02_00_00_00_00_01));
    if (!ipv6) return;
    this.left.pinNeighbor(hostOf(129), one, macToBytes(0x02_00_00_00_00_00 + 129));
    this.right.pinNeighbor(hostOf(1), two, macToBytes(0x02_00_00_00_00_01));
  }

  send(from: WireEnd, bytes: Uint8Array): void {
    const { loss = 0, repetition = 0, corruption = 0, jitterMs = 0, delayMs = 0.1 } = this.#conditions;
    if (this.#random() < loss) {
      this.lost.frames++;
      return;
    }
    const copies = this.#random() < repetition ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const copy = bytes.slice();
      if (this.#random() < corruption) {
        // Not in the Ethernet header: there no checksum of ours would notice, and on a real wire the FCS does.
        const bit = Math.floor(this.#random() * (copy.length - 14) * 8);
        copy[14 + (bit >> 3)]! ^= 1 << (bit & 7);
      }
      from.onWire++;
      const atMs = this.nowMs + delayMs + this.#random() * jitterMs;
      this.#flights.push({ atMs, order: this.#order++, to: from.peer, bytes: copy });
    }
  }

  /** Runs until nothing is due within `limitMs`, or until `done`. */
  run(limitMs: number, done: () => boolean = () => false): void {
    const end = this.nowMs + limitMs;
    for (let steps = 0; !done(); steps++) {
      if (steps > 2_000_000) throw new Error('the wire never comes to rest');
      for (const stack of [this.left, this.right]) if (stack.pollAt() <= this.nowMs) stack.poll(this.nowMs, 1 << 18);
      if (done()) return;
      const frames = this.#due();
      if (frames) continue;
      if (this.#patient.size > 0) {
        for (const stack of this.#patient) stack.quiet();
        this.#patient.clear();
        continue;
      }
      let next = Math.min(this.left.pollAt(), this.right.pollAt());
      for (const flight of this.#flights) next = Math.min(next, flight.atMs);
      if (next > end) {
        this.nowMs = end;
        return;
      }
      this.nowMs = Math.max(this.nowMs, next);
    }
  }

  /** Delivers what has arrived, a batch per side. */
  #due(): boolean {
    let any = false;
    for (const end of this.#ends) {
      const due = this.#flights.filter((flight) => flight.to === end && flight.atMs <= this.nowMs);
      if (due.length === 0) continue;
      any = true;
      due.sort((a, b) => a.atMs - b.atMs || a.order - b.order);
      for (const flight of due) this.#flights.splice(this.#flights.indexOf(flight), 1);
      const batch = new FrameBatch(due.length, 1);
      for (const { bytes } of due) batch.push(arenaOf(bytes), 0, bytes.length);
      end.handler.input(batch);
      end.peer.onWire -= due.length;
      if (end.peer.refused && end.peer.onWire < this.room) {
        end.peer.refused = false;
        end.peer.handler.writable();
      }
    }
    return any;
  }
}
