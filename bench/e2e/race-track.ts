/**
 * Where network cores race: two network namespaces held by sleeping processes. `host` has the services' address on a
 * device of its own and is where a core runs; `guest` is what it makes a TAP in. Root, iproute2 and iperf3 are needed.
 */

import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

export const SERVICE = '10.99.0.2';
const START_MS = 10_000;
const TICKS = 100;

/** How a core is started for a guest namespace; `{netns}` and `{mtu}` are filled in. */
export interface Core {
  readonly name: string;
  readonly command: readonly string[];
}

export interface Result {
  /** Gbit/s, or microseconds, or whatever the test's unit is. */
  readonly value: number;
  /** CPU seconds that the core's processes took per GB that was moved. */
  readonly cpuPerGb?: number;
}

/** What iperf3 prints, as far as it matters here. */
interface Report {
  readonly end?: { readonly sum_received?: { readonly bits_per_second: number; readonly bytes: number } };
  readonly error?: string;
}

const pause = (ms: number): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

export class RaceTrack {
  readonly #host = namespace();
  readonly #guest = namespace();
  #core: ChildProcess | undefined;

  constructor() {
    const ip = (...words: string[]) => this.#in(this.#host, 'ip', ...words);
    try {
      ip('link', 'set', 'lo', 'up');
      ip('link', 'add', 'ext0', 'type', 'veth', 'peer', 'name', 'ext1');
      ip('addr', 'add', '10.99.0.1/24', 'dev', 'ext0');
      ip('link', 'set', 'ext0', 'up');
      ip('link', 'set', 'ext1', 'up');
      ip('addr', 'add', `${SERVICE}/32`, 'dev', 'lo');
      ip('route', 'add', 'default', 'via', '10.99.0.254');
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Starts a core and waits until the guest has an address and a way out. */
  start(core: Core, mtu: number): void {
    const words = core.command.map((word) =>
      word.replace('{netns}', `/proc/${this.#guest.pid}/ns/net`).replace('{mtu}', String(mtu)),
    );
    const child = spawn('nsenter', [`--net=/proc/${this.#host.pid}/ns/net`, ...words], { stdio: 'ignore' });
    this.#core = child;
    for (let waited = 0; waited < START_MS; waited += 50) {
      if (this.#in(this.#guest, 'ip', '-4', 'route', 'show', 'default').includes('default')) return;
      pause(50);
    }
    throw new Error(`${core.name} did not come up: ${words.join(' ')}`);
  }

  /** Stops the core, and takes away what it made in the guest. */
  stop(): void {
    const { pid } = this.#core!;
    spawnSync('kill', [String(pid)]);
    for (let waited = 0; waited < 3000 && alive(pid!); waited += 50) pause(50);
    spawnSync('kill', ['-9', String(pid)]);
    spawnSync('nsenter', [`--net=/proc/${this.#guest.pid}/ns/net`, 'ip', 'link', 'del', 'tap0'], { stdio: 'ignore' });
  }

  /** A TCP transfer between guest and host services: `up` is what the guest sends. */
  transfer(direction: 'up' | 'down', streams: number, seconds: number): Result {
    const words = ['-c', SERVICE, '-t', String(seconds), '-P', String(streams), '-J'];
    if (direction === 'down') words.push('-R');
    // On a busy machine the server is not there at once, or still has the last run's port.
    for (let tries = 0; ; tries++) {
      const server = this.#spawn(this.#host, 'iperf3', '-s', '-1');
      pause(300);
      const before = this.#cpuSeconds();
      const { end, error } = JSON.parse(this.#in(this.#guest, 'iperf3', ...words)) as Report;
      const taken = this.#cpuSeconds() - before;
      server.kill();
      const received = end?.sum_received;
      if (received) return { value: received.bits_per_second / 1e9, cpuPerGb: taken / (received.bytes / 1e9) };
      if (tries === 5) throw new Error(`iperf3: ${error}`);
      pause(500);
    }
  }

  /** Median time of a one-octet round trip over one connection, in microseconds. */
  roundTrip(): Result {
    const server = this.#spawn(this.#host, process.execPath, '-e', echo);
    pause(500);
    const value = Number(this.#in(this.#guest, process.execPath, '-e', pingPong));
    server.kill();
    return { value };
  }

  /** Memory of the core's processes, in MB. */
  memory(): number {
    return this.#processes().reduce((sum, pid) => sum + field(`/proc/${pid}/status`, /VmRSS:\s+(\d+)/), 0) / 1024;
  }

  close(): void {
    this.#host.kill('SIGKILL');
    this.#guest.kill('SIGKILL');
  }

  #in(where: ChildProcess, ...words: string[]): string {
    return execFileSync('nsenter', [`--net=/proc/${where.pid}/ns/net`, ...words], { encoding: 'utf8', stdio: 'pipe' });
  }

  #spawn(where: ChildProcess, ...words: string[]): ChildProcess {
    return spawn('nsenter', [`--net=/proc/${where.pid}/ns/net`, ...words], { stdio: 'ignore' });
  }

  #cpuSeconds(): number {
    const seconds = (pid: number): number => {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ').map(Number);
      return (fields[11]! + fields[12]!) / TICKS;
    };
    return this.#processes().reduce((sum, pid) => sum + seconds(pid), 0);
  }

  /** The core and its descendants: nsenter is replaced by what it runs. */
  #processes(): number[] {
    const found: number[] = [];
    const visit = (pid: number): void => {
      found.push(pid);
      for (const task of readdirSync(`/proc/${pid}/task`))
        for (const child of readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' '))
          if (child !== '') visit(Number(child));
    };
    visit(this.#core!.pid!);
    return found;
  }
}

function namespace(): ChildProcess {
  const child = spawn('unshare', ['--net', 'sleep', 'infinity'], { stdio: 'ignore' });
  const own = execFileSync('readlink', ['/proc/self/ns/net'], { encoding: 'utf8' });
  for (let waited = 0; waited < START_MS; waited += 20) {
    const its = spawnSync('readlink', [`/proc/${child.pid}/ns/net`], { encoding: 'utf8' }).stdout;
    if (its !== '' && its !== own) return child;
    pause(20);
  }
  throw new Error('no network namespace could be made: root is needed');
}

const alive = (pid: number): boolean => spawnSync('kill', ['-0', String(pid)], { stdio: 'ignore' }).status === 0;

function field(path: string, pattern: RegExp): number {
  return Number(pattern.exec(readFileSync(path, 'utf8'))?.[1] ?? 0);
}

const echo = `
require('net').createServer({ noDelay: true }, (socket) => socket.on('error', () => {}).on('data', (chunk) => socket.write(chunk)))
  .listen(7, '${SERVICE}');`;

const pingPong = `
const socket = require('net').connect({ host: '${SERVICE}', port: 7, noDelay: true });
const times = [];
let at = 0;
const send = () => { at = performance.now(); socket.write('x'); };
socket.on('connect', send).on('data', () => {
  times.push((performance.now() - at) * 1000);
  if (times.length < 5000) return send();
  console.log(times.sort((a, b) => a - b)[2500].toFixed(1));
  process.exit();
});`;
