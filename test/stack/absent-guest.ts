/** A guest, of either family, that the stack looks for: it says what it is told to say and nothing else. */

import { formatAddress, ofIpv4 } from '../../src/stack/wire/address.ts';
import * as arp from '../../src/stack/wire/arp.ts';
import * as ethernet from '../../src/stack/wire/ethernet.ts';
import type { SentFrame } from './fake-link.ts';
import { arpFrame, pattern, udpFrame } from './frames.ts';
import { advertisement, GATEWAY, GUEST, PEER, udp6Frame } from './ipv6-frames.ts';
import { Owner } from './tcp/tcp-script.ts';
import { address, GATEWAY_MAC, GUEST_MAC, World, type WorldOptions } from './world.ts';

const families = {
  IPv4: { guest: '192.168.65.3', gateway: '192.168.65.1', peer: '10.0.0.1', container: '172.17.0.2' },
  IPv6: { guest: GUEST, gateway: GATEWAY, peer: PEER, container: 'fd99::2' },
};
export type Family = keyof typeof families;

export class AbsentGuest {
  readonly world: World;
  readonly family: Family;
  readonly names: (typeof families)[Family];

  constructor(family: Family, options: WorldOptions = {}) {
    this.family = family;
    this.names = families[family];
    this.world = new World({ isSilent: true, ...(family === 'IPv6' && { ipv6: { isRouter: false } }), ...options });
  }

  /** The stack sends a datagram of so many octets to it, or to what is behind it. */
  datagram(octets = 1, guest = this.names.guest): boolean {
    const to = { guestAddress: address(guest), guestPort: 1, peerAddress: address(this.names.peer), peerPort: 2 };
    return this.world.netstack.sendUdp(to, pattern(octets));
  }

  /** The stack opens a connection to it. */
  connect(guest = this.names.guest): Owner {
    const owner = new Owner();
    const to = { guestAddress: address(guest), guestPort: 80, peerAddress: address(this.names.gateway), peerPort: 0 };
    this.world.netstack.connect(to, owner);
    return owner;
  }

  /** It answers to what it was asked, by ARP or an advertisement that was solicited. */
  answers(mac = GUEST_MAC, flags = 0x6000_0000): void {
    const { guest, gateway } = this.names;
    const frame =
      this.family === 'IPv4'
        ? arpFrame(arp.REPLY, mac, guest, gateway, { destinationMac: GATEWAY_MAC })
        : advertisement(guest, { sourceMac: mac, flags, from: `fe80::${mac - 0x02_00_00_00_00_00}` });
    this.world.link.input([frame]);
  }

  /** It sends a datagram of its own. */
  speaks(mac = GUEST_MAC): void {
    const how = { sourceMac: mac, to: this.names.peer };
    const make = this.family === 'IPv4' ? udpFrame : udp6Frame;
    this.world.link.input([make(5, 6, pattern(1), how)]);
  }

  /** What the stack has sent by now: `who has ADDRESS`, by unicast `to MAC: who has ADDRESS`, else `to MAC: OCTETS`. */
  sees(): string[] {
    this.world.poll();
    return this.world.link.take().map(describe);
  }

  /** The same, second by second, that nothing was sent in being left out. */
  seesWithin(seconds: number): [second: number, frame: string][] {
    const found: [number, string][] = [];
    for (let second = 1; second <= seconds; second++) {
      this.world.advance(1000);
      for (const frame of this.sees()) found.push([second, frame]);
    }
    return found;
  }
}

function describe({ bytes }: SentFrame): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const to = ethernet.isGroup(view, 0) ? '' : `to ${ethernet.destination(view, 0) - 0x02_00_00_00_00_00}: `;
  if (ethernet.type(view, 0) === ethernet.TYPE_ARP)
    return `${to}who has ${formatAddress(ofIpv4(arp.targetAddress(view, 14)))}`;
  const isIpv6 = ethernet.type(view, 0) === ethernet.TYPE_IPV6;
  if (isIpv6 && bytes[20] === 58) return `${to}who has ${formatAddress(bytes.subarray(62, 78))}`;
  const [protocol, header] = isIpv6 ? [bytes[20], 40] : [bytes[23], 20];
  return `${to}${protocol === 6 ? 'segment' : bytes.length - 14 - header - 8}`;
}
