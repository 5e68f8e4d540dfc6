/** What namespace-program.ts is asked to do: its first argument, as JSON. The command, if any, follows it. */

import type { TapAddresses } from './tap-device.ts';

export interface NamespaceRequest {
  readonly name: string;
  readonly offload: boolean;
  /** Undefined: the device is left as it was made. */
  readonly addresses?: TapAddresses;
  /** Text to cover /etc/resolv.conf with, in a mount namespace of its own. */
  readonly resolvConf?: string;
}

/** The program's descriptors: the socket that the TAP leaves by, and the stderr that the command is to have. */
export const CONTROL_FD = 3;
export const STDERR_FD = 4;
