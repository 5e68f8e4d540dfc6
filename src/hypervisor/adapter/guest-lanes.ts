/** The stream channels there are: vsock where guest memory can be shared, the serial multiplexer everywhere. */

import { join } from 'node:path';
import { serialPortArguments, vsockDeviceArguments } from '../vhost-user/qemu-arguments.ts';
import { VsockDevice } from '../vsock/device.ts';
import { SerialMux } from '../vsock/serial-mux.ts';
import type { GuestLane, OpenLane } from './guest-lane.ts';

/** The guest's port of the Docker API (vm/README.md). */
const DOCKER_PORT = 2376;

export interface LanesOptions {
  /** For the socket between QEMU and the channel. */
  readonly directory: string;
  /** The Docker API on the host. */
  readonly dockerSocket: string;
  readonly log: (line: string) => void;
}

export function openLanes({ directory, dockerSocket, log }: LanesOptions): OpenLane {
  return async (channel, spec): Promise<GuestLane> => {
    const forwards = [{ path: dockerSocket, port: DOCKER_PORT }];
    const socketPath = join(directory, 'guest.sock');
    const options = { socketPath, directory: spec.socketDirectory, forwards, log };
    const device = channel === 'vsock' ? new VsockDevice(options) : new SerialMux(options);
    await device.start();
    return {
      channel,
      arguments: channel === 'vsock' ? vsockDeviceArguments(socketPath) : serialPortArguments(socketPath),
      connect: (port) => device.connect(port),
      // A serial port's stream stands still by itself.
      hold: (held) => (device instanceof VsockDevice ? device.hold(held) : undefined),
      close: () => device.close(),
    };
  };
}
