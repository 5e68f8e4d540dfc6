/** `slipway net serve`: the network core alone on an attachment, in the foreground until SIGTERM. */

import { closeSync, statSync, writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { parseSetting } from '../config/schema.ts';
import { QemuStreamLink } from '../hypervisor/link/qemu-stream.ts';
import { Network, type NetworkOptions } from '../network.ts';
import { parseNameServers } from '../proxy/dns/name-servers.ts';
import { formatAddress } from '../stack/wire/address.ts';
import { type PublishSpec, parsePublishSpec } from './publish-spec.ts';
import { UsageError } from './usage-error.ts';

const help = `usage: slipway net serve --qemu PATH|connect:PATH [OPTIONS]

Runs the network core alone, in the foreground: DHCP, DNS, NAT to the host's sockets and published ports for
whoever is attached. Prints 'ready' when it is; SIGTERM ends it.

  --qemu PATH           listen on a unix socket for QEMU's -netdev stream,server=off
  --qemu connect:PATH   connect to a QEMU with server=on, and again whenever it is gone
  --mtu N               largest IP packet, 576 to 65520 (default 1500)
  --subnet CIDR         the guests' network (default 192.168.65.0/24): gateway and DNS .1, host .2, first guest .3
  --publish SPEC        publish a port of a guest on the host; may be repeated. SPEC is
                        [tcp|udp:][HOSTIP:]HOSTPORT[-LAST]:[GUESTIP:]GUESTPORT[-LAST], IPv6 addresses in brackets;
                        without HOSTIP 127.0.0.1 and ::1, without GUESTIP the first guest
  --dns FILE|ADDR       name servers: a file such as /etc/resolv.conf (the default), or ADDR[#PORT][,...]
  --ready-fd N          when ready, write a line to this file descriptor too, and close it
  -h, --help            show this help

Example:
  $ slipway net serve --qemu /tmp/net.sock --publish 8080:80
  $ qemu-system-x86_64 ... -netdev stream,id=n,server=off,addr.type=unix,addr.path=/tmp/net.sock \\
      -device virtio-net-pci,netdev=n
`;

/** Attachments and options of the network core that this version has not. */
const absent = ['vhost-user', 'vmnet', 'vfkit', 'tap', 'netns', 'configure', 'pcap', 'policy', 'api'];

interface ServeOptions extends NetworkOptions {
  readonly qemu: string;
  readonly publish: readonly PublishSpec[];
  readonly readyFd: number | undefined;
}

export async function run(argv: readonly string[]): Promise<number> {
  const options = parse(argv);
  if (!options) {
    process.stdout.write(help);
    return 0;
  }
  const report = (line: string): void => void process.stderr.write(`slipway: ${line}\n`);
  const network = new Network(options);
  try {
    const link = await attachment(options, report);
    network.attach(link);
    for (const spec of options.publish) await publish(network, spec);
  } catch (error) {
    network.close();
    throw error;
  }
  const ended = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve());
  });
  process.stdout.write('ready\n');
  if (options.readyFd !== undefined) tellReady(options.readyFd);
  await ended;
  network.close();
  // Flows that are still open would keep the process; the sockets' files are gone by now.
  process.exit(0);
}

function parse(argv: readonly string[]): ServeOptions | undefined {
  const one = { type: 'string' } as const;
  const flag = { type: 'boolean' } as const;
  const { values } = usage(() =>
    parseArgs({
      args: [...argv],
      options: {
        help: { ...flag, short: 'h' },
        qemu: one,
        mtu: one,
        subnet: one,
        publish: { ...one, multiple: true },
        dns: one,
        'ready-fd': one,
        ...Object.fromEntries(absent.map((name) => [name, name === 'configure' ? flag : one])),
      },
    }),
  );
  if (values.help) return undefined;
  const given = absent.find((name) => name in values);
  if (given) throw new UsageError(`--${given} is not part of this version; attach with --qemu`);
  const { qemu, mtu = '1500', subnet = '192.168.65.0/24', publish = [], dns, 'ready-fd': readyFd } = values;
  if (!qemu || qemu === 'connect:') throw new UsageError('say what to attach to: --qemu PATH, or --qemu connect:PATH');
  if (readyFd !== undefined && !/^\d{1,9}$/.test(readyFd)) throw new UsageError('--ready-fd wants a file descriptor');
  return {
    qemu,
    mtu: usage(() => parseSetting('network.mtu', mtu), '--mtu: '),
    subnet: usage(() => parseSetting('network.subnet', subnet), '--subnet: '),
    publish: publish.flatMap(parsePublishSpec),
    readyFd: readyFd === undefined ? undefined : Number(readyFd),
    ...(dns === undefined ? {} : resolving(dns)),
  };
}

/** What is wrong with an option is wrong usage. */
function usage<T>(read: () => T, prefix = ''): T {
  try {
    return read();
  } catch (error) {
    throw new UsageError(prefix + (error as Error).message);
  }
}

function resolving(dns: string): Pick<NetworkOptions, 'nameServers' | 'resolvConf'> {
  if (statSync(dns, { throwIfNoEntry: false })?.isFile()) return { resolvConf: dns };
  return { nameServers: usage(() => parseNameServers(dns), '--dns: there is no such file, and ') };
}

function attachment({ qemu, mtu }: ServeOptions, report: (line: string) => void): Promise<QemuStreamLink> {
  const prefix = 'connect:';
  if (!qemu.startsWith(prefix)) return QemuStreamLink.listen(qemu, { mtu, report });
  return Promise.resolve(QemuStreamLink.connect(qemu.slice(prefix.length), { mtu, report }));
}

async function publish(network: Network, spec: PublishSpec): Promise<void> {
  const guestAddress = spec.guestAddress ?? formatAddress(network.addresses.firstGuest);
  const { protocol, guestPort } = spec;
  let { hostPort } = spec;
  for (const hostAddress of spec.hostAddress === undefined ? ['127.0.0.1', '::1'] : [spec.hostAddress]) {
    try {
      const exposed = await network.expose({ protocol, hostAddress, hostPort, guestAddress, guestPort });
      hostPort = exposed.port;
    } catch (error) {
      // A host without IPv6 has no ::1; nobody asked for it by name.
      const { code } = error as NodeJS.ErrnoException;
      if (spec.hostAddress !== undefined || hostAddress !== '::1' || !noAddress.has(code ?? '')) throw error;
    }
  }
}

const noAddress = new Set(['EADDRNOTAVAIL', 'EAFNOSUPPORT', 'EPROTONOSUPPORT']);

function tellReady(fd: number): void {
  try {
    writeSync(fd, 'ready\n');
    closeSync(fd);
  } catch (error) {
    throw new Error(`--ready-fd ${fd}: ${(error as Error).message}`);
  }
}
