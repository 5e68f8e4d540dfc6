/**
 * `slipway net capture`: the frames of a running instance's network, as a pcapng file or into a pipe. The daemon sends
 * them for as long as it is asked; only whole blocks are written, so that the file is sound wherever it ends.
 */

import { type FileHandle, open } from 'node:fs/promises';
import { command, runCommand } from './command.ts';
import { apiOption, withNetworkApi } from './network-api.ts';
import { UsageError } from './usage-error.ts';

const PACKET_BLOCK = 6;
const BLOCK_HEADER_OCTETS = 8;

interface CaptureOptions {
  readonly write?: string;
  readonly snap?: string;
  readonly count?: string;
  readonly api?: string;
}

export async function run(argv: readonly string[]): Promise<number> {
  const example =
    "slipway net capture -w web.pcapng tcp port 80\nslipway net capture 'not port 53' | wireshark -k -i -";
  const program = command('net capture', "write the network's frames as pcapng until interrupted", example)
    .argument('[expression...]', "which frames, in tcpdump's words, such as: host 10.0.0.1 and not port 22")
    .option('-w, --write <file>', 'the file (0600); standard output without it')
    .option('-s, --snap <octets>', 'keep so many octets of each frame')
    .option('-c, --count <frames>', 'end after so many frames')
    .option(...apiOption)
    .action(capture);
  return runCommand(program, argv);
}

async function capture(words: string[], options: CaptureOptions): Promise<void> {
  const { write, snap, count } = options;
  for (const [name, value] of Object.entries({ snap, count }))
    if (value !== undefined && !/^[1-9]\d{0,8}$/.test(value)) throw new UsageError(`--${name} wants a number`);
  if (write === undefined && process.stdout.isTTY)
    throw new UsageError('a capture is no text: name a file with -w, or lead it into a pipe');
  const query = new URLSearchParams();
  if (words.length > 0) query.set('filter', words.join(' '));
  if (snap !== undefined) query.set('snap', snap);
  const interrupted = new AbortController();
  const stop = (): void => interrupted.abort();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
  process.stdout.once('error', stop);
  await withNetworkApi(options.api, async (api) => {
    const stream = await api.stream(`/v1/capture?${query}`, interrupted.signal);
    try {
      const file = write === undefined ? undefined : await openEmpty(write);
      process.stderr.write('slipway: capturing; interrupt to end it\n');
      const most = count === undefined ? Number.POSITIVE_INFINITY : Number(count);
      const frames = await writeBlocks(stream, most, async (octets) => {
        if (file) await file.writeFile(octets);
        else process.stdout.write(octets);
      }).finally(() => file?.close());
      process.stderr.write(`slipway: ${frames} frames captured\n`);
    } finally {
      // The answer has no end of its own.
      stream.on('error', () => undefined);
      interrupted.abort();
    }
  });
}

/** Writes the whole blocks of a stream, up to `most` packets of them; returns the packets. */
async function writeBlocks(
  stream: AsyncIterable<Uint8Array>,
  most: number,
  write: (octets: Uint8Array) => Promise<void>,
): Promise<number> {
  let rest = Buffer.alloc(0);
  let frames = 0;
  try {
    for await (const chunk of stream) {
      const octets = Buffer.concat([rest, chunk]);
      let end = 0;
      while (end + BLOCK_HEADER_OCTETS <= octets.length && frames < most) {
        const block = octets.readUInt32LE(end + 4);
        if (end + block > octets.length) break;
        if (octets.readUInt32LE(end) === PACKET_BLOCK) frames++;
        end += block;
      }
      await write(octets.subarray(0, end));
      rest = octets.subarray(end);
      if (frames >= most) break;
    }
  } catch (error) {
    // Interrupted: that is how a capture ends.
    if ((error as Error).name !== 'AbortError') throw error;
  }
  return frames;
}

async function openEmpty(path: string): Promise<FileHandle> {
  try {
    const handle = await open(path, 'w', 0o600);
    // The file may have been there before. What is no file, such as a pipe, keeps its mode.
    if ((await handle.stat()).isFile()) await handle.chmod(0o600);
    return handle;
  } catch (error) {
    throw new Error(`${path} cannot be written: ${(error as Error).message}`);
  }
}
