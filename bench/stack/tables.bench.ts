/** The flow table and the timer wheel against what the language and the runtime have. */

import { FlowTable, KEY_WORDS } from '../../src/stack/flow-table.ts';
import { KeyedHash } from '../../src/stack/keyed-hash.ts';
import { Timer, TimerWheel } from '../../src/stack/timers.ts';
import { suite } from '../suite.ts';
import { report } from '../table.ts';

const FLOWS = 1024;
const hash = new KeyedHash({ fill: (into) => void crypto.getRandomValues(into as Uint8Array<ArrayBuffer>) });
const keys = Array.from({ length: FLOWS }, (_, i) =>
  Int32Array.of(0, 0, 0xffff, 0x0a000001, 0, 0, 0xffff, i * 77, i, 1),
);
const table = new FlowTable<number>(hash);
const map = new Map<string, number>();
for (const [i, key] of keys.entries()) {
  table.set(key, i);
  map.set(key.join(), i);
}

const timers = Array.from({ length: FLOWS }, () => new Timer({ expired: () => undefined }));
const wheel = new TimerWheel(0);
let at = 0;
let sum = 0;

report('Tables', [
  ...(await suite('flow lookup, 1024 flows', {
    'a Map of strings': () => {
      sum += map.get(keys[at++ & (FLOWS - 1)]!.join())!;
    },
    slipway: () => {
      sum += table.find(keys[at++ & (FLOWS - 1)]!)!;
    },
    'slipway, the hash alone': () => {
      sum ^= hash.hash(keys[at++ & (FLOWS - 1)]!, KEY_WORDS);
    },
  })),
  ...(await suite('arm and cancel a timer', {
    setTimeout: () => clearTimeout(setTimeout(() => undefined, 1000)),
    slipway: () => {
      const timer = timers[at++ & (FLOWS - 1)]!;
      wheel.arm(timer, 1000);
      wheel.cancel(timer);
    },
  })),
]);
if (Number.isNaN(sum)) throw new Error('unreachable');
