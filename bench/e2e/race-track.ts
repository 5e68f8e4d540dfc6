/**
 * Where network cores race: two network namespaces of iproute2. `host` has the services' address, a name server and a
 * default route, and is where a core runs; `guest` is what it serves. Needs root, iproute2, iperf3 and cc.
 */

import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { type Peer, published } from './peers.ts';

export const SERVICE = '10.99.0.2';
const START_MS = 10_000;
/** In which the kernel counts CPU towards user space: USER_HZ. */
const TICKS = 100;

const settings: Readonly<Record<string, string>> = {
  'ipv4/ip_local_port_range': '1024 65000',
  'ipv4/ip_local_reserved_ports': '5201,7001,7002,15201,17001',
  'ipv4/tcp_tw_reuse': '1',
  'ipv4/conf/all/rp_filter': '0',
  'ipv4/conf/default/rp_filter': '0',
  'ipv6/conf/all/disable_ipv6': '1',
  'ipv6/conf/default/disable_ipv6': '1',
};

export class RaceTrack {
  readonly #host = `race-host-${process.pid}`;
  readonly #guest = `race-guest-${process.pid}`;
  readonly #folder = mkdtempSync(join(tmpdir(), 'race-'));
  readonly #started: ChildProcess[] = [];
  #peer: ChildProcess | undefined;

  constructor() {
    try {
      this.#build();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #build(): void {
    // passt makes its socket there after it has put off root.
    chmodSync(this.#folder, 0o777);
    for (const program of ['bridge', 'probe'])
      execFileSync('cc', [
        '-O2',
        '-pthread',
        '-o',
        join(this.#folder, program),
        join(import.meta.dirname, `${program}.c`),
      ]);
    // `ip netns exec` lays this over /etc/resolv.conf.
    mkdirSync(`/etc/netns/${this.#host}`, { recursive: true });
    writeFileSync(`/etc/netns/${this.#host}/resolv.conf`, 'nameserver 127.0.0.1\n');
    for (const netns of [this.#host, this.#guest]) {
      execFileSync('ip', ['netns', 'add', netns]);
      execFileSync('ip', ['-n', netns, 'link', 'set', 'lo', 'up']);
      const commands = Object.entries(settings).map(([name, value]) => `echo ${value} > /proc/sys/net/${name}`);
      execFileSync('ip', ['netns', 'exec', netns, 'sh', '-c', commands.join('\n')]);
    }
    for (const line of [
      'link add ext0 type veth peer name ext1',
      'link set ext1 up',
      'link set ext0 up',
      'addr add 10.99.0.1/24 dev ext0',
      `addr add ${SERVICE}/32 dev lo`,
      'route add default via 10.99.0.254',
    ])
      execFileSync('ip', ['-n', this.#host, ...line.split(' ')]);
  }

  /** Starts the services, the peer and the bridge (with options of its own), and waits until the guest reaches a service. */
  async start(program: string, peer: Peer, mtu: number, bridge: readonly string[]): Promise<void> {
    const sock = join(this.#folder, 'net.sock');
    const filled: Readonly<Record<string, string>> = {
      '{sock}': sock,
      '{mtu}': String(mtu),
      '{netns}': `/run/netns/${this.#guest}`,
      '{dir}': this.#folder,
    };
    const argv = peer.argv.map((word) => word.replace(/\{\w+\}/g, (name) => filled[name]!));
    this.#spawn(this.#host, join(this.#folder, 'probe'), 'serve');
    this.#peer = this.#spawn(this.#host, program, ...argv);
    if (peer.attachment === 'stream') {
      this.#spawn(this.#guest, join(this.#folder, 'bridge'), 'tap0', String(mtu), sock, ...bridge);
      await this.#until('a TAP device', () => this.#ip('link', 'show', 'tap0').includes('UP'));
      this.#ip('addr', 'add', peer.guest, 'dev', 'tap0');
      this.#ip('route', 'add', 'default', 'via', peer.gateway);
    }
    await this.#until('a way out', () => this.probe('guest', 'many', SERVICE, '1').echoed === 1);
    this.#spawn(this.#guest, join(this.#folder, 'probe'), 'serve');
    await this.#until('its services', () => this.probe('guest', 'many', '127.0.0.1', '1').echoed === 1);
    await peer.publish?.(join(this.#folder, 'api.sock'));
  }

  /** Ends what `start` started. */
  async stop(): Promise<void> {
    for (const child of this.#started.splice(0).reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const exited = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      const patience = new AbortController();
      await Promise.race([exited, setTimeout(3000, undefined, { signal: patience.signal }).catch(() => undefined)]);
      patience.abort();
      child.kill('SIGKILL');
      await exited;
    }
    this.#peer = undefined;
    this.#ip('link', 'del', 'tap0');
    rmSync(join(this.#folder, 'net.sock'), { force: true });
    rmSync(join(this.#folder, 'api.sock'), { force: true });
  }

  close(): void {
    for (const child of this.#started) child.kill('SIGKILL');
    for (const netns of [this.#host, this.#guest]) spawnSync('ip', ['netns', 'del', netns]);
    rmSync(`/etc/netns/${this.#host}`, { recursive: true, force: true });
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** What bench/e2e/probe.c prints, in the guest or on the host. */
  probe(at: 'guest' | 'host', ...words: string[]): Record<string, unknown> {
    return this.#json(at === 'guest' ? this.#guest : this.#host, 30, join(this.#folder, 'probe'), ...words);
  }

  /** A TCP transfer by iperf3, whose client is in the guest, or on the host and reaches the guest by a published port. */
  async transfer(
    client: 'guest' | 'host',
    way: 'send' | 'receive',
    streams: number,
    seconds: number,
  ): Promise<Record<string, unknown>> {
    const [from, to] = client === 'guest' ? [this.#guest, this.#host] : [this.#host, this.#guest];
    const port = client === 'guest' ? 5201 : published.find(([, guest]) => guest === 5201)![0];
    const server = this.#spawn(to, 'iperf3', '-s', '-1');
    await setTimeout(300);
    const words = ['-c', SERVICE, '-p', String(port), '-t', String(seconds), '-P', String(streams), '-J'];
    const result = this.#json(from, seconds + 15, 'iperf3', ...words, ...(way === 'receive' ? ['-R'] : []));
    server.kill();
    const end = result.end as { sum_received?: { bits_per_second: number; bytes: number } } | undefined;
    if (!end?.sum_received) return { error: String(result.error ?? 'iperf3 reported nothing') };
    return { gbit: end.sum_received.bits_per_second / 1e9, bytes: end.sum_received.bytes };
  }

  /** CPU seconds that the peer has taken so far. */
  cpuSeconds(): number {
    return this.#processes().reduce((sum, pid) => {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ').map(Number);
      // User and system, its own and those of children that are no more.
      return sum + (fields[11]! + fields[12]! + fields[13]! + fields[14]!) / TICKS;
    }, 0);
  }

  /** Resident now, and at most so far, in kB. */
  memory(): { readonly rss: number; readonly peak: number } {
    const sum = (pattern: RegExp): number =>
      this.#processes().reduce(
        (total, pid) => total + Number(pattern.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0),
        0,
      );
    return { rss: sum(/VmRSS:\s+(\d+)/), peak: sum(/VmHWM:\s+(\d+)/) };
  }

  /** The peer and its descendants: `ip netns exec` is replaced by what it runs. */
  #processes(): number[] {
    const found: number[] = [];
    const visit = (pid: number): void => {
      found.push(pid);
      for (const task of readdirSync(`/proc/${pid}/task`))
        for (const child of readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' '))
          if (child !== '') visit(Number(child));
    };
    visit(this.#peer!.pid!);
    return found;
  }

  #spawn(netns: string, ...words: string[]): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', netns, ...words], { stdio: 'ignore' });
    this.#started.push(child);
    return child;
  }

  /** In the guest; what it prints, or nothing where it fails. */
  #ip(...words: string[]): string {
    return spawnSync('ip', ['-n', this.#guest, ...words], { encoding: 'utf8' }).stdout;
  }

  #json(netns: string, seconds: number, ...words: string[]): Record<string, unknown> {
    const argv = ['netns', 'exec', netns, ...words];
    const { stdout, stderr } = spawnSync('ip', argv, {
      encoding: 'utf8',
      timeout: seconds * 1000,
      killSignal: 'SIGKILL',
    });
    try {
      return JSON.parse(stdout);
    } catch {
      return { error: stderr.trim() || `no answer within ${seconds} s` };
    }
  }

  async #until(what: string, there: () => boolean): Promise<void> {
    const end = performance.now() + START_MS;
    while (!there()) {
      const peer = this.#peer!;
      if (peer.exitCode !== null) throw new Error(`ended with ${peer.exitCode} before the guest had ${what}`);
      if (performance.now() > end) throw new Error(`the guest had not ${what} within ${START_MS / 1000} s`);
      await setTimeout(100);
    }
  }
}
