import fs from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { VsockDevice } from '../../../src/hypervisor/vsock/device.ts';
import { channelConformance, type Lane } from '../channel-conformance.ts';
import { SyntheticGuest } from './synthetic-guest.ts';

async function vsockLane(): Promise<Lane> {
  const directory = fs.mkdtempSync(join(os.tmpdir(), 'vsock-'));
  const socketPath = join(directory, 'vhost');
  const forwardPath = join(directory, 'docker.sock');
  const umask = process.umask(0);
  const device = new VsockDevice({ socketPath, directory, forwards: [{ path: forwardPath, port: 2376 }] });
  device.start();
  process.umask(umask);
  const guest = new SyntheticGuest(socketPath);
  await guest.start();
  return {
    directory,
    forwardPath,
    forwardPort: 2376,
    heldOctets: 2 << 20,
    connect: (port) => device.connect(port),
    guestListen: async (port, accept) => guest.listen(port, accept),
    guestUnlisten: async (port) => guest.unlisten(port),
    guestConnect: (port) => guest.connect(port),
    guestAbort: (stream) => stream.destroy(),
    stats: () => device.stats()!,
    close: async () => {
      guest.close();
      device.close();
      fs.rmSync(directory, { recursive: true });
    },
  };
}

t.test('the vsock device is a lane', async (t) => channelConformance(t, vsockLane));
