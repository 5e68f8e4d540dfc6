/**
 * Machines in a process of their own, `slipway-vmm`, which outlives whoever started it: starts one, attaches to the one
 * that runs, and stands for it as a `Machine`.
 *
 * Events: a line of the control socket, its end. No timers. When the socket ends without a final status the vmm was
 * killed, and QEMU with it: the machine is then 'failed' and 'lost'.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { LineReader } from './adapter/line-reader.ts';
import { lastLines } from './adapter/ring-file.ts';
import { hasEnded, StatusSubject } from './adapter/status-subject.ts';
import type { HypervisorPort, Machine, MachineSpec, MachineStatus } from './port.ts';
import { inUse, LINE_OCTETS, parseVmmMessage, type VmmMethod, type VmmOptions, type VmmPaths } from './vmm-protocol.ts';

/** Beside this module, in the sources and in what is published. */
const vmmProgram = fileURLToPath(import.meta.url).replace(/vmm-client\.(ts|js)$/, 'vmm.$1');

export interface VmmHostOptions {
  readonly paths: VmmPaths;
  /** Finds QEMU for the machine; called at each start. */
  readonly tools: () => Promise<Pick<VmmOptions, 'qemu' | 'qemuImg'>>;
}

/** Where machines run that outlive this process. */
export class VmmHost implements HypervisorPort {
  readonly name = 'vmm';
  readonly #options: VmmHostOptions;

  constructor(options: VmmHostOptions) {
    this.#options = options;
  }

  /** The machine that runs already; undefined when there is none. */
  async attach(): Promise<VmmMachine | undefined> {
    const { paths } = this.#options;
    const socket = await open(paths.vmmSocket);
    return socket && VmmMachine.attach(socket, paths);
  }

  /** Starts a vmm, apart from this process; rejects with the Error that the vmm met. */
  async start(spec: MachineSpec): Promise<VmmMachine> {
    const { paths, tools } = this.#options;
    const running = await this.attach();
    running?.detach();
    if (running) throw new Error(inUse(paths.vmDirectory, running.vmmPid));
    const options: VmmOptions = { spec, paths, ...(await tools()) };
    const log = openSync(paths.vmmLog, 'a', 0o600);
    const { NODE_OPTIONS: _, ...env } = process.env;
    const child = spawn(process.execPath, [vmmProgram], {
      detached: true,
      stdio: ['pipe', 'pipe', log],
      cwd: '/',
      env,
    });
    closeSync(log);
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(JSON.stringify(options));
    const error = await firstWords(child);
    child.stdout?.destroy();
    child.unref();
    if (error !== undefined) throw new Error(error === '' ? lastWords(paths.vmmLog) : error);
    const machine = await this.attach();
    if (!machine) throw new Error(lastWords(paths.vmmLog));
    return machine;
  }
}

/** The vmm's one line on its standard output: undefined when it runs, its error otherwise ('' when it said none). */
function firstWords(child: ChildProcess): Promise<string | undefined> {
  return new Promise((resolve) => {
    const onLine = (line: string): void => {
      try {
        resolve((JSON.parse(line) as { error?: string }).error);
      } catch {
        resolve('');
      }
    };
    const reader = new LineReader(LINE_OCTETS, onLine, () => resolve(''));
    (child.stdout as Readable).on('data', (octets: Buffer) => reader.push(octets));
    child.on('error', (error) => resolve(`slipway-vmm cannot be started: ${error.message}`));
    child.on('close', () => resolve(''));
  });
}

function lastWords(logPath: string): string {
  return `slipway-vmm ended at once: ${lastLines(readText(logPath), 5)}; its log is ${logPath}`;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Connects; undefined when nobody listens. */
function open(path: string): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(socket));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined);
      else reject(new Error(`cannot reach slipway-vmm at ${path}: ${error.message}`));
    });
  });
}

/** A machine that runs in a vmm. */
export class VmmMachine implements Machine {
  /** Process id of the vmm. */
  readonly vmmPid: number;
  readonly #socket: Socket;
  readonly #consoleLog: string;
  readonly #status: StatusSubject;
  readonly #pending = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
  #nextId = 1;

  /** Waits for the first status; undefined when the vmm ended before it. */
  static attach(socket: Socket, paths: VmmPaths): Promise<VmmMachine | undefined> {
    return new Promise((resolve) => {
      let machine: VmmMachine | undefined;
      const onLine = (line: string): void => {
        const message = parseVmmMessage(line);
        if (machine) machine.#line(line);
        else if (message && 'status' in message && !hasEnded(message.status)) {
          machine = new VmmMachine(socket, paths.consoleLog, message.vmm, message.status);
          resolve(machine);
        }
      };
      const reader = new LineReader(LINE_OCTETS, onLine, () => socket.destroy());
      socket.on('data', (octets: Buffer) => reader.push(octets));
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        if (machine) machine.#onClose();
        resolve(undefined);
      });
    });
  }

  private constructor(socket: Socket, consoleLog: string, vmmPid: number, status: MachineStatus) {
    this.#socket = socket;
    this.#consoleLog = consoleLog;
    this.vmmPid = vmmPid;
    this.#status = new StatusSubject(status);
  }

  status(): MachineStatus {
    return this.#status.current;
  }

  onStatus(listener: (status: MachineStatus) => void): () => void {
    return this.#status.subscribe(listener);
  }

  pause(): Promise<void> {
    return this.#request('pause');
  }

  resume(): Promise<void> {
    return this.#request('resume');
  }

  async shutdown(graceMs: number): Promise<void> {
    await this.#request('shutdown', graceMs).catch(() => undefined);
    await this.#whenGone();
  }

  async kill(): Promise<void> {
    await this.#request('kill').catch(() => undefined);
    await this.#whenGone();
  }

  console(): string {
    return readText(this.#consoleLog);
  }

  /** Lets go of the machine, which runs on. */
  detach(): void {
    this.#socket.removeAllListeners('close');
    this.#socket.destroy();
  }

  /** Resolves once the vmm has put everything away. */
  async #whenGone(): Promise<void> {
    if (!this.#socket.closed) await new Promise((resolve) => this.#socket.once('close', resolve));
  }

  #request(method: VmmMethod, graceMs = 0): Promise<void> {
    if (this.#socket.destroyed) return Promise.reject(new Error(`the machine is ${this.#status.current.state}`));
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#socket.write(`${JSON.stringify({ id, method, graceMs })}\n`);
    });
  }

  #line(line: string): void {
    const message = parseVmmMessage(line);
    if (!message) return;
    if ('status' in message) {
      if (!this.#status.ended) this.#status.replace(message.status);
      return;
    }
    const pending = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (message.error === undefined) pending?.resolve();
    else pending?.reject(new Error(message.error));
  }

  #onClose(): void {
    for (const { reject } of this.#pending.values()) reject(new Error('slipway-vmm has gone'));
    this.#pending.clear();
    this.#status.set({
      state: 'failed',
      ended: 'lost',
      reason: "slipway-vmm was killed; 'slipway up' starts the VM again",
    });
  }
}
