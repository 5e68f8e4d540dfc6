/**
 * The DHCPv6 server on the gateway. RFC 8415; name servers and search list RFC 3646.
 *
 * Events: datagrams to port 547 of ff02::1:2. Answers go to the address that asked, by the switch port that it asked
 * from. Stateless clients learn name servers and search list (Information-request); the others have an address per
 * identity association as well (bindings.ts). It gives away neither temporary addresses nor prefixes, and says so. No
 * timers: a binding's end is looked at when it matters.
 *
 * It is the only server of its network, so it is authoritative: a client that renews with an address this process has
 * not heard of (it was replaced; the VM lives on) keeps it when it is free, and is given another when it is not.
 *
 * Bounds: a request of `LARGEST_REQUEST` octets, `ASSOCIATIONS` associations of a message, a DUID of 130 octets. What is not a
 * request for this server by RFC 8415 16 is dropped and counted.
 */

import type { Clock, UdpDatagram } from '../stack/port.ts';
import { type Address, formatAddress, type Subnet } from '../stack/wire/address.ts';
import * as wire from '../stack/wire/dhcpv6.ts';
import { macToBytes } from '../stack/wire/ethernet.ts';
import { SOUND } from '../stack/wire/fault.ts';
import { type Asker, type Binding, Bindings } from './bindings.ts';
import { gather } from './fragment-list.ts';
import {
  DEFAULT_LEASE_MS,
  LEASES_PER_PORT,
  type LeaseNetstack,
  type LeaseOptions,
  type LeaseRecord,
  OFFER_MS,
} from './lease-options.ts';
import { encodeSearch } from './search-list.ts';

export interface Dhcpv6Options extends LeaseOptions {
  /** Of 64 bits. */
  readonly prefix: Subnet;
  /** Whom answers come from: the gateway's link-local address. */
  readonly address: Address;
  /** Part of the server's DUID. */
  readonly macAddress: Uint8Array;
  readonly dns: readonly Address[];
  /** The host part of the IPv4 lease of a machine behind a switch port; undefined: it has none. */
  readonly hostNumber?: (mac: number, ingress: number) => number | undefined;
}

export interface Dhcpv6Binding extends LeaseRecord {
  readonly client: string;
}

/** What a link of 1500 octets carries, without the headers of IPv6 and UDP; and what every link does. */
const LARGEST_REQUEST = 1452;
const LARGEST_MESSAGE = 1232;
const ASSOCIATIONS = 8;
/** Addresses of an association that are looked at. */
const ADDRESSES = 8;
/** The server that clients need not wait for others after. 21.8. */
const PREFERENCE = 255;

const { SOLICIT, REQUEST, CONFIRM, RENEW, REBIND, RELEASE, DECLINE, INFORMATION_REQUEST } = wire;
/** What a message has to name to be valid. 16.2 to 16.12. */
const validity: Readonly<Record<number, { readonly client: boolean; readonly server: boolean | undefined }>> = {
  [SOLICIT]: { client: true, server: false },
  [REQUEST]: { client: true, server: true },
  [CONFIRM]: { client: true, server: false },
  [RENEW]: { client: true, server: true },
  [REBIND]: { client: true, server: false },
  [RELEASE]: { client: true, server: true },
  [DECLINE]: { client: true, server: true },
  [INFORMATION_REQUEST]: { client: false, server: undefined },
};

const hexOf = (octets: Uint8Array): string =>
  Array.from(octets, (octet) => octet.toString(16).padStart(2, '0')).join('');

const isAssociation = (code: number): boolean =>
  code === wire.OPTION_IA_NA || code === wire.OPTION_IA_TA || code === wire.OPTION_IA_PD;

/** A request that is being answered. */
interface Received {
  readonly type: number;
  readonly end: number;
  /** The client's DUID in hexadecimal; '' for who does not say. */
  readonly client: string;
  readonly ingress: number;
  readonly mac: number;
  readonly nowMs: number;
}

export class Dhcpv6Server {
  readonly #netstack: LeaseNetstack;
  readonly #options: Dhcpv6Options;
  readonly #clock: Clock;
  readonly #bindings: Bindings;
  /** DUID-LL of Ethernet. 11.4. */
  readonly #duid: Uint8Array;
  readonly #leaseMs: number;
  readonly #in = new Uint8Array(LARGEST_REQUEST);
  readonly #inView = new DataView(this.#in.buffer);
  /** Room for what the associations of the longest request come to. */
  readonly #out = new Uint8Array(2 * LARGEST_MESSAGE);
  readonly #outView = new DataView(this.#out.buffer);
  /** Requests that were not answered, and those that got no address, by reason. */
  readonly drops = { malformed: 0, 'other-server': 0, exhausted: 0, 'not-sent': 0 };

  constructor(netstack: LeaseNetstack, options: Dhcpv6Options, clock: Clock) {
    this.#netstack = netstack;
    this.#options = options;
    this.#clock = clock;
    this.#bindings = new Bindings(options.prefix, options.perPort ?? LEASES_PER_PORT);
    this.#duid = Uint8Array.of(0, 3, 0, 1, ...options.macAddress);
    this.#leaseMs = options.leaseMs ?? DEFAULT_LEASE_MS;
    netstack.listenUdp(wire.ALL_SERVERS, wire.SERVER_PORT, (datagram) => this.#receive(datagram));
  }

  close(): void {
    this.#netstack.unlistenUdp(wire.ALL_SERVERS, wire.SERVER_PORT);
  }

  bindings(): readonly Dhcpv6Binding[] {
    const nowMs = this.#clock.nowMs();
    return this.#bindings.all().map(({ client, address, ingress, state, untilMs }) => ({
      client,
      address: formatAddress(address),
      ingress,
      bound: state === 'bound' && untilMs > nowMs,
      untilMs,
    }));
  }

  #receive(datagram: UdpDatagram): void {
    const length = gather(datagram.payload, this.#in);
    const view = this.#inView;
    const { sourceMac: mac, ingress } = datagram;
    if (length < 0 || mac === undefined || wire.check(view, 0, length) !== SOUND) {
      this.drops.malformed++;
      return;
    }
    const type = wire.type(view, 0);
    const wants = validity[type];
    const client = this.#duidOf(length, wire.OPTION_CLIENT_ID);
    const server = this.#duidOf(length, wire.OPTION_SERVER_ID);
    const named = server !== undefined;
    if (!wants || client === 'bad' || (wants.client && client === undefined) || wants.server === !named) {
      this.drops.malformed++;
      return;
    }
    if (named && server !== hexOf(this.#duid)) {
      this.drops['other-server']++;
      return;
    }
    const received = { type, end: length, client: client ?? '', ingress, mac, nowMs: this.#clock.nowMs() };
    const end = this.#answer(received);
    if (end < 0) {
      this.drops.malformed++;
      return;
    }
    if (end > 0) this.#send(datagram, mac, end);
  }

  /** Writes the answer; its length, 0: there is none; -1: the request is malformed. */
  #answer(received: Received): number {
    const { type, end } = received;
    const view = this.#inView;
    const out = this.#outView;
    const rapid = type === SOLICIT && wire.findOption(view, wire.HEADER_OCTETS, end, wire.OPTION_RAPID_COMMIT) >= 0;
    const advertises = type === SOLICIT && !rapid;
    let at = wire.emit(out, 0, advertises ? wire.ADVERTISE : wire.REPLY, wire.transaction(view, 0));
    const id = wire.findOption(view, wire.HEADER_OCTETS, end, wire.OPTION_CLIENT_ID);
    if (id >= 0) at = wire.emitOption(out, at, wire.OPTION_CLIENT_ID, this.#value(id));
    at = wire.emitOption(out, at, wire.OPTION_SERVER_ID, this.#duid);
    if (rapid) at = wire.emitOption(out, at, wire.OPTION_RAPID_COMMIT, new Uint8Array(0));
    if (advertises) at = wire.emitOption(out, at, wire.OPTION_PREFERENCE, Uint8Array.of(PREFERENCE));
    if (type === CONFIRM) return this.#confirm(received, at);
    if (type === INFORMATION_REQUEST) {
      if (this.#associations(received).length > 0) return -1;
    } else {
      const before = at;
      for (const association of this.#associations(received)) {
        at = this.#associate(received, association, at);
        if (at < 0) return -1;
      }
      if (type === RELEASE || type === DECLINE) return wire.emitStatus(out, at, wire.SUCCESS);
      // A Request for nothing has nothing to be answered with. A Solicit for nothing still learns who is here.
      if (at === before && type !== SOLICIT) return 0;
    }
    return this.#emitParameters(received, at);
  }

  /** 18.3.3: whether addresses that a client has, from before it moved perhaps, are of this network. */
  #confirm(received: Received, at: number): number {
    let status: number | undefined;
    for (const association of this.#associations(received))
      for (const address of this.#addresses(association) ?? []) {
        status ??= wire.SUCCESS;
        if (!this.#bindings.onLink(address)) status = wire.NOT_ON_LINK;
      }
    return status === undefined ? 0 : wire.emitStatus(this.#outView, at, status);
  }

  /** Answers one association; -1: it is malformed. */
  #associate(received: Received, association: number, start: number): number {
    const code = wire.optionCode(this.#inView, association);
    const addresses = this.#addresses(association);
    if (!addresses) return -1;
    const out = this.#outView;
    let at = wire.open(out, start, code);
    out.setUint32(at, wire.identifier(this.#inView, association));
    at += 4;
    if (code !== wire.OPTION_IA_NA) {
      const prefixes = code === wire.OPTION_IA_PD;
      if (prefixes) for (const end = at + 8; at < end; at += 4) out.setUint32(at, 0);
      const { type } = received;
      const none = prefixes ? wire.NO_PREFIXES : wire.NO_ADDRESSES;
      return wire.close(
        out,
        start,
        wire.emitStatus(out, at, type === SOLICIT || type === REQUEST ? none : wire.NO_BINDING),
      );
    }
    const asker = this.#asker(received, association);
    if (received.type === RELEASE || received.type === DECLINE) {
      if (this.#giveBack(received, asker, addresses)) return start;
      at = this.#emitTimes(at, false);
      return wire.close(out, start, wire.emitStatus(out, at, wire.NO_BINDING));
    }
    return wire.close(out, start, this.#grant(received, asker, addresses, at));
  }

  /** 18.3.1, 18.3.2, 18.3.4, 18.3.5: everything after the association's identifier. */
  #grant({ type, mac, nowMs, end }: Received, asker: Asker, wanted: readonly Address[], start: number): number {
    const out = this.#outView;
    if (type === REQUEST && wanted.some((address) => !this.#bindings.onLink(address)))
      return wire.emitStatus(out, this.#emitTimes(start, false), wire.NOT_ON_LINK);
    const before = this.#bindings.of(asker.client);
    const address = this.#keeps(type, before, asker, wanted, nowMs) ?? this.#bindings.choose(asker, wanted, nowMs);
    const commits =
      type !== SOLICIT || wire.findOption(this.#inView, wire.HEADER_OCTETS, end, wire.OPTION_RAPID_COMMIT) >= 0;
    // A bound client that asks anew (it rebooted) keeps what it has while it decides.
    const kept = !commits && before?.state === 'bound' && before.untilMs > nowMs + OFFER_MS;
    const held = address && (kept ? before : this.#hold(asker, address, commits ? 'bound' : 'offered', nowMs));
    if (!held) {
      this.drops.exhausted++;
      return wire.emitStatus(out, this.#emitTimes(start, false), wire.NO_ADDRESSES);
    }
    if (commits) {
      if (before && formatAddress(before.address) !== formatAddress(held.address))
        this.#options.unbound?.(before.address);
      this.#options.bound?.(held.address, asker.ingress, macToBytes(mac));
    }
    const seconds = Math.floor(this.#leaseMs / 1000);
    let at = wire.emitAddress(out, this.#emitTimes(start, true), held.address, seconds, seconds);
    // 18.3.4: what it may have no longer, it is told by lifetimes of 0.
    if (type === RENEW || type === REBIND)
      for (const other of wanted)
        if (formatAddress(other) !== formatAddress(held.address)) at = wire.emitAddress(out, at, other, 0, 0);
    return at;
  }

  /** Who renews keeps its address, whatever it would be given today. */
  #keeps(
    type: number,
    before: Binding | undefined,
    asker: Asker,
    wanted: readonly Address[],
    nowMs: number,
  ): Address | undefined {
    if (type !== RENEW && type !== REBIND) return undefined;
    const known = before ? [before.address] : wanted;
    return known.find((address) => this.#bindings.available(address, asker, nowMs));
  }

  #hold(asker: Asker, address: Address, state: 'offered' | 'bound', nowMs: number): Binding | undefined {
    return this.#bindings.hold(asker, address, state, nowMs + (state === 'bound' ? this.#leaseMs : OFFER_MS), nowMs);
  }

  /** 18.3.7, 18.3.8. Only by the client at the switch port that has the binding: others could give it away. */
  #giveBack({ type, ingress, nowMs }: Received, { client }: Asker, addresses: readonly Address[]): boolean {
    const binding = this.#bindings.of(client);
    if (!binding || binding.ingress !== ingress || binding.state === 'free') return false;
    if (!addresses.some((address) => formatAddress(address) === formatAddress(binding.address))) return false;
    if (type === DECLINE) this.#bindings.decline(binding, nowMs);
    else this.#bindings.release(binding, nowMs);
    this.#options.unbound?.(binding.address);
    return true;
  }

  #asker({ client, ingress, mac }: Received, association: number): Asker {
    return {
      client: `${client}/${wire.identifier(this.#inView, association)}`,
      ingress,
      hostNumber: this.#options.hostNumber?.(mac, ingress),
    };
  }

  /** Where the message's associations are, `ASSOCIATIONS` at most. */
  #associations({ end }: Received): number[] {
    const view = this.#inView;
    const found: number[] = [];
    for (let at = wire.HEADER_OCTETS; at < end && found.length < ASSOCIATIONS; at = wire.nextOption(view, at))
      if (isAssociation(wire.optionCode(view, at))) found.push(at);
    return found;
  }

  /** The addresses in an association; undefined: it is malformed. */
  #addresses(association: number): Address[] | undefined {
    const view = this.#inView;
    const value = association + wire.OPTION_HEADER_OCTETS;
    const end = wire.nextOption(view, association);
    const first =
      value + (wire.optionCode(view, association) === wire.OPTION_IA_TA ? wire.IA_TA_OCTETS : wire.IA_OCTETS);
    if (first > end || !wire.fills(view, first, end)) return undefined;
    const found: Address[] = [];
    for (let at = first; at < end && found.length < ADDRESSES; at = wire.nextOption(view, at)) {
      if (wire.optionCode(view, at) !== wire.OPTION_IA_ADDRESS) continue;
      if (wire.optionOctets(view, at) < wire.IA_ADDRESS_OCTETS) return undefined;
      found.push(this.#value(at).slice(0, 16));
    }
    return found;
  }

  /** In hexadecimal; undefined: not there; 'bad': not one. */
  #duidOf(end: number, code: number): string | undefined {
    const at = wire.findOption(this.#inView, wire.HEADER_OCTETS, end, code);
    if (at < 0) return undefined;
    const duid = this.#value(at);
    return duid.length < 3 || duid.length > wire.LARGEST_DUID ? 'bad' : hexOf(duid);
  }

  #value(at: number): Uint8Array {
    return this.#in.subarray(at + wire.OPTION_HEADER_OCTETS, wire.nextOption(this.#inView, at));
  }

  /** T1 and T2. 21.4. */
  #emitTimes(at: number, given: boolean): number {
    const seconds = given ? Math.floor(this.#leaseMs / 1000) : 0;
    this.#outView.setUint32(at, Math.floor(seconds * 0.5));
    this.#outView.setUint32(at + 4, Math.floor(seconds * 0.8));
    return at + 8;
  }

  /** Name servers and search list: what the client asks for (21.7), or all where it does not say. */
  #emitParameters({ end }: Received, start: number): number {
    const { dns, search } = this.#options;
    let at = start;
    if (dns.length > 0 && this.#isRequested(end, wire.OPTION_DNS_SERVERS))
      at = wire.emitOption(this.#outView, at, wire.OPTION_DNS_SERVERS, Uint8Array.from(dns.flatMap((one) => [...one])));
    if (!search || !this.#isRequested(end, wire.OPTION_DOMAIN_LIST)) return at;
    const names = encodeSearch(search(), LARGEST_MESSAGE - at - wire.OPTION_HEADER_OCTETS);
    return names.length === 0 ? at : wire.emitOption(this.#outView, at, wire.OPTION_DOMAIN_LIST, names);
  }

  #isRequested(end: number, code: number): boolean {
    const at = wire.findOption(this.#inView, wire.HEADER_OCTETS, end, wire.OPTION_REQUESTED);
    if (at < 0) return true;
    const value = this.#value(at);
    for (let i = 0; i + 1 < value.length; i += 2) if (((value[i]! << 8) | value[i + 1]!) === code) return true;
    return false;
  }

  #send({ guestAddress, ingress }: UdpDatagram, mac: number, octets: number): void {
    const endpoints = {
      guestAddress: Uint8Array.from(guestAddress),
      guestPort: wire.CLIENT_PORT,
      peerAddress: this.#options.address,
      peerPort: wire.SERVER_PORT,
    };
    const sent = this.#netstack.sendUdp(endpoints, this.#out.subarray(0, octets), {
      macAddress: macToBytes(mac),
      ingress,
    });
    if (!sent) this.drops['not-sent']++;
  }
}
