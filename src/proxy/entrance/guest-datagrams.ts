/** A port of the gateway for one client's datagrams to guests: they answer to it, and are heard if they were asked. */

import type { Address, NetstackPort, Random } from '../../stack/port.ts';
import { type EndpointKey, endpointKey } from '../endpoint-key.ts';
import { gather } from '../fragment-list.ts';
import { ofFamily } from '../subnet6.ts';

/** RFC 6335 6. */
const FIRST_PORT = 49152;
const PORTS = 65536 - FIRST_PORT;
const TRIES = 64;
/** Whom a client has sent to lately, at most. */
const PEERS = 256;

export interface GuestDatagrams {
  /** False: dropped. */
  send(address: Address, port: number, payload: Uint8Array): boolean;
  close(): void;
}

export interface GuestDatagramParts {
  readonly netstack: Pick<NetstackPort, 'listenUdp' | 'unlistenUdp' | 'sendUdp'>;
  /** The gateway's addresses, by IP version. */
  readonly gateways: readonly Address[];
  readonly random: Random;
}

/** Undefined: no port is free. `address` is valid during the call only. */
export function openGuestDatagrams(
  { netstack, gateways, random }: GuestDatagramParts,
  received: (address: Address, port: number, payload: Uint8Array) => void,
): GuestDatagrams | undefined {
  /** The one that was sent to longest ago first. */
  const peers = new Set<EndpointKey>();
  const chosen = new Uint16Array(1);
  for (let tries = 0; tries < TRIES; tries++) {
    random.fill(new Uint8Array(chosen.buffer));
    const peerPort = FIRST_PORT + (chosen[0]! % PORTS);
    const close = (): void => {
      for (const gateway of listening) netstack.unlistenUdp(gateway, peerPort);
    };
    const listening: Address[] = [];
    try {
      for (const gateway of gateways) {
        netstack.listenUdp(gateway, peerPort, ({ guestAddress, guestPort, payload }) => {
          if (!peers.has(endpointKey(guestAddress, guestPort))) return;
          const bytes = new Uint8Array(payload.octets);
          gather(payload, bytes);
          received(guestAddress, guestPort, bytes);
        });
        listening.push(gateway);
      }
    } catch {
      close();
      continue; // another's
    }
    return {
      send(guestAddress, guestPort, payload) {
        const peerAddress = ofFamily(gateways, guestAddress);
        if (!peerAddress) return false;
        const key = endpointKey(guestAddress, guestPort);
        peers.delete(key);
        if (peers.size === PEERS) peers.delete(peers.values().next().value!);
        peers.add(key);
        return netstack.sendUdp({ guestAddress, guestPort, peerAddress, peerPort }, payload);
      },
      close,
    };
  }
  return undefined;
}
