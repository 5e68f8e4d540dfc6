/** Who races: how each is started, how the guest behind it is set up, and how its ports are published. */

import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';

/** Ports of the guest's echo server and of its iperf3, by the port of the host that each is published as. */
export const published: readonly (readonly [number, number])[] = [
  [17001, 7001],
  [15201, 5201],
];

export interface Peer {
  /** The program, as found on PATH. */
  readonly program: string;
  /** Its arguments; {sock}, {mtu}, {netns} and {dir} are filled in. */
  readonly argv: readonly string[];
  /** A stream socket in QEMU's framing, or a TAP device that the peer makes and sets up itself. */
  readonly attachment: 'stream' | 'tap';
  /** The guest's address, and its gateway. */
  readonly guest: string;
  readonly gateway: string;
  readonly dns: string;
  readonly mostMtu?: number;
  /** Publishes the ports where `argv` has not, through the peer's own interface at `socket`. */
  publish?(socket: string): Promise<void>;
}

const ours = { guest: '192.168.65.3/24', gateway: '192.168.65.1', dns: '192.168.65.1' };
/** passt and pasta lend the guest the host's own address. */
const lent = { guest: '10.99.0.1/24', gateway: '10.99.0.254', dns: '10.99.0.254' };
const slirp = { gateway: '10.0.2.2', dns: '10.0.2.3' };
const slipway = join(import.meta.dirname, '../../bin/slipway');
const words = (line: string): readonly string[] => line.split(' ');
const each = (specify: (host: number, guest: number) => string, between: string): string =>
  published.map(([host, guest]) => specify(host, guest)).join(between);
const slipwayPorts = each((host, guest) => `--publish tcp:0.0.0.0:${host}:${guest}`, ' ');
const passtPorts = each((host, guest) => `${host}:${guest}`, ',');
const qemuPorts = each((host, guest) => `hostfwd=tcp::${host}-:${guest}`, ',');

async function publishByGvproxy(socketPath: string): Promise<void> {
  for (const [host, guest] of published) {
    const path = '/services/forwarder/expose';
    const request = http.request({ socketPath, path, method: 'POST' });
    request.end(JSON.stringify({ local: `0.0.0.0:${host}`, remote: `192.168.127.2:${guest}` }));
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    response.resume();
    if (response.statusCode !== 200) throw new Error(`gvproxy does not publish port ${host}: ${response.statusCode}`);
  }
}

async function publishBySlirp4netns(socketPath: string): Promise<void> {
  for (const [host, guest] of published) {
    const socket = net.connect(socketPath);
    const forward = {
      proto: 'tcp',
      host_addr: '0.0.0.0',
      host_port: host,
      guest_addr: '10.0.2.100',
      guest_port: guest,
    };
    socket.end(JSON.stringify({ execute: 'add_hostfwd', arguments: forward }));
    const [answer] = (await once(socket, 'data')) as [Buffer];
    if (answer.includes('error')) throw new Error(`slirp4netns does not publish port ${host}: ${answer}`);
  }
}

export const peers: Readonly<Record<string, Peer>> = {
  slipway: {
    program: slipway,
    argv: words(`net serve --qemu {sock} --mtu {mtu} ${slipwayPorts}`),
    attachment: 'stream',
    ...ours,
  },
  passt: { program: 'passt', argv: words(`-f -4 -s {sock} -m {mtu} -t ${passtPorts}`), attachment: 'stream', ...lent },
  gvproxy: {
    program: 'gvproxy',
    argv: words('-mtu {mtu} -listen-qemu unix://{sock} -listen unix://{dir}/api.sock -ssh-port 22022'),
    attachment: 'stream',
    guest: '192.168.127.2/24',
    gateway: '192.168.127.1',
    dns: '192.168.127.1',
    publish: publishByGvproxy,
  },
  'qemu-slirp': {
    program: 'qemu-system-x86_64',
    argv: words(
      `-M none -display none -nodefaults -monitor none -serial none -netdev user,id=u,ipv6=off,${qemuPorts} ` +
        '-netdev stream,id=s,server=on,addr.type=unix,addr.path={sock} ' +
        '-netdev hubport,id=h0,hubid=0,netdev=u -netdev hubport,id=h1,hubid=0,netdev=s',
    ),
    attachment: 'stream',
    guest: '10.0.2.15/24',
    ...slirp,
    mostMtu: 1500,
  },
  'slipway-tap': {
    program: slipway,
    argv: words(`net serve --tap tap0 --netns {netns} --configure --mtu {mtu} ${slipwayPorts}`),
    attachment: 'tap',
    ...ours,
  },
  pasta: {
    program: 'pasta',
    argv: words(
      `-f -4 --config-net -I tap0 -m {mtu} -t ${passtPorts} -u none -T none -U none --runas 0 --netns {netns}`,
    ),
    attachment: 'tap',
    ...lent,
  },
  slirp4netns: {
    program: 'slirp4netns',
    argv: words('--configure --mtu={mtu} --netns-type=path --api-socket {dir}/api.sock {netns} tap0'),
    attachment: 'tap',
    guest: '10.0.2.100/24',
    ...slirp,
    publish: publishBySlirp4netns,
  },
};
