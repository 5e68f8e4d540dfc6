/**
 * A stand-in for QEMU's process: speaks QMP on descriptor 3, listens on the network socket, writes a console. Run by
 * the adapter in QEMU's place, with a manner as its first argument:
 *
 *   plain      greets and obeys       silent    the same, with an empty console
 *   deaf       greets, but no power button works
 *   refuses    ends with a complaint before it greets
 *   bare       knows no vhost-user
 *   kvmless    refuses under kvm, else plain       hung-kvm   silent under kvm, else plain
 *
 * Signals play the guest: USR1 panics it, USR2 powers it off, HUP reboots it, WINCH fills the host's disk.
 */

import { createServer, Socket } from 'node:net';

const [manner = 'plain', ...argv] = process.argv.slice(2);
const kvm = argv[argv.indexOf('-accel') + 1]?.startsWith('kvm') === true;
if (manner === 'refuses' || (manner === 'kvmless' && kvm)) {
  process.stderr.write(kvm ? 'Could not access KVM kernel module: it is a fake\n' : 'this is no machine\n');
  process.exit(1);
}

if (manner === 'bare' && argv.some((argument) => argument.startsWith('vhost-user,'))) {
  process.stderr.write("-netdev vhost-user,id=net: Parameter 'type' expects a netdev backend type\n");
  process.exit(1);
}

const path = argv.find((argument) => argument.startsWith('stream,'))?.match(/addr\.path=(.*)$/)?.[1];
if (path) createServer((socket) => socket.on('error', () => undefined)).listen(path.replaceAll(',,', ','));

const qmp = new Socket({ fd: 3 });
const send = (message: object): void => void qmp.write(`${JSON.stringify(message)}\r\n`);
const event = (name: string, data: object = {}): void => send({ timestamp: {}, event: name, data });
const end = (guest: boolean, reason: string): void => {
  event('SHUTDOWN', { guest, reason });
  setImmediate(() => process.exit(0));
};
let running = true;

const commands: Record<string, () => void> = {
  stop: () => {
    running = false;
    event('STOP');
  },
  cont: () => {
    running = true;
    event('RESUME');
  },
  system_powerdown: () => {
    if (manner !== 'deaf') end(true, 'guest-shutdown');
  },
  quit: () => end(false, 'host-qmp-quit'),
};

let held = '';
qmp.on('data', (octets) => {
  held += octets;
  for (let at = held.indexOf('\n'); at >= 0; at = held.indexOf('\n')) {
    const { execute, id } = JSON.parse(held.slice(0, at)) as { execute: string; id: number };
    held = held.slice(at + 1);
    commands[execute]?.();
    send({ return: execute === 'query-status' ? { running, status: running ? 'running' : 'paused' } : {}, id });
  }
});

process.on('SIGUSR1', () => {
  process.stdout.write('[ 1.0] Kernel panic - not syncing: Attempted to kill init!\r\n');
  end(true, 'guest-reset');
});
process.on('SIGUSR2', () => end(true, 'guest-shutdown'));
process.on('SIGHUP', () => end(true, 'guest-reset'));
process.on('SIGWINCH', () => {
  event('BLOCK_IO_ERROR', { device: 'data', action: 'stop', nospace: true });
  commands.stop!();
});

send({ QMP: { version: { qemu: { major: 10, minor: 0, micro: 0 } }, capabilities: [] } });
if (manner !== 'silent' && !(manner === 'hung-kvm' && kvm)) process.stdout.write('Linux version 6.12 (fake)\r\n');
