/**
 * Streams to the guest through `$SLIPWAY_HOME/connect` (HyperKit's convention): the root shell on a pty, and commands
 * without one, as vm/README.md describes them.
 */

import { connect, type Socket } from 'node:net';
import type { Home } from '../home.ts';

const GUEST_CID = 3;
export const SHELL_PORT = 2222;
const COMMAND_PORT = 2223;
const FRAME_OCTETS = 1 << 24;

const hex = (value: number): string => value.toString(16).padStart(8, '0');

/** Opens a stream to a port that the guest listens on. */
export function openGuestStream(home: Home, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path: home.connectSocket, allowHalfOpen: true });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      const away = error.code === 'ENOENT' || error.code === 'ECONNREFUSED';
      reject(away ? new Error("the VM is not running; 'slipway up' starts it") : error);
    });
    socket.once('connect', () => {
      socket.write(`${hex(GUEST_CID)}.${hex(port)}\n`);
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}

export interface GuestCommand {
  readonly command: string;
  readonly stdout: (octets: Buffer) => void;
  readonly stderr: (octets: Buffer) => void;
  /** Piped in when given; otherwise the command's stdin is at its end. */
  readonly stdin?: NodeJS.ReadableStream;
  readonly signal?: AbortSignal;
}

/** Runs `sh -c COMMAND` as root in the guest; its exit status. */
export async function runInGuest(home: Home, run: GuestCommand): Promise<number> {
  const socket = await openGuestStream(home, COMMAND_PORT);
  return new Promise((resolve, reject) => {
    const text = Buffer.from(run.command);
    let rest: Buffer = Buffer.alloc(0);
    const finish = (outcome: number | Error): void => {
      run.stdin?.unpipe?.(socket);
      socket.destroy();
      if (outcome instanceof Error) reject(outcome);
      else resolve(outcome);
    };
    run.signal?.addEventListener('abort', () => finish(new Error('stopped')), { once: true });
    socket.on('error', (error) => finish(new Error(`the stream to the guest broke: ${error.message}`)));
    socket.on('end', () => finish(new Error('the guest closed the stream before the command ended')));
    socket.on('data', (octets: Buffer) => {
      rest = rest.length === 0 ? octets : Buffer.concat([rest, octets]);
      while (rest.length >= 5) {
        const kind = rest[0];
        const length = rest.readUInt32LE(1);
        if (length > FRAME_OCTETS) return finish(new Error(`the guest sent a frame of ${length} octets`));
        if (rest.length < 5 + length) return;
        const body = rest.subarray(5, 5 + length);
        rest = rest.subarray(5 + length);
        if (kind === 1) run.stdout(body);
        else if (kind === 2) run.stderr(body);
        else if (kind === 3) return finish(Number(body.toString('latin1')) || 0);
        else return finish(new Error(`the guest sent a frame of unknown kind ${kind}`));
      }
    });
    socket.write(`${text.length}\n`);
    socket.write(text);
    if (run.stdin) run.stdin.pipe(socket);
    else socket.end();
  });
}

/** What `command` prints in the guest; rejects when its status is not 0. */
export async function outputOfGuest(home: Home, command: string): Promise<Buffer> {
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  const stdout = (octets: Buffer): void => void out.push(Buffer.from(octets));
  const stderr = (octets: Buffer): void => void err.push(Buffer.from(octets));
  const status = await runInGuest(home, { command, stdout, stderr });
  if (status !== 0) throw new Error(`'${command}' in the guest ended with ${status}: ${Buffer.concat(err)}`);
  return Buffer.concat(out);
}
