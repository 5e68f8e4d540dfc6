/** Starts namespace-program.ts in a namespace, by `nsenter` or `unshare`, and receives the TAP that it makes there. */

import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';
import { addressOfBuffer } from '../../native/memory.ts';
import { close, write } from '../../native/system-calls.ts';
import { messageSocketPair, receiveDescriptor } from './descriptor-passing.ts';
import type { NamespaceRequest } from './namespace-request.ts';
import type { OpenedTap } from './tap-device.ts';

const program = fileURLToPath(import.meta.url).replace(/namespace-helper\.(ts|js)$/, 'namespace-program.$1');

export interface Helper {
  readonly child: ChildProcess;
  /** The device; rejects with what the helper had to say when it ends without making one. */
  readonly tap: Promise<OpenedTap>;
  /** Lines that the helper has said so far, though it went on. */
  warnings(): readonly string[];
  /** The device is served: the command may begin. */
  go(): void;
}

/** The helper ended before there was a device. */
export class HelperError extends Error {
  /** The program that enters the namespace could not be started, or said this. */
  readonly said: string;
  readonly signal: NodeJS.Signals | null;

  constructor(said: string, signal: NodeJS.Signals | null = null) {
    super(said === '' ? 'the helper in the namespace ended without a word' : said);
    this.said = said;
    this.signal = signal;
  }
}

/**
 * Runs `enter` (nsenter or unshare and its options) with the program behind it. `more` are descriptors for the child
 * from 5 on. With a command the child has our stdin, stdout and, once it is the command, stderr.
 */
export function startHelper(
  enter: readonly string[],
  request: NamespaceRequest,
  command: readonly string[] = [],
  more: readonly number[] = [],
): Helper {
  const [ours, theirs] = messageSocketPair();
  const [file, ...options] = enter;
  const argv = [...options, process.execPath, program, JSON.stringify(request), ...command];
  const own = command.length > 0 ? 'inherit' : 'ignore';
  const child = spawn(file!, argv, { stdio: [own, own, 'pipe', theirs, 2, ...more] });
  close(theirs);
  let said = '';
  child.stderr!.on('data', (octets) => {
    said += octets;
  });
  const lines = (): string[] => said.split('\n').filter((line) => line !== '');
  const stopped = (): void => void close(ours);
  child.once('close', stopped).once('error', stopped);
  return {
    child,
    tap: tapFrom(child, file!, ours, lines),
    warnings: lines,
    go() {
      const octet = new ArrayBuffer(1);
      write(ours, addressOfBuffer(octet), 1);
    },
  };
}

function tapFrom(child: ChildProcess, file: string, socket: number, said: () => string[]): Promise<OpenedTap> {
  return new Promise((resolve, reject) => {
    const poll = koffi.node.poll(socket, { readable: true }, () => {
      const message = receiveDescriptor(socket);
      if (message === undefined) return;
      poll.close();
      // koffi calls outside of Node's callback scope: promises are settled from within it.
      if (message !== 'end') setImmediate(() => resolve({ fd: message.descriptor, name: message.text }));
    });
    child.once('error', (error: NodeJS.ErrnoException) => {
      poll.close();
      const remedy = error.code === 'ENOENT' ? ": it is part of util-linux's package" : '';
      reject(new HelperError(`cannot start '${file}' (${error.code ?? error.message})${remedy}`));
    });
    child.once('close', (_code, signal) => {
      poll.close();
      reject(new HelperError(said().at(-1) ?? '', signal));
    });
  });
}
