import { BehaviorSubject, filter, firstValueFrom } from 'rxjs';
import t from 'tap';
import type { PlatformStatus } from '../../src/api/port.ts';
import type { MachineHost } from '../../src/hypervisor/keeper.ts';
import type { Machine, MachineSpec, MachineStatus } from '../../src/hypervisor/port.ts';
import { Policy } from '../../src/proxy/policy.ts';
import { Capture } from '../../src/stack/link/capture.ts';
import { type DockerReadiness, type InForce, type NetworkCore, Supervisor } from '../../src/supervisor.ts';
import { dnsReport } from '../api/dns-report.ts';
import { MemorySettings } from '../config/memory-settings.ts';

class FakeMachine implements Machine {
  readonly spec: MachineSpec;
  readonly #listeners = new Set<(status: MachineStatus) => void>();
  #status: MachineStatus = { state: 'running', boot: {}, accelerator: 'tcg', pid: 7, startedAtMs: 1000 };

  constructor(spec: MachineSpec) {
    this.spec = spec;
  }

  status(): MachineStatus {
    return this.#status;
  }

  set(changed: Partial<MachineStatus>): void {
    this.#status = { ...this.#status, ...changed };
    for (const listener of this.#listeners) listener(this.#status);
  }

  onStatus(listener: (status: MachineStatus) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async pause(): Promise<void> {
    this.set({ state: 'paused' });
  }

  async resume(): Promise<void> {
    this.set({ state: 'running' });
  }

  async shutdown(): Promise<void> {
    if (!this.#status.ended) this.set({ state: 'stopped', ended: 'asked' });
  }

  async kill(): Promise<void> {
    await this.shutdown();
  }

  console(): string {
    return '';
  }
}

class FakeHost implements MachineHost {
  readonly machines: FakeMachine[] = [];
  running: FakeMachine | undefined;
  failure: string | undefined;

  async attach(): Promise<Machine | undefined> {
    return this.running;
  }

  async start(spec: MachineSpec): Promise<Machine> {
    if (this.failure) throw new Error(this.failure);
    const machine = new FakeMachine(spec);
    this.machines.push(machine);
    return machine;
  }
}

class FakeDocker implements DockerReadiness {
  readonly changes = new BehaviorSubject<{ ready: boolean; version?: string }>({ ready: false });
  asking = false;

  get state() {
    return this.changes.value;
  }

  start(): void {
    this.asking = true;
  }

  stop(): void {
    this.asking = false;
    this.changes.next({ ready: false });
  }
}

const policy = new Policy({ subnets: [], gateways: [], hostAliases: [] });

async function setUp(inForce?: InForce) {
  const settings = new MemorySettings();
  const machines = new FakeHost();
  const docker = new FakeDocker();
  const networks: (NetworkCore & { subnet: string; open: boolean; listening: string[] })[] = [];
  const stored: InForce[] = [];
  const lines: string[] = [];
  let nowMs = 0;
  const supervisor = new Supervisor({
    settings,
    machines,
    docker,
    specify: ({ settings: chosen }) => ({ memoryMiB: chosen['vm.memory'] }) as MachineSpec,
    openNetwork: ({ subnet }) => {
      const listening: string[] = [];
      const network = {
        subnet,
        open: true,
        connected: true,
        listening,
        flows: () => [],
        drops: () => ({ malformed: 1 }),
        capture: (options: Parameters<NetworkCore['capture']>[0]) => new Capture({ epochMs: 0, ...options }),
        dns: () => dnsReport(),
        addressesOf: async () => [],
        policy: () => policy.report(),
        checkPolicy: () => undefined,
        expose: async ({ hostAddress, hostPort }: { hostAddress: string; hostPort: number }) => {
          listening.push(`${hostAddress}:${hostPort}`);
          return {
            port: hostPort,
            close: () => void listening.splice(listening.indexOf(`${hostAddress}:${hostPort}`), 1),
          };
        },
        apply: () => undefined,
        close: () => {
          network.open = false;
        },
      };
      networks.push(network);
      return network;
    },
    chooseSubnets: ({ current }) => ({
      subnet: current['network.subnet'].replace('192.168.65.', '192.168.66.'),
      subnet6: 'off',
    }),
    publishRules: ({ settings: chosen }) => ({
      bind: chosen['ports.bind'].split(','),
      reserved: [],
      limit: chosen['ports.limit'],
      unprivilegedFrom: 0,
      hostAddresses: [],
      ipv6: true,
    }),
    inForce: { load: () => inForce, store: (chosen) => void stored.push(chosen) },
    facts: () => ({ home: '/home', sockets: {}, versions: { slipway: '1' }, pids: { slipway: 1 } }),
    nowMs: () => nowMs,
    log: (line) => void lines.push(line),
  });
  const until = (wanted: (status: PlatformStatus) => boolean) =>
    firstValueFrom(supervisor.changes.pipe(filter(wanted)));
  const pass = (ms: number): void => {
    nowMs += ms;
  };
  return { supervisor, settings, machines, docker, networks, stored, lines, until, pass };
}

const request = {
  protocol: 'tcp',
  hostAddress: '0.0.0.0',
  hostPort: 8080,
  containerAddress: '172.17.0.2',
  containerPort: 80,
} as const;

t.test('starts the machine, then asks Docker once the guest says that dockerd is there', async (t) => {
  const { supervisor, machines, docker, networks, stored } = await setUp();
  t.equal(supervisor.status().state, 'stopped');
  await supervisor.open();
  const [machine] = machines.machines;
  t.equal(machine!.spec.memoryMiB, 2048);
  t.match(stored, [{ settings: { 'vm.memory': 2048 }, subnet: '192.168.66.0/24' }]);
  t.equal(networks.length, 1);
  machine!.set({ boot: { kernel: 1 } });
  t.equal(docker.asking, false);
  machine!.set({ boot: { kernel: 1, dockerd: 8 } });
  t.equal(docker.asking, true);
  docker.changes.next({ ready: true, version: '26.1.5' });
  t.match(supervisor.status(), {
    state: 'running',
    docker: { ready: true, version: '26.1.5' },
    boot: { kernel: 1, dockerd: 8 },
    versions: { slipway: '1', docker: '26.1.5' },
    pids: { slipway: 1, hypervisor: 7 },
    network: { subnet: '192.168.66.0/24', connected: true },
  });
  t.same(supervisor.drops(), { malformed: 1 });
});

t.test('attaches to the machine that runs, with the settings that it was started with', async (t) => {
  const { settings, ...first } = await setUp();
  await first.supervisor.open();
  const before = { ...settings.current, 'network.subnet': '10.9.0.0/24' };
  const { supervisor, machines, networks } = await setUp({ settings: before, subnet: '10.9.0.0/24', subnet6: 'off' });
  machines.running = first.machines.machines[0];
  await supervisor.open();
  t.equal(machines.machines.length, 0);
  t.equal(networks[0]!.subnet, '10.9.0.0/24');
  t.same(supervisor.status().pendingRestart, ['network.subnet']);
});

t.test('a start that fails is told by the status, and a restart tries again', async (t) => {
  const { supervisor, machines } = await setUp();
  machines.failure = 'QEMU is missing; install it';
  await supervisor.open();
  t.match(supervisor.status(), { state: 'failed', reason: 'QEMU is missing; install it' });
  await t.rejects(supervisor.restart(), { message: /QEMU is missing/ });
  machines.failure = undefined;
  await supervisor.restart();
  t.equal(supervisor.status().state, 'running');
  t.notOk(supervisor.status().reason);
});

t.test('a guest that panics or reboots is started again, within bounds', async (t) => {
  const { supervisor, machines, until, pass, lines } = await setUp();
  await supervisor.open();
  const panic = { state: 'failed', ended: 'panic', reason: 'the kernel panicked' } as const;
  for (let restarts = 1; restarts <= 5; restarts++) {
    const again = until((status) => status.state === 'running' && status.restarts === restarts);
    machines.machines.at(-1)!.set(restarts === 1 ? { state: 'stopped', ended: 'reboot' } : panic);
    await again;
    pass(60_000);
  }
  machines.machines.at(-1)!.set(panic);
  const status = await until(({ state }) => state === 'failed');
  t.equal(
    status.reason,
    `the kernel panicked; it has been started again 5 times within 10 minutes; see 'slipway logs console'`,
  );
  t.equal(machines.machines.length, 6);
  t.ok(lines.includes('starting it again'));
  await supervisor.restart();
  pass(600_000);
  const again = until((now) => now.state === 'running' && now.restarts === 6);
  machines.machines.at(-1)!.set(panic);
  await again;
});

t.test('a machine that is lost or powered off stays down and says why', async (t) => {
  for (const end of [
    { state: 'failed', ended: 'lost', reason: 'slipway-vmm was killed' },
    { state: 'stopped', ended: 'poweroff', reason: 'the guest powered off' },
  ] as const) {
    const { supervisor, machines, docker } = await setUp();
    await supervisor.open();
    machines.machines[0]!.set(end);
    t.match(supervisor.status(), { state: end.state, reason: end.reason });
    t.equal(docker.asking, false);
    t.equal(machines.machines.length, 1);
  }
});

t.test('settings that ask for a restart wait for it, the rest do not', async (t) => {
  const { supervisor, settings, machines, networks } = await setUp();
  await supervisor.open();
  await supervisor.ports.request(request);
  t.same(networks[0]!.listening, ['127.0.0.1:8080']);
  const rebound = firstValueFrom(supervisor.ports.changes);
  await settings.set({ 'ports.bind': '0.0.0.0', 'vm.memory': '1024' });
  await rebound;
  t.same(networks[0]!.listening, ['0.0.0.0:8080']);
  t.same(supervisor.status().pendingRestart, ['vm.memory']);
  await supervisor.restart();
  t.same(supervisor.status().pendingRestart, []);
  t.equal(machines.machines[1]!.spec.memoryMiB, 1024);
  t.same(
    networks.map(({ open }) => open),
    [false, true],
  );
});

t.test('pause and resume, in the right states only', async (t) => {
  const { supervisor, docker } = await setUp();
  await t.rejects(supervisor.pause(), { code: 'STATE', message: 'the VM is stopped, not running' });
  t.throws(() => supervisor.policy(), { code: 'STATE', message: 'the VM is stopped: it has no network with a policy' });
  await supervisor.open();
  docker.start();
  t.equal(supervisor.policy().hostLoopback, 'list');
  await supervisor.pause();
  t.equal(supervisor.status().state, 'paused');
  t.equal(docker.asking, true, 'Docker is still there');
  await t.rejects(supervisor.pause(), { message: 'the VM is paused, not running' });
  await supervisor.resume();
  t.equal(supervisor.status().state, 'running');
});

t.test('one operation at a time', async (t) => {
  const { supervisor, machines } = await setUp();
  const opening = supervisor.open();
  await t.rejects(supervisor.restart(), { code: 'STATE', message: /the platform is starting; try again/ });
  const ending = supervisor.shutdown();
  await opening;
  await ending;
  t.match(machines.machines[0]!.status(), { ended: 'asked' }, 'a shutdown waits for its turn');
});

t.test('shutdown stops the machine and the network, and says that it is done', async (t) => {
  const { supervisor, machines, networks } = await setUp();
  await supervisor.open();
  await supervisor.shutdown();
  await supervisor.finished;
  t.equal(machines.machines[0]!.status().ended, 'asked');
  t.equal(networks[0]!.open, false);
  t.match(supervisor.status(), { state: 'stopped' });
});

t.test('release leaves the machine running', async (t) => {
  const { supervisor, machines, networks } = await setUp();
  await supervisor.open();
  await supervisor.ports.request(request);
  await supervisor.release();
  t.equal(machines.machines[0]!.status().state, 'running');
  t.same(networks[0]!.listening, []);
  t.equal(networks[0]!.open, false);
});
