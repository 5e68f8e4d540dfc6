/**
 * The race of network cores, end to end: a guest namespace's kernel on one side, the host's sockets on the other, and
 * between them Slipway or a rival that is installed (pasta, slirp4netns; on PATH or in $RIVALS/bin). Medians of
 * E2E_REPETITIONS (3) runs of E2E_SECONDS (2), interleaved so that a noisy moment meets everybody; rows are ours,
 * with their ratio to each rival's.
 */

import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { type Row, report } from '../table.ts';
import { type Core, RaceTrack, type Result } from './race-track.ts';

const repetitions = Number(process.env.E2E_REPETITIONS ?? 3);
const seconds = Number(process.env.E2E_SECONDS ?? 2);
const mtus = [1500, 65520];

const folders = [join(process.env.RIVALS ?? '/nonexistent', 'bin'), ...(process.env.PATH ?? '').split(':')];

function find(program: string): string | undefined {
  return folders
    .map((folder) => join(folder, program))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

function rival(program: string, ...words: string[]): Core[] {
  const path = find(program);
  return path === undefined ? [] : [{ name: program, command: [path, ...words] }];
}

const slipway = join(import.meta.dirname, '../../bin/slipway');
const cores: Core[] = [
  {
    name: 'slipway',
    command: [slipway, 'net', 'serve', '--tap', 'tap0', '--netns', '{netns}', '--configure', '--mtu', '{mtu}'],
  },
  ...rival('pasta', '-f', '-4', '--config-net', '-I', 'tap0', '-m', '{mtu}', '--runas', '0', '--netns', '{netns}'),
  ...rival('slirp4netns', '--configure', '--mtu={mtu}', '--netns-type=path', '{netns}', 'tap0'),
];

interface Event {
  readonly name: string;
  readonly unit: string;
  run(track: RaceTrack): Result;
}

const transfer = (direction: 'up' | 'down', streams: number): Event => ({
  name: `TCP ${direction}, ${streams} stream${streams > 1 ? 's' : ''}`,
  unit: 'Gbit/s',
  run: (track) => track.transfer(direction, streams, seconds),
});

const events: Event[] = [
  transfer('up', 1),
  transfer('down', 1),
  transfer('up', 4),
  transfer('down', 4),
  { name: 'round trip', unit: 'us', run: (track) => track.roundTrip() },
];

const median = (values: number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/** Core, then event, then one value per repetition. */
const values = new Map<string, number[]>();
const note = (...words: string[]) => {
  const key = words.join('|');
  let list = values.get(key);
  if (!list) values.set(key, (list = []));
  return list;
};

for (let repetition = 0; repetition < repetitions; repetition++)
  for (const mtu of mtus)
    for (const core of cores) {
      const track = new RaceTrack();
      try {
        track.start(core, mtu);
        note(core.name, String(mtu), 'memory, idle').push(track.memory());
        for (const event of events) {
          const { value, cpuPerGb } = event.run(track);
          note(core.name, String(mtu), event.name).push(value);
          if (cpuPerGb !== undefined) note(core.name, String(mtu), `CPU, ${event.name}`).push(cpuPerGb);
        }
        track.stop();
      } finally {
        track.close();
      }
    }

const rows: Row[] = [];
for (const mtu of mtus)
  for (const [name, unit] of [
    ...events.map((event) => [event.name, event.unit]),
    ...events.slice(0, 2).map((event) => [`CPU, ${event.name}`, 's/GB']),
    ['memory, idle', 'MB'],
  ] as [string, string][]) {
    const of = (core: Core): number => median(note(core.name, String(mtu), name));
    const [ours, ...rivals] = cores as [Core, ...Core[]];
    const row = { name: `MTU ${mtu}: ${name}`, value: of(ours), unit };
    if (rivals.length === 0) rows.push(row);
    for (const other of rivals) rows.push({ ...row, ratio: of(ours) / of(other), baseline: other.name });
  }
report('End to end', rows);
