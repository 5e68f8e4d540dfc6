/** Who races: how each is started, and how the guest behind it is set up. */

import { join } from 'node:path';

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
}

const ours = { guest: '192.168.65.3/24', gateway: '192.168.65.1', dns: '192.168.65.1' };
/** passt and pasta lend the guest the host's own address. */
const lent = { guest: '10.99.0.1/24', gateway: '10.99.0.254', dns: '10.99.0.254' };
const slirp = { gateway: '10.0.2.2', dns: '10.0.2.3' };
const slipway = join(import.meta.dirname, '../../bin/slipway');
const words = (line: string): readonly string[] => line.split(' ');

export const peers: Readonly<Record<string, Peer>> = {
  slipway: {
    program: slipway,
    argv: words('net serve --qemu {sock} --mtu {mtu}'),
    attachment: 'stream',
    ...ours,
  },
  passt: { program: 'passt', argv: words('-f -4 -s {sock} -m {mtu}'), attachment: 'stream', ...lent },
  gvproxy: {
    program: 'gvproxy',
    argv: words('-mtu {mtu} -listen-qemu unix://{sock} -listen unix://{dir}/api.sock -ssh-port 22022'),
    attachment: 'stream',
    guest: '192.168.127.2/24',
    gateway: '192.168.127.1',
    dns: '192.168.127.1',
  },
  'qemu-slirp': {
    program: 'qemu-system-x86_64',
    argv: words(
      '-M none -display none -nodefaults -monitor none -serial none -netdev user,id=u,ipv6=off ' +
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
    argv: words('net serve --tap tap0 --netns {netns} --configure --mtu {mtu}'),
    attachment: 'tap',
    ...ours,
  },
  pasta: {
    program: 'pasta',
    argv: words('-f -4 --config-net -I tap0 -m {mtu} -t none -u none -T none -U none --runas 0 --netns {netns}'),
    attachment: 'tap',
    ...lent,
  },
  slirp4netns: {
    program: 'slirp4netns',
    argv: words('--configure --mtu={mtu} --netns-type=path {netns} tap0'),
    attachment: 'tap',
    guest: '10.0.2.100/24',
    ...slirp,
  },
};
