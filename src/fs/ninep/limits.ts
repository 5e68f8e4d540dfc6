/** How much one connection may hold. */

export interface NinepLimits {
  /** The largest message that is agreed to. */
  readonly msizeOctets: number;
  readonly fids: number;
  /** Requests that are not answered yet, blocked reads among them. */
  readonly requests: number;
  /** Data of writes under way, beyond which no more is read from the connection. */
  readonly writeOctets: number;
  /** Directory entries held by fids that read directories. */
  readonly entries: number;
  /** Requests being served and replies that the client has not taken, beyond which no more is read from the connection. */
  readonly replies: number;
}

export const defaultLimits: NinepLimits = {
  msizeOctets: 131_072 + 24,
  fids: 65_536,
  requests: 16_384,
  writeOctets: 8 * 2 ** 20,
  entries: 1_000_000,
  replies: 256,
};

/** Below this no reply of ours is sure to fit. */
export const MIN_MSIZE_OCTETS = 512;
