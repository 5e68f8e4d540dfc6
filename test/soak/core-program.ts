/**
 * The network core as a process of its own, for the soak: attached to the unix socket it is given, and measured from
 * inside whenever its parent asks.
 */

import { readdirSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { QemuStreamLink } from '../../src/hypervisor/link/qemu-stream.ts';
import { Network } from '../../src/network.ts';

export interface Measure {
  readonly rssOctets: number;
  /** After a collection. */
  readonly heapOctets: number;
  readonly descriptors: number;
  /** Timers that Node would wait for; the stack's own are one of them while any is armed. */
  readonly timers: number;
  readonly flows: number;
  readonly cpuSeconds: number;
  readonly drops: Readonly<Record<string, number>>;
}

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const network = new Network({ subnet: '192.168.65.0/24', mtu: 1500 });
network.attach(await QemuStreamLink.listen(process.argv[2]!, { mtu: 1500, memory: network.memory }));

process.on('message', () => {
  collect();
  const { rss, heapUsed } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  const measure: Measure = {
    rssOctets: rss,
    heapOctets: heapUsed,
    descriptors: readdirSync('/proc/self/fd').length,
    timers: process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length,
    flows: network.flows().length,
    cpuSeconds: (user + system) / 1e6,
    drops: network.drops(),
  };
  process.send!(measure);
});
process.on('disconnect', () => process.exit(0));
process.send!('ready');
