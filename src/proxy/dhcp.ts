/**
 * The DHCP server on the gateway. RFC 2131, options RFC 2132; search list RFC 3397, long options RFC 3396.
 *
 * Events: datagrams to port 67 of the gateway (renewals) or broadcast. Answers go to the switch port that asked, to the
 * client's MAC address or broadcast as it wishes. No timers: a lease's end is looked at when it matters.
 *
 * It is the only server of its network, so it is authoritative: a client that reboots or renews with an address this
 * process has not heard of (it was replaced; the VM lives on) is acknowledged when the address is free, and NAKed when
 * it is not or lies elsewhere, where RFC 2131 4.3.2 would have a server among others stay silent.
 */

import type { Clock, UdpDatagram } from '../stack/port.ts';
import { type Address, formatAddress, ipv4Word, ofIpv4, type Subnet } from '../stack/wire/address.ts';
import * as wire from '../stack/wire/dhcp.ts';
import { BROADCAST, formatMac, mac, macToBytes, setMac } from '../stack/wire/ethernet.ts';
import { SOUND } from '../stack/wire/fault.ts';
import { gather } from './fragment-list.ts';
import {
  DEFAULT_LEASE_MS,
  LEASES_PER_PORT,
  type LeaseNetstack,
  type LeaseOptions,
  type LeaseRecord,
  OFFER_MS,
} from './lease-options.ts';
import { Leases } from './leases.ts';
import { encodeSearch } from './search-list.ts';

export interface DhcpOptions extends LeaseOptions {
  readonly subnet: Subnet;
  readonly gateway: Address;
  readonly dns: readonly Address[];
  /** Time servers, by NTP. */
  readonly ntp?: readonly Address[];
  /** Not to be given away: the host alias and the like. The gateway never is. */
  readonly reserved: readonly Address[];
  /** The first address given away; its host number is 3 by default. */
  readonly first?: Address;
  readonly mtu: number;
  readonly domainName?: string;
  /** Addresses kept for certain MAC addresses. */
  readonly fixed?: ReadonlyMap<number, Address>;
}

export interface DhcpLease extends LeaseRecord {
  readonly mac: string;
}

const LARGEST_MESSAGE = 1472;
/** What every client takes: 576 octets with the headers of IP and UDP. RFC 2131 2. */
const SMALLEST_LIMIT = 548;

const broadcastAddress = ofIpv4(-1);

export class DhcpServer {
  readonly #netstack: LeaseNetstack;
  readonly #options: DhcpOptions;
  readonly #clock: Clock;
  readonly #leases: Leases;
  readonly #server: number;
  readonly #mask: number;
  readonly #leaseMs: number;
  readonly #in = new Uint8Array(LARGEST_MESSAGE);
  readonly #inView = new DataView(this.#in.buffer);
  readonly #out = new Uint8Array(LARGEST_MESSAGE);
  readonly #outView = new DataView(this.#out.buffer);
  /** Requests that were not answered, by reason. */
  readonly drops = { malformed: 0, relayed: 0, 'other-server': 0, exhausted: 0, 'not-sent': 0 };

  constructor(netstack: LeaseNetstack, options: DhcpOptions, clock: Clock) {
    this.#netstack = netstack;
    this.#options = options;
    this.#clock = clock;
    this.#server = ipv4Word(options.gateway);
    const bits = options.subnet.prefix - 96;
    this.#mask = bits === 0 ? 0 : -1 << (32 - bits);
    const network = ipv4Word(options.subnet.address) & this.#mask;
    this.#leaseMs = options.leaseMs ?? DEFAULT_LEASE_MS;
    this.#leases = new Leases({
      first: options.first ? ipv4Word(options.first) : network + 3,
      last: (network | ~this.#mask) - 1,
      reserved: [this.#server, ...options.dns.map(ipv4Word), ...options.reserved.map(ipv4Word)],
      ...(options.fixed && { fixed: new Map([...options.fixed].map(([mac, address]) => [mac, ipv4Word(address)])) }),
      perPort: options.perPort ?? LEASES_PER_PORT,
    });
    const receive = (datagram: UdpDatagram): void => this.#receive(datagram);
    netstack.listenUdp(broadcastAddress, wire.SERVER_PORT, receive);
    netstack.listenUdp(options.gateway, wire.SERVER_PORT, receive);
  }

  close(): void {
    this.#netstack.unlistenUdp(broadcastAddress, wire.SERVER_PORT);
    this.#netstack.unlistenUdp(this.#options.gateway, wire.SERVER_PORT);
  }

  leases(): readonly DhcpLease[] {
    const nowMs = this.#clock.nowMs();
    return this.#leases.all().map((lease) => ({
      mac: formatMac(lease.mac),
      address: formatAddress(ofIpv4(lease.address)),
      ingress: lease.ingress,
      bound: lease.state === 'bound' && lease.untilMs > nowMs,
      untilMs: lease.untilMs,
    }));
  }

  /** The address of a guest by the name that it gave; of several of one name, the first. */
  addressOf(name: string): Address | undefined {
    const nowMs = this.#clock.nowMs();
    const lower = name.toLowerCase();
    const found = this.#leases
      .all()
      .find((lease) => lease.name === lower && lease.state === 'bound' && lease.untilMs > nowMs);
    return found && ofIpv4(found.address);
  }

  /** The address that a machine behind a switch port has, or is kept for it; undefined: none. */
  leasedTo(mac: number, ingress: number): Address | undefined {
    const lease = this.#leases.ofMac(mac);
    const held = lease && lease.state === 'bound' && lease.ingress === ingress ? ofIpv4(lease.address) : undefined;
    return held ?? this.#options.fixed?.get(mac);
  }

  #receive(datagram: UdpDatagram): void {
    const length = gather(datagram.payload, this.#in);
    const view = this.#inView;
    if (length < 0 || wire.check(view, 0, length) !== SOUND || wire.operation(view, 0) !== wire.BOOT_REQUEST) {
      this.drops.malformed++;
      return;
    }
    // Relay agents have no place on this network.
    if (wire.relayAddress(view, 0) !== 0) {
      this.drops.relayed++;
      return;
    }
    const { ingress } = datagram;
    const type = wire.messageType(view, 0, length);
    if (type === wire.DISCOVER) this.#discover(length, ingress);
    else if (type === wire.REQUEST) this.#request(length, ingress);
    else if (type === wire.DECLINE || type === wire.RELEASE) this.#giveBack(length, ingress, type === wire.DECLINE);
    // RFC 2131 4.3.5: to the client's own address, without a lease.
    else if (type === wire.INFORM) this.#answer(wire.ACK, length, ingress, wire.clientAddress(view, 0), 0);
    else this.drops.malformed++;
  }

  #client(): number {
    return mac(this.#inView, wire.CLIENT_HARDWARE);
  }

  /** RFC 2131 4.3.1. */
  #discover(length: number, ingress: number): void {
    const nowMs = this.#clock.nowMs();
    const client = this.#client();
    const wanted = wire.addressOption(this.#inView, 0, length, wire.OPTION_REQUESTED_ADDRESS);
    const known = this.#leases.ofMac(client);
    const chosen = this.#leases.choose(client, wanted, nowMs);
    // A bound client that asks anew (it rebooted) keeps what it has while it decides.
    const keeps = known?.state === 'bound' && known.address === chosen && known.untilMs > nowMs + OFFER_MS;
    const lease =
      chosen === undefined
        ? undefined
        : this.#leases.hold(
            client,
            chosen,
            ingress,
            keeps ? 'bound' : 'offered',
            keeps ? known.untilMs : nowMs + OFFER_MS,
            nowMs,
          );
    if (!lease) {
      this.drops.exhausted++;
      return;
    }
    this.#answer(wire.OFFER, length, ingress, 0, lease.address);
  }

  /** RFC 2131 4.3.2: selecting (server named), rebooting (address in option 50), renewing and rebinding (in ciaddr). */
  #request(length: number, ingress: number): void {
    const nowMs = this.#clock.nowMs();
    const view = this.#inView;
    const client = this.#client();
    const named = wire.addressOption(view, 0, length, wire.OPTION_SERVER_IDENTIFIER);
    if (named !== undefined && named !== this.#server) {
      const lease = this.#leases.ofMac(client);
      if (lease?.state === 'offered' && lease.ingress === ingress) this.#leases.release(lease, nowMs);
      this.drops['other-server']++;
      return;
    }
    const inUse = wire.clientAddress(view, 0);
    // A client as spare as RootlessKit's names no address: it means the one it was offered.
    const wanted =
      wire.addressOption(view, 0, length, wire.OPTION_REQUESTED_ADDRESS) ??
      (inUse !== 0 ? inUse : this.#leases.ofMac(client)?.address);
    const before = this.#leases.ofMac(client)?.address;
    const lease =
      wanted === undefined
        ? undefined
        : this.#leases.hold(client, wanted, ingress, 'bound', nowMs + this.#leaseMs, nowMs);
    if (!lease) {
      this.#answer(wire.NAK, length, ingress, 0, 0);
      return;
    }
    const name = this.#hostName(length);
    if (name === undefined) delete lease.name;
    else lease.name = name;
    if (before !== undefined && before !== lease.address) this.#options.unbound?.(ofIpv4(before));
    this.#options.bound?.(ofIpv4(lease.address), ingress, macToBytes(client));
    this.#answer(wire.ACK, length, ingress, inUse, lease.address);
  }

  /** RFC 2131 4.3.3, 4.3.4. Only by the client at the switch port that has the lease: others could give it away. */
  #giveBack(length: number, ingress: number, declined: boolean): void {
    const view = this.#inView;
    const lease = this.#leases.ofMac(this.#client());
    const address = declined
      ? wire.addressOption(view, 0, length, wire.OPTION_REQUESTED_ADDRESS)
      : wire.clientAddress(view, 0);
    if (!lease || lease.ingress !== ingress || lease.address !== address) return;
    if (declined) this.#leases.decline(lease, this.#clock.nowMs());
    else this.#leases.release(lease, this.#clock.nowMs());
    this.#options.unbound?.(ofIpv4(lease.address));
  }

  #answer(type: number, length: number, ingress: number, clientAddress: number, yourAddress: number): void {
    const view = this.#inView;
    const out = this.#outView;
    const nak = type === wire.NAK;
    const limit = Math.max(SMALLEST_LIMIT, Math.min(this.#sizeLimit(length), this.#options.mtu - 28, LARGEST_MESSAGE));
    let at = wire.emit(
      out,
      0,
      wire.BOOT_REPLY,
      wire.transaction(view, 0),
      wire.flags(view, 0),
      clientAddress,
      yourAddress,
      nak ? 0 : this.#server,
      0,
    );
    const client = this.#client();
    setMac(out, wire.CLIENT_HARDWARE, client);
    at = wire.emitOption(out, at, wire.OPTION_MESSAGE_TYPE, Uint8Array.of(type));
    at = this.#emitWord(at, wire.OPTION_SERVER_IDENTIFIER, this.#server);
    if (nak) at = this.#emitText(at, wire.OPTION_MESSAGE, 'the address is not to be had on this network');
    else at = this.#emitParameters(at, limit, yourAddress !== 0);
    this.#out[at++] = wire.OPTION_END;
    // Short messages are padded to BOOTP's size.
    while (at < wire.MINIMUM_OCTETS) this.#out[at++] = wire.OPTION_PAD;

    // RFC 2131 4.1: to ciaddr when the client has one; a NAK and what asks for it by broadcast; else to its MAC address.
    const unicast = clientAddress !== 0 ? clientAddress : yourAddress;
    const broadcast = nak || unicast === 0 || (clientAddress === 0 && wire.wantsBroadcast(view, 0));
    const sent = this.#netstack.sendUdp(
      {
        guestAddress: broadcast ? broadcastAddress : ofIpv4(unicast),
        guestPort: wire.CLIENT_PORT,
        peerAddress: this.#options.gateway,
        peerPort: wire.SERVER_PORT,
      },
      this.#out.subarray(0, at),
      { macAddress: macToBytes(broadcast ? BROADCAST : client), ingress },
    );
    if (!sent) this.drops['not-sent']++;
  }

  /** Option 12, RFC 2132 3.14: its first label; undefined: absent, or not the name of a host. */
  #hostName(length: number): string | undefined {
    const found = wire.findOption(this.#inView, 0, length, wire.OPTION_HOST_NAME);
    if (found < 0) return undefined;
    const octets = this.#in.subarray(found + 1, found + 1 + this.#inView.getUint8(found));
    const [label = ''] = String.fromCharCode(...octets)
      .toLowerCase()
      .split('.');
    return /^[a-z0-9][a-z0-9_-]{0,62}$/.test(label) ? label : undefined;
  }

  /** Option 57 counts the headers of IP and UDP too. */
  #sizeLimit(length: number): number {
    const found = wire.findOption(this.#inView, 0, length, wire.OPTION_MAXIMUM_SIZE);
    return found < 0 || this.#inView.getUint8(found) !== 2 ? 0 : this.#inView.getUint16(found + 1) - 28;
  }

  #emitParameters(start: number, limit: number, leased: boolean): number {
    const { gateway, dns, ntp = [], mtu, domainName, search } = this.#options;
    let at = start;
    if (leased) at = this.#emitWord(at, wire.OPTION_LEASE_TIME, Math.floor(this.#leaseMs / 1000));
    // RFC 2132 3.3: the mask goes before the router.
    at = this.#emitWord(at, wire.OPTION_SUBNET_MASK, this.#mask);
    at = this.#emitWord(at, wire.OPTION_ROUTER, ipv4Word(gateway));
    at = this.#emitAddresses(at, wire.OPTION_DNS, dns);
    if (ntp.length > 0) at = this.#emitAddresses(at, wire.OPTION_NTP_SERVERS, ntp);
    at = wire.emitOption(this.#outView, at, wire.OPTION_MTU, Uint8Array.of(mtu >> 8, mtu & 0xff));
    if (domainName) at = this.#emitText(at, wire.OPTION_DOMAIN_NAME, domainName);
    const room = limit - at - 1;
    // Each piece of at most 255 octets has a header of 2 (RFC 3396 5).
    const names = encodeSearch(search?.() ?? [], room - 2 * Math.ceil(Math.max(room, 0) / 257));
    for (let i = 0; i < names.length; i += 255)
      at = wire.emitOption(this.#outView, at, wire.OPTION_DOMAIN_SEARCH, names.subarray(i, i + 255));
    return at;
  }

  #emitWord(at: number, code: number, value: number): number {
    return wire.emitOption(this.#outView, at, code, ofIpv4(value).subarray(12));
  }

  #emitAddresses(at: number, code: number, addresses: readonly Address[]): number {
    return wire.emitOption(this.#outView, at, code, Uint8Array.from(addresses.flatMap((one) => [...one.slice(12)])));
  }

  #emitText(at: number, code: number, text: string): number {
    return wire.emitOption(this.#outView, at, code, new TextEncoder().encode(text).subarray(0, 255));
  }
}
