/**
 * Every setting: its type, default, range, unit, what restarts when it changes, and its documentation. The one place
 * that validation, `slipway config` and the documentation are made from.
 */

import { checkDaemonJson, checkSysctls } from './guest-settings.ts';
import {
  checkAddresses,
  checkConditions,
  checkDomains,
  checkEntrance,
  checkHostname,
  checkNoProxy,
  checkPath,
  checkPorts,
  checkProxy,
  checkRecords,
  checkRules,
  checkServers,
  checkSubnet,
  checkSubnet6,
  checkZones,
} from './setting-values.ts';

export interface Settings {
  /** Memory of the VM, in MiB. */
  readonly 'vm.memory': number;
  /** Virtual CPUs. */
  readonly 'vm.cpus': number;
  /** Largest size of the data disk, in GiB; the file grows with use. */
  readonly 'vm.disk': number;
  /** The VM's own name. */
  readonly 'vm.hostname': string;
  /** Kernel settings of the guest, NAME=VALUE. */
  readonly 'vm.sysctl': string;
  readonly 'vm.accelerator': 'auto' | 'kvm' | 'hvf' | 'whpx' | 'tcg';
  /** How streams between host and guest travel. */
  readonly 'vm.channel': 'auto' | 'vsock' | 'serial';
  /** The guest's network, in CIDR form. */
  readonly 'network.subnet': string;
  /** The guest's IPv6 network, a /64; auto: one that goes with the subnet; off: none. */
  readonly 'network.subnet6': string;
  /** Largest IP packet of the guest's network, in octets. */
  readonly 'network.mtu': number;
  /** How frames travel between the guest and the network core. */
  readonly 'network.link': 'auto' | 'stream';
  /** DNS servers of the host to forward to, comma-separated ADDRESS[#PORT]; empty: the host's own. */
  readonly 'network.dns': string;
  /** Zones whose names are asked of servers of their own, `ZONE=ADDRESS[#PORT],...` set apart by `;`. */
  readonly 'network.dnsZones': string;
  /** Names that are answered here, `NAME=ADDRESS,...` or `NAME=NAME` set apart by `;`. */
  readonly 'network.dnsRecords': string;
  /** Search domains, comma-separated; empty: the host's own. */
  readonly 'network.dnsSearch': string;
  /** The hosts file whose names guests are told; empty: none. */
  readonly 'network.hostsFile': string;
  /** What makes the guest's network worse; empty: nothing. */
  readonly 'network.conditions': string;
  /** What guests may reach, as rules; the first that is about a flow decides. */
  readonly 'policy.rules': string;
  /** Which ports of the host's loopback guests may have, at the host alias. */
  readonly 'policy.hostLoopback': 'ask' | 'list' | 'all';
  /** Ports of the host that guests may have, comma-separated ports and ranges. */
  readonly 'policy.hostPorts': string;
  /** The proxy that containers' HTTP goes through; empty: none. */
  readonly 'network.httpProxy': string;
  /** The proxy that containers' HTTPS goes through; empty: none. */
  readonly 'network.httpsProxy': string;
  /** What goes through no proxy: names, addresses and networks. */
  readonly 'network.noProxy': string;
  /** What a container is told, by HTTP, of a host that the policy refuses. */
  readonly 'network.proxyRefusal': string;
  /** Where the host gets to containers by SOCKS 5 and HTTP: a loopback address and port, `socket`, or empty: nowhere. */
  readonly 'network.entrance': string;
  /** dockerd's own settings, a JSON object, over those of the image; empty: none. */
  readonly 'docker.daemonJson': string;
  /** Which frames are captured, in tcpdump's words, `all`, or empty: none. */
  readonly 'network.capture': string;
  /** Of the daemon's log: what is told from which importance on. */
  readonly 'logs.level': LogLevel;
  /** Addresses that published ports without an address of their own bind, comma-separated. */
  readonly 'ports.bind': string;
  /** Host ports that the guest cannot take, comma-separated ports and ranges. */
  readonly 'ports.reserved': string;
  /** Most listeners that the guest may have on the host. */
  readonly 'ports.limit': number;
  /** Whether the guest may take privileged ports of the host (below 1024, or what the host's sysctl says). */
  readonly 'ports.privileged': 'refuse' | 'allow';
}

export type SettingName = keyof Settings;

/** From what is wrong alone to whatever may help to find out why. */
export type LogLevel = 'warning' | 'info' | 'debug';

export interface SettingRule<T> {
  readonly default: T;
  readonly unit?: string;
  readonly restarts: 'nothing' | 'vm';
  readonly summary: string;
  /** What the summary has no room for, in whole sentences. */
  readonly details?: string;
  readonly choices?: readonly string[];
  readonly range?: readonly [number, number];
  /** A password may be in it by mistake: what is wrong with a value is told without the value. */
  readonly untold?: true;
  /** Says what is wrong with a value of the right type, or undefined. */
  readonly check?: (value: T) => string | undefined;
}

export const schema: { readonly [K in SettingName]: SettingRule<Settings[K]> } = {
  'vm.memory': { default: 2048, unit: 'MiB', range: [512, 1 << 20], restarts: 'vm', summary: 'memory of the VM' },
  'vm.cpus': { default: 2, range: [1, 64], restarts: 'vm', summary: 'virtual CPUs' },
  'vm.disk': {
    default: 64,
    unit: 'GiB',
    range: [1, 16384],
    restarts: 'vm',
    summary: 'largest size of the data disk',
    details: 'The disk is a file that grows with use. It can be made larger, not smaller.',
  },
  'vm.hostname': { default: 'slipway', restarts: 'nothing', summary: "the VM's own name", check: checkHostname },
  'vm.sysctl': {
    default: '',
    restarts: 'nothing',
    summary: "settings of the guest's kernel, such as net.core.somaxconn=4096;vm.swappiness=10",
    details:
      'Set apart by `;` or line ends. One that is no longer set gets back the value that it had. What the kernel refuses is told in the log.',
    check: checkSysctls,
  },
  'vm.accelerator': {
    default: 'auto',
    choices: ['auto', 'kvm', 'hvf', 'whpx', 'tcg'],
    restarts: 'vm',
    summary: 'how the VM runs; auto takes what proves to work',
    details: "`kvm`, `hvf` and `whpx` are the hardware's help on Linux, macOS and Windows; `tcg` is emulation.",
  },
  'vm.channel': {
    default: 'auto',
    choices: ['auto', 'vsock', 'serial'],
    restarts: 'vm',
    summary: 'how streams between host and guest travel',
  },
  'network.subnet': {
    default: '192.168.65.0/24',
    restarts: 'vm',
    summary: "the guest's network",
    details: 'The default moves away from a network that the host has itself; a choice stands.',
    check: checkSubnet,
  },
  'network.subnet6': {
    default: 'auto',
    restarts: 'vm',
    summary: "the guest's IPv6 network, a /64; auto: a unique local one that goes with network.subnet; off: none",
    details:
      'Host numbers are those of `network.subnet`: the gateway is ::1, the host ::2, the VM ::3. Of auto, it moves away from a network that the host has itself.',
    check: checkSubnet6,
  },
  'network.mtu': { default: 1500, unit: 'octets', range: [576, 65520], restarts: 'vm', summary: 'largest IP packet' },
  'network.link': {
    default: 'auto',
    choices: ['auto', 'stream'],
    restarts: 'vm',
    summary: "how frames travel; auto takes vhost-user where the guest's memory can be shared",
  },
  'network.dns': {
    default: '',
    restarts: 'nothing',
    summary: "DNS servers to forward to, ADDRESS[#PORT] or fe80::1%eth0; empty: the host's own",
    check: checkServers,
  },
  'network.dnsZones': {
    default: '',
    restarts: 'nothing',
    summary: 'names that go to servers of their own, such as corp=10.0.0.53; lab.example=10.1.0.53#5353',
    details:
      'A zone is its name and every name below it; of several the smallest decides. Its names go to its servers, separated by `,`, and to nobody else, also when those fail.',
    check: checkZones,
  },
  'network.dnsRecords': {
    default: '',
    restarts: 'nothing',
    summary: 'names that Slipway answers itself, such as *.dev.test=192.168.65.2; db.test=10.0.0.5,fd00::5',
    details:
      '`*.dev.test` is every name below dev.test that has no record of its own; `www.test=www.example.org` makes a name an alias. They go ahead of the hosts file and of all servers.',
    check: checkRecords,
  },
  'network.dnsSearch': {
    default: '',
    restarts: 'nothing',
    summary: "search domains that the guest is told by DHCP, comma-separated; empty: the host's own",
    check: checkDomains,
  },
  'network.hostsFile': {
    default: '/etc/hosts',
    restarts: 'nothing',
    summary: 'the hosts file whose names containers are told too; empty: none',
    details:
      'Names that it has for the loopback of the host lead to `host.docker.internal`, but localhost and its like. A change counts with the next query.',
    check: checkPath,
  },
  'network.conditions': {
    default: '',
    restarts: 'nothing',
    summary: "what makes the guest's network worse, such as delay=40ms,loss=1%",
    details:
      'Rules are set apart by `;`, and the first that is about a frame holds: `direction=up|down`, `to=10.0.0.0/8`; `delay=40ms`, `jitter=5ms`, `loss=1%`, `burst=1%/25%`, `rate=10mbit`, `queue=64k`, `reorder=1%`, `duplicate=1%`, `corrupt=1%`, `seed=1`.',
    check: checkConditions,
  },
  'policy.rules': {
    default: '',
    restarts: 'nothing',
    summary: 'what the guest may reach, such as deny 10.0.0.0/8; allow *.example.org port 443; deny any',
    details:
      'A rule is `allow|deny [out|in] [tcp|udp|icmp] [ADDRESS|CIDR|NAME|any] [port PORT[-LAST],...]`; rules are set apart by `;` or line ends, `#` begins a comment. The first that is about a flow decides; what none is about is allowed. `in` is about what comes to published ports: the client and the port of the host. `example.org` is one name, `*.example.org` all below it, `.example.org` both; a name means the addresses that the guest was told for it, until their time is over. Flows that are open and would be denied now end. `slipway net policy check ADDRESS PORT` says which rule decides.',
    check: checkRules,
  },
  'policy.hostLoopback': {
    default: 'list',
    choices: ['ask', 'list', 'all'],
    restarts: 'nothing',
    summary: "ports of the host's loopback that the guest may have at host.docker.internal",
    details:
      "`list`: those of `policy.hostPorts`, or while that is empty every port but Docker's API (2375, 2376) and Slipway's own. `ask`: those of `policy.hostPorts` alone; what else the guest tries is refused at once and shown by `slipway net policy`, for you to add. `all`: every port. The same holds for the host's other addresses.",
  },
  'policy.hostPorts': {
    default: '',
    restarts: 'nothing',
    summary: 'ports of the host that the guest may have, such as 5432,8000-8100',
    check: checkPorts,
  },
  'network.httpProxy': {
    default: '',
    restarts: 'nothing',
    summary: "the proxy that containers' HTTP goes through, such as http://proxy.example.org:3128; empty: none",
    details:
      "Containers need not know: connections to port 80 are taken to it. One that they can be told of is at `http://http.docker.internal:3128`, with an upstream proxy or without. dockerd asks that one itself, for whatever port, from its next start on. The proxy's user and password, if it wants some, are the line USER:PASSWORD of `$SLIPWAY_HOME/proxy.credential` (mode 600), for settings can be read in the guest. The proxy itself may listen on the loopback of the host.",
    untold: true,
    check: checkProxy,
  },
  'network.httpsProxy': {
    default: '',
    restarts: 'nothing',
    summary: "the proxy that containers' HTTPS goes through; empty: none",
    details:
      'Connections to port 443 are taken to it by CONNECT, with the name that the client says in the open (SNI), or the address where it says none or an encrypted one. Of what they say nothing else is read.',
    untold: true,
    check: checkProxy,
  },
  'network.noProxy': {
    default: '',
    restarts: 'nothing',
    summary: 'what goes through no proxy, such as .example.org,10.0.0.0/8,registry.local:5000',
    details:
      'Set apart by commas or blanks: a name (`example.org`, `.example.org` and `*.example.org` all mean it and what is below it), an address, each with a port if it is about that alone, a network, or `*` for everything. HTTPS is known by its SNI; of names that go by an address the address counts too.',
    check: checkNoProxy,
  },
  'network.proxyRefusal': {
    default: '',
    restarts: 'nothing',
    summary: 'what a container is told by HTTP (403) of a host that the policy refuses; %s is the host',
  },
  'network.entrance': {
    default: '',
    restarts: 'nothing',
    summary: 'where the host reaches containers by SOCKS 5 and HTTP; empty: nowhere',
    details:
      '`socket` is `$SLIPWAY_HOME/entrance.sock`; a loopback address and port, such as `127.0.0.1:1080`, asks for what `$SLIPWAY_HOME/entrance.credential` says. Through it every container is at its own address and as `NAME.container.slipway.internal`.',
    check: checkEntrance,
  },
  'network.capture': {
    default: '',
    restarts: 'nothing',
    summary: 'frames of the guest to capture, such as tcp port 80 and not host 10.0.0.1; all: every one; empty: none',
    details:
      "In tcpdump's words. They go into `$SLIPWAY_HOME/logs/capture.pcapng`, for Wireshark, the file before is `capture.pcapng.1`; each is at most 64 MiB. `slipway net capture` captures without a setting.",
    check: (value) => (/^[\x20-\x7e]{0,1000}$/.test(value) ? undefined : 'is no filter'),
  },
  'logs.level': {
    default: 'info',
    choices: ['warning', 'info', 'debug'],
    restarts: 'nothing',
    summary: "what the daemon's log tells: what is wrong, what happens, or whatever may help to find out why",
  },
  'docker.daemonJson': {
    default: '',
    restarts: 'nothing',
    summary: 'settings of dockerd, such as {"registry-mirrors": ["https://mirror.example.org"]}',
    details:
      'A JSON object as in `/etc/docker/daemon.json`, each key in place of the image\'s own. dockerd takes over at once: `debug`, `labels`, `live-restore`, `max-concurrent-downloads`, `max-concurrent-uploads`, `max-download-attempts`, `default-runtime`, `runtimes`, `authorization-plugins`, `insecure-registries`, `registry-mirrors`, `shutdown-timeout`, `features`. A change of another key starts dockerd again, which stops containers unless `"live-restore": true` is among the keys; those with a restart policy come back. What dockerd refuses is told in the log, and what was in force stays.',
    check: checkDaemonJson,
  },
  'ports.bind': {
    default: '127.0.0.1,::1',
    restarts: 'nothing',
    summary: 'addresses that published ports without an address of their own bind',
    check: checkAddresses,
  },
  'ports.reserved': {
    default: '',
    restarts: 'nothing',
    summary: 'host ports the guest cannot take, such as 5432,8000-8100',
    check: checkPorts,
  },
  'ports.limit': {
    default: 1024,
    range: [0, 32768],
    restarts: 'nothing',
    summary: 'most listeners the guest may have',
  },
  'ports.privileged': {
    default: 'refuse',
    choices: ['refuse', 'allow'],
    restarts: 'nothing',
    summary: 'host ports below 1024 (or the sysctl net.ipv4.ip_unprivileged_port_start) for the guest',
  },
};

/** Where the database says which schema its settings follow. */
export const VERSION_PATH = 'schema-version';

/** Where a setting lies in the database: `vm.memory` is the file `vm/memory`. */
export function settingPath(name: SettingName): string {
  return name.replaceAll('.', '/');
}

/** The setting that a path of the database is for. */
export function settingAt(path: string): SettingName | undefined {
  const name = path.replaceAll('/', '.');
  return Object.hasOwn(schema, name) && settingPath(name as SettingName) === path ? (name as SettingName) : undefined;
}

export const settingNames = Object.keys(schema) as SettingName[];

export const defaults: Settings = Object.freeze(
  Object.fromEntries(settingNames.map((name) => [name, schema[name].default])),
) as unknown as Settings;

/** Reads one value from text; throws an Error that names the setting, what is wrong and what would do. */
export function parseSetting<K extends SettingName>(name: K, text: string): Settings[K] {
  const rule = Object.hasOwn(schema, name) ? (schema[name] as SettingRule<unknown>) : undefined;
  if (!rule) throw new Error(`there is no setting '${name}'; the settings are ${settingNames.join(', ')}`);
  let value: unknown = text;
  if (typeof rule.default === 'number') {
    value = Number(text);
    if (!/^\d+$/.test(text)) throw new Error(`${name} must be a whole number, not '${text}'`);
  }
  if (rule.choices && !rule.choices.includes(text))
    throw new Error(`${name} must be one of ${rule.choices.join(', ')}, not '${text}'`);
  if (rule.range && ((value as number) < rule.range[0] || (value as number) > rule.range[1]))
    throw new Error(
      `${name} must be from ${rule.range[0]} to ${rule.range[1]}${rule.unit ? ` ${rule.unit}` : ''}, not ${text}`,
    );
  const problem = rule.check?.(value);
  if (problem) throw new Error(rule.untold ? `${name} ${problem}` : `${name} = '${text}' ${problem}`);
  return value as Settings[K];
}
