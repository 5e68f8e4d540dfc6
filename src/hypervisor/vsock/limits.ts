/** What one guest may hold of the host through its streams. */

export interface StreamLimits {
  /** Most streams at once, those that linger after their end included. */
  readonly streams: number;
  /** Most octets from the guest held for one stream whose host end does not read. */
  readonly streamOctets: number;
  /** Most octets held for all streams. */
  readonly totalOctets: number;
  /** How long a guest may take to accept a stream, and a client of `connect` to say what it wants. */
  readonly connectTimeoutMs: number;
  /** How long a stream whose host end is gone waits for the guest's last word (HyperKit's figure). */
  readonly lingerMs: number;
}

export const defaultStreamLimits: StreamLimits = Object.freeze({
  streams: 1024,
  streamOctets: 256 * 1024,
  totalOctets: 64 * 1024 * 1024,
  connectTimeoutMs: 10_000,
  lingerMs: 30_000,
});

/** Counters of a lane; `open` is a gauge. */
export interface StreamStats {
  /** Streams open now. */
  open: number;
  fromHost: number;
  fromGuest: number;
  /** Streams refused: nobody listening, too many, no guest. */
  refused: number;
  /** Streams ended by a reset, whichever side sent it. */
  resets: number;
  /** Streams the guest did not accept in time. */
  timeouts: number;
  /** What the guest sent against the protocol, and was dropped. */
  invalid: number;
  octetsToGuest: number;
  octetsFromGuest: number;
}

export function emptyStreamStats(): StreamStats {
  return {
    open: 0,
    fromHost: 0,
    fromGuest: 0,
    refused: 0,
    resets: 0,
    timeouts: 0,
    invalid: 0,
    octetsToGuest: 0,
    octetsFromGuest: 0,
  };
}
