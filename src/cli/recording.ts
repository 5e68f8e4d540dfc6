/** Recordings from the command line: `--record FILE`. */

import type { NetworkOptions } from '../network.ts';
import { UsageError } from './usage-error.ts';

export const recordingOptions = { record: { type: 'string' } } as const;

export const recordingHelp = `  --record FILE         keep frames, socket results, clock and randomness in a file (0600: it holds the guests' traffic
                        and the network's secrets) for 'slipway net replay'; without HTTP proxies and entrance
`;

/** What stands on sockets that are not the core's to record. */
const unrecorded = ['http-proxy', 'https-proxy', 'entrance'] as const;

type RecordingValues = { readonly record?: string | undefined } & {
  readonly [name in (typeof unrecorded)[number]]?: unknown;
};

export function readRecordingOptions(values: RecordingValues): string | undefined {
  if (values.record === undefined) return undefined;
  if (values.record === '') throw new UsageError('--record wants the name of a file');
  const other = unrecorded.find((name) => values[name] !== undefined);
  if (other) throw new UsageError(`--record does not go with --${other}: its connections are not the core's to record`);
  return values.record;
}

export interface Recording {
  /** What the network is to be made with. */
  readonly network: Pick<NetworkOptions, 'outside'>;
  /** Ends the recording, once the network is closed. */
  end(): void;
}

/** The outside for a network that is made of `options`, and recorded where `path` says. */
export async function startRecording(
  options: NetworkOptions,
  path: string | undefined,
  report: (line: string) => void,
): Promise<Recording> {
  if (path === undefined) return { network: {}, end: () => undefined };
  const { record } = await import('./recorded-network.ts');
  return record(options, path, report);
}
