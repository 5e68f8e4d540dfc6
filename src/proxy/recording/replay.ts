/**
 * Runs a network over a recording. Events are told as fast as they can be read; only where a promise was settled or a
 * request was made, the network's own promises get a turn of the event loop, as they had when it was recorded.
 */

import { type Difference, Player } from './player.ts';
import { RecordingError } from './record.ts';
import { RecordDecoder, type Source } from './record-decoder.ts';
import { decodeAlone } from './record-line.ts';

export interface ReplayResult {
  readonly records: number;
  readonly durationMs: number;
  readonly events: number;
  readonly calls: number;
  readonly framesIn: number;
  readonly framesOut: number;
  readonly octetsIn: number;
  readonly octetsOut: number;
  /** The recording ends in order; otherwise it was not ended, as when its process was killed. */
  readonly ended: boolean;
  readonly difference: Difference | undefined;
}

/** What a recording is played to. */
export interface Replayed {
  /** What was asked of it then, asked again. */
  request(name: string, argument: unknown): void;
}

/** `make` makes what was recorded, out of what it was made of. Throws a `RecordingError` for a recording that is none, or is damaged. */
export async function replay(
  source: Source,
  make: (player: Player, of: Readonly<Record<string, unknown>>) => Replayed,
): Promise<ReplayResult> {
  const decoder = new RecordDecoder(source);
  const player = new Player(decoder, decodeAlone);
  const first = decoder.take();
  const of = first?.name === 'made' ? (first.values.of as Readonly<Record<string, unknown>> | undefined) : undefined;
  if (typeof of?.startMs !== 'number') throw new RecordingError('it does not begin as a recording does');
  player.begin(of.startMs);
  let replayed: Replayed | undefined;
  player.on('request', ({ name, argument }) => replayed?.request(String(name), argument));
  const step = <T>(run: () => T): T | 'thrown' | undefined => {
    try {
      return run();
    } catch (error) {
      // What is wrong with the recording itself is no difference.
      if (error instanceof RecordingError) throw error;
      // As it was then: what is beyond the network has thrown.
      if (error === player.thrown) return 'thrown';
      player.failed(`an error: ${(error as Error).message}`);
      return undefined;
    }
  };
  const made = step(() => make(player, of));
  if (made !== 'thrown') replayed = made;
  for (;;) {
    if (player.isOver) break;
    const told = step(() => player.next());
    if (!told) break;
    if (told === 'settled' || told === 'request') await turn();
  }
  const rest = player.difference ? undefined : decoder.peek();
  return {
    records: decoder.count,
    durationMs: player.elapsedMs,
    ...player.counts,
    ended: rest?.name === 'end',
    difference: player.difference,
  };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
