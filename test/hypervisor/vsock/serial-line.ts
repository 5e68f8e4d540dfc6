/**
 * A virtio-serial port for tests: a line between the lane's socket and the guest's program whose ends can be replaced,
 * as QEMU's chardev outlives a guest's reboot, and that can be cut in the middle of anything.
 */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import { join } from 'node:path';

const sources = new URL('../../../vm/guest/', import.meta.url).pathname;

/** Compiles a guest program as the image does; the path of the program, in a folder to be removed. */
export function compileGuestProgram(name: string, ...others: string[]): { program: string; directory: string } {
  const directory = fs.mkdtempSync(join(os.tmpdir(), 'guest-program-'));
  const program = join(directory, name);
  const files = [name, ...others].map((file) => join(sources, `${file}.c`));
  execFileSync('gcc', ['-static', '-O2', '-Wall', '-Wextra', '-Werror', '-o', program, ...files]);
  return { program, directory };
}

export class SerialLine {
  readonly #server: net.Server;
  readonly #path: string;
  #host: net.Socket | undefined;
  #guest: net.Socket | undefined;
  #process: ChildProcess | undefined;
  /** Octets from the guest that still pass; then the line is silent. */
  allowance = Number.POSITIVE_INFINITY;

  private constructor(server: net.Server, path: string) {
    this.#server = server;
    this.#path = path;
  }

  static async open(directory: string): Promise<SerialLine> {
    const path = join(directory, 'line');
    const server = net.createServer();
    server.listen(path);
    await once(server, 'listening');
    return new SerialLine(server, path);
  }

  /** Connects the lane's end, in place of an earlier one. */
  async connectHost(socketPath: string): Promise<void> {
    this.#host?.destroy();
    const socket = net.connect(socketPath);
    await once(socket, 'connect');
    this.#host = socket;
    this.#guest?.resume();
    socket.on('error', () => {});
    socket.on('data', (octets) => {
      if (this.#guest?.write(octets) === false) {
        socket.pause();
        this.#guest.once('drain', () => socket.resume());
      }
    });
  }

  /** Starts the guest's program on the line. */
  async startGuest(program: string, directory: string): Promise<void> {
    const accepted = once(this.#server, 'connection') as Promise<[net.Socket]>;
    const port = net.connect(this.#path);
    await once(port, 'connect');
    const [socket] = await accepted;
    this.#guest = socket;
    this.#host?.resume();
    socket.on('error', () => {});
    socket.on('data', (octets) => {
      const passing = octets.subarray(0, this.allowance);
      this.allowance -= passing.length;
      if (passing.length > 0 && this.#host?.write(passing) === false) {
        socket.pause();
        this.#host.once('drain', () => socket.resume());
      }
    });
    this.#process = spawn(program, ['--device', 'fd:3', '--directory', directory], {
      stdio: ['ignore', 'inherit', 'ignore', port],
    });
    port.destroy();
  }

  /** kill -9, as a reboot does. */
  async killGuest(): Promise<void> {
    this.#guest?.destroy();
    const child = this.#process;
    this.#process = undefined;
    if (!child) return;
    child.kill('SIGKILL');
    await once(child, 'close');
  }

  async close(): Promise<void> {
    await this.killGuest();
    this.#host?.destroy();
    this.#server.close();
  }
}
