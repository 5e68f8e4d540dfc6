/** What TCP may take: numbers of connections, memory, windows; and what it offers. */

export interface TcpLimits {
  /** Connections in any state. */
  readonly flows: number;
  /** SYNs held while the host is dialled. */
  readonly held: number;
  /** Connections in TIME-WAIT; the oldest goes first. */
  readonly timeWait: number;
  /** Memory of all send queues and reassembly queues together. */
  readonly poolOctets: number;
  /** A send queue's limit: at first, and at most. */
  readonly sendQueueOctets: number;
  readonly sendQueueMostOctets: number;
  /** The widest receive window. */
  readonly receiveWindowOctets: number;
  /** Whether timestamps (RFC 7323) and selective acknowledgements (RFC 2018) are offered, and accepted. */
  readonly timestamps: boolean;
  readonly sack: boolean;
}

const MEBI = 1 << 20;

/** What holds where a network is not given others. */
export const defaultLimits: TcpLimits = {
  flows: 65_536,
  held: 16_384,
  timeWait: 8192,
  poolOctets: 64 * MEBI,
  sendQueueOctets: MEBI >> 2,
  sendQueueMostOctets: 8 * MEBI,
  receiveWindowOctets: 4 * MEBI,
  timestamps: true,
  sack: true,
};
