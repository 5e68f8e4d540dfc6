/** Recordings from the command line: `--record FILE`. */

import type { NetworkOptions } from '../network.ts';
import { HostOutside } from '../proxy/adapter/host-outside.ts';
import { RecordedOutside } from '../proxy/recording/recorded-outside.ts';
import { Recorder } from '../proxy/recording/recorder.ts';
import { RecordingFile } from './recording-file.ts';
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

/** A file that is behind by no more than this when the process is killed. */
const FLUSH_MS = 250;

export interface Recording {
  /** What the network is to be made with. */
  readonly network: Pick<NetworkOptions, 'outside'>;
  /** Ends the recording, once the network is closed. */
  end(): void;
}

/** The outside for a network that is made of `options`, and recorded where `path` says. */
export function startRecording(
  options: NetworkOptions,
  path: string | undefined,
  report: (line: string) => void,
): Recording {
  if (path === undefined) return { network: {}, end: () => undefined };
  const file = new RecordingFile(path);
  const host = new HostOutside(options);
  const recorder = new Recorder(
    {
      clock: host.clock,
      sink: (octets) => file.write(octets),
      failed: ({ message }) => report(`the recording into ${path} has ended: ${message}; the network goes on`),
    },
    { network: networkOptions(options) },
  );
  const timer = setInterval(() => recorder.flush(), FLUSH_MS).unref();
  const flush = (): void => recorder.flush();
  process.once('exit', flush);
  return {
    network: { outside: new RecordedOutside(host, recorder) },
    end: () => {
      clearInterval(timer);
      process.off('exit', flush);
      recorder.end();
      file.close();
    },
  };
}

/** Whether an option is what the network itself is made of; the others are its outside's. */
const isKept: { readonly [name in keyof Required<NetworkOptions>]: boolean } = {
  subnet: true,
  subnet6: true,
  mtu: true,
  guestMacAddress: true,
  hostLoopback: true,
  policyRules: true,
  switched: true,
  leasesOnly: true,
  conditions: true,
  dnsRecords: true,
  dns: false,
  resolvConf: false,
  hostSockets: false,
  outside: false,
};

function networkOptions(options: NetworkOptions): Partial<NetworkOptions> {
  const names = Object.keys(isKept) as (keyof NetworkOptions)[];
  return Object.fromEntries(
    names.filter((name) => isKept[name] && options[name] !== undefined).map((name) => [name, options[name]]),
  );
}
