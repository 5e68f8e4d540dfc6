/** What DHCP and DHCPv6 have in common as to whom they give an address, and for how long. */

import type { Address, NetstackPort } from '../stack/port.ts';

export const DEFAULT_LEASE_MS = 24 * 3600_000;
/** How long an offered address waits for its request. */
export const OFFER_MS = 60_000;
export const LEASES_PER_PORT = 64;

export interface LeaseOptions {
  /** Read for each answer: the host's search list may change. */
  readonly search?: () => readonly string[];
  readonly leaseMs?: number;
  /** Most leases that one switch port may have. */
  readonly perPort?: number;
  /** Told of every lease that is given or renewed: the address is behind that switch port, at that MAC address. */
  readonly bound?: (address: Address, ingress: number, macAddress: Uint8Array) => void;
  /** The address is nobody's again. */
  readonly unbound?: (address: Address) => void;
}

/** A lease as it is shown. */
export interface LeaseRecord {
  readonly address: string;
  readonly ingress: number;
  readonly bound: boolean;
  readonly untilMs: number;
}

export type LeaseNetstack = Pick<NetstackPort, 'listenUdp' | 'unlistenUdp' | 'sendUdp'>;
