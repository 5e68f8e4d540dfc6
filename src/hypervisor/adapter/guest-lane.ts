/** The stream channel as the QEMU adapter needs it: what QEMU must be given for it, then streams to the guest. */

import type { GuestChannelPort, MachineSpec } from '../port.ts';
import type { ChannelArguments } from './qemu-arguments.ts';

export interface GuestLane extends GuestChannelPort, ChannelArguments {
  /** The machine is about to be paused, or goes on: streams outlive that. */
  hold(held: boolean): void;
}

/** Makes the channel, listening, before QEMU starts: one for each start of QEMU. */
export type OpenLane = (channel: 'vsock' | 'serial', spec: MachineSpec) => Promise<GuestLane>;
