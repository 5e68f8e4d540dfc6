/**
 * The composition root of the whole: settings and adapters become a running platform. The VM runs in `slipway-vmm`,
 * which outlives this process; the network core is here and connects to QEMU's socket, again and again, so that either
 * side may be replaced under the other.
 */

import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { BehaviorSubject, pairwise } from 'rxjs';
import { ContainerNames } from './api/container-names.ts';
import { DockerProbe } from './api/docker-probe.ts';
import { CaptureSetting } from './cli/capture-setting.ts';
import type { Database } from './config/database.ts';
import type { SettingsPort } from './config/port.ts';
import { defaults, type LogLevel, type Settings, settingNames } from './config/schema.ts';
import { selectSettings } from './config/select-settings.ts';
import { mirrorState } from './config/state-mirror.ts';
import { NinepServer } from './fs/adapter/ninep-server.ts';
import { databaseExport } from './fs/datakit/database-export.ts';
import type { Owner } from './fs/ninep/connection.ts';
import type { Home } from './home.ts';
import type { MachineHost } from './hypervisor/keeper.ts';
import { EitherLink } from './hypervisor/link/either-link.ts';
import { QemuStreamLink } from './hypervisor/link/qemu-stream.ts';
import type { VhostUserNetLink } from './hypervisor/link/vhost-user-net.ts';
import type { MachineSpec } from './hypervisor/port.ts';
import { VmmHost, type VmmMachine } from './hypervisor/vmm-client.ts';
import { Network } from './network.ts';
import { currentCredential } from './proxy/adapter/credential-file.ts';
import { EntranceSetting } from './proxy/adapter/entrance-setting.ts';
import { hostNetworks } from './proxy/adapter/host-networks.ts';
import { PublishingSocket } from './proxy/adapter/publishing-socket.ts';
import { unprivilegedPortStart } from './proxy/adapter/unprivileged-ports.ts';
import { parseNameServers } from './proxy/dns/name-servers.ts';
import { parseDnsRecords } from './proxy/dns/records.ts';
import { parseDnsZones } from './proxy/dns/zones.ts';
import { freeSubnet, freeSubnet6 } from './proxy/free-subnet.ts';
import { parseProxySettings } from './proxy/http-proxy/settings.ts';
import { parsePortRanges } from './proxy/policy/port-ranges.ts';
import { parsePolicyRules } from './proxy/policy/rule.ts';
import type { HostPorts } from './proxy/policy.ts';
import type { DnsChoices } from './proxy/port.ts';
import type { PublishRules } from './proxy/published-ports.ts';
import { guestSubnet6, hostOf6 } from './proxy/subnet6.ts';
import { parseConditions } from './stack/link/conditions.ts';
import { formatAddress, parseSubnet, type Subnet } from './stack/wire/address.ts';
import { type InForce, type NetworkCore, type Subnets, Supervisor } from './supervisor.ts';

const GIB = 2 ** 30;

export interface PlatformOptions {
  readonly home: Home;
  readonly settings: SettingsPort;
  /** Where the settings lie, and what is in force is mirrored. */
  readonly database: Database;
  /** Directory of the guest's built image. */
  readonly imageDirectory: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly tools: ConstructorParameters<typeof VmmHost>[0]['tools'];
  readonly log: (line: string, level?: LogLevel) => void;
}

export interface Platform {
  readonly supervisor: Supervisor;
  /** Lets go of everything but the VM, which runs on. */
  release(): Promise<void>;
}

/** Assembles the platform and begins to attach to the VM or to start it; `supervisor.status()` tells how that goes. */
export async function startPlatform(options: PlatformOptions): Promise<Platform> {
  const { home, settings, log } = options;
  const warn = (line: string): void => log(line, 'warning');
  const vmm = new VmmHost({ paths: home, tools: options.tools });
  let vmmPid: number | undefined;
  const note = <M extends VmmMachine | undefined>(machine: M): M => {
    vmmPid = machine?.vmmPid;
    machine?.onStatus(({ state }) => {
      if (state === 'stopped' || state === 'failed') vmmPid = undefined;
    });
    return machine;
  };
  const machines: MachineHost = {
    attach: async () => note(await vmm.attach()),
    start: async (spec) => note(await vmm.start(spec)),
  };
  const vhostUserNet = await loadVhostUserNet(log);
  const docker = new DockerProbe(home.dockerSocket);
  const supervisor = new Supervisor({
    settings,
    machines,
    docker,
    specify: (inForce) => specify(home, inForce, options.imageDirectory, vhostUserNet !== undefined),
    openNetwork: (inForce) => openNetwork(home, inForce, vhostUserNet, log),
    publishRules,
    chooseSubnets,
    inForce: {
      load: () => loadInForce(home.inForceFile),
      store: (inForce) => writeFileSync(home.inForceFile, JSON.stringify(inForce), { mode: 0o600 }),
    },
    facts: () => ({
      home: home.directory,
      sockets: {
        docker: home.dockerSocket,
        api: home.apiSocket,
        connect: home.connectSocket,
        database: home.databaseSocket,
      },
      versions: options.versions,
      pids: { slipway: process.pid, ...(vmmPid !== undefined && { vmm: vmmPid }) },
    }),
    nowMs: () => Date.now(),
    log,
  });
  const publishing = await PublishingSocket.listen({
    path: home.publishSocket,
    ports: supervisor.ports,
    answered: (request, answer) => log(`publishing: ${request}: ${answer}`),
  });
  const tree = await NinepServer.listen({
    path: home.databaseSocket,
    served: databaseExport({ database: options.database, access: 'host', owner: owner() }),
    log: warn,
  });
  const guestTree = await NinepServer.listen({
    path: home.guestDatabaseSocket,
    served: databaseExport({ database: options.database, access: 'guest', owner: { name: 'root', uid: 0, gid: 0 } }),
    connections: 16,
    log: warn,
  });
  const mirror = mirrorState(options.database, supervisor.inForce, (problem) => warn(`branch 'state': ${problem}`));
  const changes = supervisor.inForce.pipe(pairwise()).subscribe(([before, now]) => {
    for (const name of settingNames) if (now[name] !== before[name]) log(`in force: ${name}`, 'debug');
  });
  void supervisor.open();
  return {
    supervisor,
    release: async () => {
      publishing.close();
      mirror.unsubscribe();
      changes.unsubscribe();
      await Promise.all([tree.close(), guestTree.close()]);
      await supervisor.release();
      await docker.close();
    },
  };
}

/** Whose the files of the database are to its 9P clients: a user id may have no name. */
function owner(): Owner {
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
  try {
    return { name: userInfo().username, uid, gid };
  } catch {
    return { name: String(uid), uid, gid };
  }
}

/** The network core, on QEMU's socket; it dials until the machine is there. */
function openNetwork(
  home: Home,
  { settings, subnet, subnet6 }: InForce,
  VhostUserNet: typeof VhostUserNetLink | undefined,
  log: PlatformOptions['log'],
): NetworkCore {
  const mtu = settings['network.mtu'];
  const network = new Network({
    subnet,
    subnet6,
    mtu,
    guestMacAddress: macAddress(home),
    hostLoopback: hostPorts(settings),
  });
  const stream = QemuStreamLink.connect(home.networkSocket, { mtu, memory: network.memory, report: log });
  const dialled = VhostUserNet && new VhostUserNet(home.vhostUserSocket, { mtu, dial: true, report: log });
  const link = dialled ? new EitherLink(stream, dialled) : stream;
  network.attach(link);
  const live = new BehaviorSubject(settings);
  live
    .pipe(selectSettings('network.dns', 'network.dnsZones', 'network.dnsSearch', 'network.hostsFile'))
    .subscribe((now) => {
      try {
        network.useDns(dnsChoices(now));
      } catch (error) {
        log(`names: ${(error as Error).message}; what was in force stays`);
      }
    });
  live.pipe(selectSettings('network.dnsRecords')).subscribe((now) => {
    try {
      network.useDnsRecords(parseDnsRecords(now['network.dnsRecords']));
    } catch (error) {
      log(`network.dnsRecords: ${(error as Error).message}; what was in force stays`);
    }
  });
  live.pipe(selectSettings('network.conditions')).subscribe((now) => {
    try {
      network.useConditions(parseConditions(now['network.conditions']));
    } catch (error) {
      log(`network.conditions: ${(error as Error).message}; what was in force stays`, 'warning');
    }
  });
  live
    .pipe(selectSettings('policy.hostLoopback', 'policy.hostPorts'))
    .subscribe((now) => network.useHostPorts(hostPorts(now)));
  live.pipe(selectSettings('policy.rules')).subscribe((now) => {
    try {
      network.usePolicyRules(parsePolicyRules(now['policy.rules']));
    } catch (error) {
      log(`policy.rules: ${(error as Error).message}; what was in force stays`, 'warning');
    }
  });
  const proxies = ['network.httpProxy', 'network.httpsProxy', 'network.noProxy', 'network.proxyRefusal'] as const;
  const credential = (): string | undefined => currentCredential(home.proxyCredential, log);
  live.pipe(selectSettings(...proxies)).subscribe((now) => {
    const [httpProxy, httpsProxy, noProxy, refusal] = proxies.map((name) => now[name]) as [
      string,
      string,
      string,
      string,
    ];
    try {
      void network.useHttpProxy(parseProxySettings({ httpProxy, httpsProxy, noProxy, refusal, credential }));
    } catch (error) {
      log(`network.${(error as Error).message}; what was in force stays`, 'warning');
    }
  });
  const names = new ContainerNames(home.dockerSocket);
  const entrance = new EntranceSetting({
    socketPath: home.entranceSocket,
    credentialPath: home.entranceCredential,
    open: (at, credential) => network.openEntrance({ at, credential, names }),
    log,
  });
  const captured = new CaptureSetting({
    path: join(home.logsDirectory, 'capture.pcapng'),
    open: (what) => network.capture(what),
    log,
  });
  live.pipe(selectSettings('network.capture')).subscribe((now) => void captured.use(now['network.capture']));
  live.pipe(selectSettings('network.entrance')).subscribe((now) => void entrance.use(now['network.entrance']));
  return {
    get connected() {
      return link.attached;
    },
    flows: () => network.flows(),
    drops: () => network.drops(),
    capture: (options) => network.capture(options),
    dns: (after) => network.dns(after),
    addressesOf: (name) => network.addressesOf(name),
    policy: () => network.policy(),
    checkPolicy: (host, question) => network.checkPolicy(host, question),
    expose: (request) => network.expose(request),
    apply: (changed) => live.next(changed),
    close: () => {
      live.complete();
      entrance.close();
      void captured.close();
      void names.close();
      network.close();
    },
  };
}

/** What is asked for names instead of the host's own. */
function dnsChoices(settings: Settings): DnsChoices {
  return {
    servers: parseNameServers(settings['network.dns']),
    zones: parseDnsZones(settings['network.dnsZones']),
    search: words(settings['network.dnsSearch']),
    hostsFile: settings['network.hostsFile'],
  };
}

/** Ports of the host that guests may have. */
function hostPorts(settings: Settings): HostPorts {
  const ports = parsePortRanges(settings['policy.hostPorts']);
  return ports ? { mode: settings['policy.hostLoopback'], ports } : { mode: 'ask' };
}

/** The network's own address, the gateway and the host alias, which are never a container's. */
function hostAddresses(subnet: string, subnet6: Subnet | undefined): string[] {
  const [network = ''] = subnet.split('/');
  const own = [`${network}/31`, network.replace(/\d+$/, (last) => `${Number(last) + 2}/32`)];
  if (!subnet6) return own;
  return [...own, `${formatAddress(hostOf6(subnet6, 0))}/127`, `${formatAddress(hostOf6(subnet6, 2))}/128`];
}

/** The guest's IPv6 network; undefined: it has none. */
function guestNetwork6({ subnet, subnet6 }: Subnets): Subnet | undefined {
  return guestSubnet6(subnet6, parseSubnet(subnet)!);
}

/** Linux alone has it; where its system calls cannot be had frames travel by the stream. */
async function loadVhostUserNet(log: (line: string) => void): Promise<typeof VhostUserNetLink | undefined> {
  if (process.platform !== 'linux') return undefined;
  try {
    return (await import('./hypervisor/link/vhost-user-net.ts')).VhostUserNetLink;
  } catch (error) {
    log(`no vhost-user here: ${(error as Error).message}`);
    return undefined;
  }
}

function specify(home: Home, inForce: InForce, imageDirectory: string, vhostUser: boolean): MachineSpec {
  const { settings } = inForce;
  return {
    imageDirectory,
    dataDisk: { path: home.dataDisk, sizeOctets: settings['vm.disk'] * GIB },
    memoryMiB: settings['vm.memory'],
    cpus: settings['vm.cpus'],
    mtu: settings['network.mtu'],
    macAddress: [...macAddress(home)].map((octet) => octet.toString(16).padStart(2, '0')).join(':'),
    kernelArguments: [`slipway.hostname=${settings['vm.hostname']}`, ...guestAddress6(inForce)],
    accelerator: settings['vm.accelerator'],
    channel: settings['vm.channel'],
    networkSocket: home.networkSocket,
    ...(vhostUser && settings['network.link'] === 'auto' && { vhostUserSocket: home.vhostUserSocket }),
    socketDirectory: home.directory,
  };
}

/** The VM's IPv6 address, which it takes as it comes up; router advertisements tell it everything else. */
function guestAddress6(inForce: InForce): string[] {
  const subnet6 = guestNetwork6(inForce);
  return subnet6 ? [`slipway.address6=${formatAddress(hostOf6(subnet6, 3))}/64`] : [];
}

/** Locally administered, and the same at every start of the same home. */
function macAddress(home: Home): Uint8Array {
  return Uint8Array.of(0x02, ...createHash('sha256').update(home.directory).digest().subarray(0, 5));
}

const words = (text: string): string[] =>
  text
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '');

function publishRules(inForce: InForce): PublishRules {
  const { settings, subnet } = inForce;
  const subnet6 = guestNetwork6(inForce);
  return {
    bind: words(settings['ports.bind']),
    reserved: words(settings['ports.reserved']).map((range) => {
      const [first, last = first] = range.split('-').map(Number) as [number, number?];
      return [first, last] as const;
    }),
    limit: settings['ports.limit'],
    unprivilegedFrom: settings['ports.privileged'] === 'allow' ? 0 : unprivilegedPortStart(),
    hostAddresses: hostAddresses(subnet, subnet6),
    ipv6: subnet6 !== undefined,
  };
}

/** Defaults move away from the host's own networks; a choice of the user's stands. */
function chooseSubnets({ current, chosen }: SettingsPort): Subnets {
  const taken = hostNetworks();
  const wanted = current['network.subnet'];
  const subnet = chosen['network.subnet'] === undefined ? freeSubnet(wanted, taken) : wanted;
  return { subnet, subnet6: freeSubnet6(current['network.subnet6'], parseSubnet(subnet)!, taken) };
}

/** Written by ourselves, perhaps by another version; what cannot be read is as if it were not there. */
function loadInForce(path: string): InForce | undefined {
  try {
    const { settings, subnet, subnet6 } = JSON.parse(readFileSync(path, 'utf8')) as InForce;
    const all = { ...defaults, ...settings };
    return { settings: all, subnet: subnet ?? all['network.subnet'], subnet6: subnet6 ?? all['network.subnet6'] };
  } catch {
    return undefined;
  }
}
