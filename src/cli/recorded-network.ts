/** A network that is recorded into a file: what `--record` leads to. Loaded when there is one. */

import type { NetworkOptions } from '../network.ts';
import { HostOutside } from '../proxy/adapter/host-outside.ts';
import { RecordedOutside } from '../proxy/recording/recorded-outside.ts';
import { Recorder } from '../proxy/recording/recorder.ts';
import type { Recording } from './recording.ts';
import { RecordingFile } from './recording-file.ts';

/** A file that is behind by no more than this when the process is killed. */
const FLUSH_MS = 250;

/** The outside for a network that is made of `options`, recorded into `path`. */
export function record(options: NetworkOptions, path: string, report: (line: string) => void): Recording {
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
