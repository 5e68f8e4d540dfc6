/** A stream channel to a guest that a test plays: port to what answers there; other ports refuse. */

import { Duplex } from 'node:stream';
import type { GuestLane } from '../../../src/hypervisor/adapter/guest-lane.ts';

export type GuestService = (line: string, reply: (text: string) => void) => void;

export class FakeLane implements GuestLane {
  readonly channel: 'vsock' | 'serial';
  readonly arguments: readonly string[] = [];
  readonly services = new Map<number, GuestService>();
  closed = false;
  held = false;

  constructor(channel: 'vsock' | 'serial') {
    this.channel = channel;
  }

  connect(port: number): Promise<Duplex> {
    const service = this.services.get(port);
    if (!service) return Promise.reject(Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }));
    const stream = new Duplex({
      read: () => undefined,
      write: (chunk, _encoding, done) => {
        service(String(chunk), (text) => stream.push(text));
        done();
      },
    });
    return Promise.resolve(stream);
  }

  hold(held: boolean): void {
    this.held = held;
  }

  close(): void {
    this.closed = true;
  }
}
