/**
 * `slipway shell`: a root shell in the guest, on a pty when this is a terminal; with a command, that command, its
 * output and its exit status.
 */

import { command, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';
import { openGuestStream, runInGuest, SHELL_PORT } from './guest-channel.ts';

export async function run(argv: readonly string[]): Promise<number> {
  const program = command(
    'shell',
    'open a root shell in the VM, or run one command there',
    'slipway shell -- ls -l /var',
  )
    .argument('[command...]', 'what to run instead of a shell; several words are quoted for sh')
    .passThroughOptions()
    .action(async (words: string[]) => {
      if (words.length === 0 && process.stdin.isTTY && process.stdout.isTTY) await terminal();
      else
        process.exitCode = await piped(words.length === 0 ? 'exec sh' : words.length === 1 ? words[0]! : quote(words));
    });
  return runCommand(program, argv);
}

async function terminal(): Promise<void> {
  const socket = await openGuestStream(currentHome(), SHELL_PORT);
  const { columns, rows } = process.stdout;
  socket.write(`${columns} ${rows} ${(process.env.TERM ?? 'dumb').replace(/[^\w.+-]/g, '')}\n`);
  process.stdin.setRawMode(true);
  process.stdin.pipe(socket);
  socket.pipe(process.stdout, { end: false });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('end', resolve);
      socket.once('close', () => resolve());
      socket.once('error', (error) => reject(new Error(`the stream to the guest broke: ${error.message}`)));
    });
  } finally {
    process.stdin.setRawMode(false);
    process.stdin.unpipe(socket);
    process.stdin.pause();
    socket.destroy();
  }
}

async function piped(text: string): Promise<number> {
  try {
    return await runInGuest(currentHome(), {
      command: text,
      stdout: (octets) => void process.stdout.write(octets),
      stderr: (octets) => void process.stderr.write(octets),
      ...(!process.stdin.isTTY && { stdin: process.stdin }),
    });
  } finally {
    process.stdin.pause();
  }
}

/** Words as one line of sh that means exactly them. */
function quote(words: readonly string[]): string {
  return words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
}
