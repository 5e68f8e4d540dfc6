/** `slipway net serve`: the network core alone on an attachment, in the foreground until SIGTERM. */

import { closeSync, writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { Network } from '../network.ts';
import type { LinkPort } from '../stack/port.ts';
import { startCapture } from './capture.ts';
import {
  type CoreOptions,
  coreHelp,
  coreOptions,
  firstGuest,
  openToHost,
  readCoreOptions,
  usage,
} from './core-options.ts';
import { startRecording } from './recording.ts';
import { giveBackAfterStart } from './settled.ts';
import { UsageError } from './usage-error.ts';

const help = `usage: slipway net serve --qemu PATH|connect:PATH [OPTIONS]
       slipway net serve --tap NAME [--netns PATH] [--configure] [OPTIONS]
       slipway net serve --vhost-user PATH [OPTIONS]

Runs the network core alone, in the foreground: DHCP, DNS, NAT to the host's sockets and published ports for
whoever is attached. Prints 'ready' when it is; SIGTERM ends it.

  --qemu PATH           listen on a unix socket for QEMU's -netdev stream,server=off
  --qemu connect:PATH   connect to a QEMU with server=on, and again whenever it is gone
                        --qemu may be repeated: the guests are on one network, and reach each other through a switch
  --leases-only         drop what guests send from addresses of the network that they have no lease for
  --tap NAME            make the TAP device NAME (Linux), with checksum and segmentation offload
  --netns PATH          make it in this network namespace, such as /run/netns/NAME or /proc/PID/ns/net
  --configure           give it the first guest's address, the MTU and the default route, and bring it and lo up
  --vhost-user PATH     listen on a unix socket for QEMU's -netdev vhost-user (Linux), with offload; the guest's
                        memory must be shared
  --no-offload          without offload: every segment is cut and summed, for comparison
${coreHelp}  --ready-fd N          when ready, write a line to this file descriptor too, and close it
  -h, --help            show this help

Examples:
  $ slipway net serve --qemu /tmp/net.sock --publish 8080:80
  $ qemu-system-x86_64 ... -netdev stream,id=n,server=off,addr.type=unix,addr.path=/tmp/net.sock \\
      -device virtio-net-pci,netdev=n

  $ slipway net serve --tap tap0 --netns /run/netns/box --configure

  $ slipway net serve --vhost-user /tmp/vhost.sock
  $ qemu-system-x86_64 ... -object memory-backend-memfd,id=mem,size=1G,share=on -machine memory-backend=mem \\
      -chardev socket,id=c,path=/tmp/vhost.sock -netdev vhost-user,id=n,chardev=c -device virtio-net-pci,netdev=n
`;

/** Attachments and options of the network core that this version has not. */
const absent = ['vmnet', 'vfkit'];

interface TapAttachment {
  readonly tap: string;
  readonly netns: string | undefined;
  readonly configure: boolean;
  readonly offload: boolean;
}

interface VhostUserAttachment {
  readonly vhostUser: string;
  readonly offload: boolean;
}

interface ServeOptions extends CoreOptions {
  readonly attachment: { readonly qemu: readonly string[] } | TapAttachment | VhostUserAttachment;
  readonly readyFd: number | undefined;
}

type Report = (line: string) => void;

export async function run(argv: readonly string[]): Promise<number> {
  const options = parse(argv);
  if (!options) {
    process.stdout.write(help);
    return 0;
  }
  const ended = Promise.withResolvers<number>();
  const report: Report = (line) => void process.stderr.write(`slipway: ${line}\n`);
  const recording = await startRecording(options, options.record, report);
  const network = new Network({ ...options, ...recording.network });
  let endCapture = async (): Promise<void> => undefined;
  let endApi = async (): Promise<void> => undefined;
  try {
    endCapture = await startCapture(network, options.capture, report);
    for (const link of await attach(network, options, report, () => ended.resolve(1))) network.attach(link);
    endApi = await openToHost(network, options, report);
  } catch (error) {
    network.close();
    recording.end();
    await endCapture();
    throw error;
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => ended.resolve(0));
  process.stdout.write('ready\n');
  if (options.readyFd !== undefined) tellReady(options.readyFd);
  void giveBackAfterStart();
  const status = await ended.promise;
  await endApi();
  network.close();
  recording.end();
  await endCapture();
  // Flows that are still open would keep the process; the sockets' files are gone by now.
  process.exit(status);
}

function parse(argv: readonly string[]): ServeOptions | undefined {
  const one = { type: 'string' } as const;
  const flag = { type: 'boolean' } as const;
  const { values, tokens } = usage(() =>
    parseArgs({
      args: [...argv],
      tokens: true,
      options: {
        ...coreOptions,
        help: { ...flag, short: 'h' },
        qemu: { ...one, multiple: true },
        tap: one,
        netns: one,
        configure: flag,
        'vhost-user': one,
        'no-offload': flag,
        'leases-only': flag,
        'ready-fd': one,
        ...Object.fromEntries(absent.map((name) => [name, one])),
      },
    }),
  );
  if (values.help) return undefined;
  const given = absent.find((name) => name in values);
  if (given) throw new UsageError(`--${given} is not part of this version; attach with --qemu, --tap or --vhost-user`);
  const { 'ready-fd': readyFd } = values;
  if (readyFd !== undefined && !/^\d{1,9}$/.test(readyFd)) throw new UsageError('--ready-fd wants a file descriptor');
  const attached = attachment(values);
  return {
    ...readCoreOptions(values, tokens),
    switched: 'qemu' in attached && attached.qemu.length > 1,
    leasesOnly: values['leases-only'] ?? false,
    attachment: attached,
    readyFd: readyFd === undefined ? undefined : Number(readyFd),
  };
}

function attachment(values: {
  readonly qemu?: string[];
  readonly tap?: string;
  readonly netns?: string;
  readonly configure?: boolean;
  readonly 'vhost-user'?: string;
  readonly 'no-offload'?: boolean;
}): ServeOptions['attachment'] {
  const { qemu, tap, netns, configure = false, 'vhost-user': vhostUser, 'no-offload': bare = false } = values;
  if ([qemu, tap, vhostUser].filter((value) => value !== undefined).length > 1)
    throw new UsageError('--qemu, --tap and --vhost-user exclude each other');
  if (tap === undefined) {
    const alone = netns !== undefined ? 'netns' : configure ? 'configure' : undefined;
    if (alone) throw new UsageError(`--${alone} goes with --tap`);
    if (vhostUser) return { vhostUser, offload: !bare };
    if (bare) throw new UsageError('--no-offload goes with --tap or --vhost-user');
    if (!qemu || qemu.some((path) => path === '' || path === 'connect:'))
      throw new UsageError('say what to attach to: --qemu PATH, --qemu connect:PATH, --tap NAME or --vhost-user PATH');
    return { qemu };
  }
  if (!/^[^\s/:]{1,15}$/.test(tap)) throw new UsageError(`--tap: '${tap}' is no name for a network interface`);
  return { tap, netns, configure, offload: !bare };
}

/** Only what the attachment needs is loaded. */
async function attach(network: Network, options: ServeOptions, report: Report, lost: () => void): Promise<LinkPort[]> {
  const { mtu, attachment } = options;
  if ('tap' in attachment) {
    const { tap: name, netns, configure, offload } = attachment;
    if (process.platform !== 'linux') throw new Error('--tap is for Linux: this system has no TAP devices');
    const { openTapIn } = await import('../hypervisor/link/tap-namespace.ts');
    const { TapLink } = await import('../hypervisor/link/tap.ts');
    const request = { name, offload, ...(configure && { addresses: firstGuest(network, options) }) };
    const tap = await openTapIn(netns, request);
    return [
      new TapLink(tap.fd, {
        name: tap.name,
        mtu,
        offload,
        lost: (error) => {
          report(error.message);
          lost();
        },
      }),
    ];
  }
  if ('vhostUser' in attachment) {
    if (process.platform !== 'linux') throw new Error('--vhost-user is for Linux: this system cannot share the memory');
    const { VhostUserNetLink } = await import('../hypervisor/link/vhost-user-net.ts');
    return [new VhostUserNetLink(attachment.vhostUser, { mtu, offload: attachment.offload, report })];
  }
  const { QemuStreamLink } = await import('../hypervisor/link/qemu-stream.ts');
  const prefix = 'connect:';
  const linkOptions = { mtu, memory: network.memory, report };
  const links: LinkPort[] = [];
  try {
    for (const qemu of attachment.qemu)
      if (qemu.startsWith(prefix)) links.push(QemuStreamLink.connect(qemu.slice(prefix.length), linkOptions));
      else links.push(await QemuStreamLink.listen(qemu, linkOptions));
  } catch (error) {
    for (const link of links) link.close();
    throw error;
  }
  return links;
}

function tellReady(fd: number): void {
  try {
    writeSync(fd, 'ready\n');
    closeSync(fd);
  } catch (error) {
    throw new Error(`--ready-fd ${fd}: ${(error as Error).message}`);
  }
}
