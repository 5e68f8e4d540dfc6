/** What a device is to the vhost-user back end: its features, its configuration, and what it does with its queues. */

import type { Virtqueue } from './virtqueue.ts';

export interface VhostUserDevice {
  /** For messages, such as `vsock`. */
  readonly name: string;
  readonly queueCount: number;
  /** The device type's own feature bits; the ring's and the protocol's are added by the back end. */
  readonly features: bigint;
  /** The configuration space. */
  readonly config: Uint8Array;
  /** The driver accepted these features. */
  negotiated(features: bigint): void;
  /** A queue runs: its chains may be popped, within calls of the back end or the device's own turns, until stopped. */
  queueStarted(index: number, queue: Virtqueue): void;
  /** The guest may have put chains into a queue. */
  kicked(index: number): void;
  /** A queue must not be touched any more; every popped chain has been pushed or given back. */
  queueStopped(index: number): void;
  /** The front end has gone, after its queues were stopped. */
  gone?(): void;
}
