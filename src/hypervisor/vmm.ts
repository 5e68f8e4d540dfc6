/**
 * The process `slipway-vmm`: owns one machine from its start to its end, and ends with it.
 *
 * It has QEMU as its child, QMP, the stream channel with the sockets that lead to the guest (docker.sock, connect), the
 * console's ring and the locks. It is started in a session of its own, so that it outlives the command or daemon that
 * asked for it; what that one says and hears is in vmm-protocol.ts. One vmm serves one home at a time: it holds
 * `vmm.pid`, which names it, locked for as long as it lives.
 *
 * Signals: TERM and INT shut the guest down in order, HUP is ignored. Killed outright, it takes QEMU with it
 * (watchdog/lifeline.ts), and the next one replaces the sockets it left.
 */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { openLanes } from './adapter/guest-lanes.ts';
import { QemuHypervisor } from './adapter/qemu.ts';
import { RingFile } from './adapter/ring-file.ts';
import { lockFile, lockOwner } from './disk/lock-file.ts';
import { inUse, type VmmOptions } from './vmm-protocol.ts';
import { VmmServer } from './vmm-server.ts';

const LOG_OCTETS = 1 << 20;
/** For the vmm before us, whose machine has ended and which is putting its sockets away. */
const LOCK_PATIENCE_MS = 10_000;
const SIGNAL_GRACE_MS = 20_000;

async function main(): Promise<void> {
  process.umask(0o077);
  const { spec, qemu, qemuImg, paths } = JSON.parse(await text(process.stdin)) as VmmOptions;
  mkdirSync(paths.vmDirectory, { recursive: true, mode: 0o700 });
  const pidFile = join(paths.vmDirectory, 'vmm.pid');
  if (!(await lockFile(pidFile, LOCK_PATIENCE_MS))) throw new Error(inUse(paths.vmDirectory, lockOwner(pidFile)));
  const ring = new RingFile(paths.vmmLog, LOG_OCTETS);
  const log = (line: string): void => ring.write(`${new Date().toISOString()} ${line.replace(/\p{C}/gu, ' ')}\n`);
  log(`slipway-vmm ${process.pid} starts, QEMU ${qemu.version}`);

  const hypervisor = new QemuHypervisor({
    qemu,
    qemuImg,
    openLane: openLanes({ directory: paths.vmDirectory, dockerSocket: paths.dockerSocket, log }),
    consoleLog: paths.consoleLog,
    acceleratorFile: join(paths.vmDirectory, 'accelerator.json'),
    log,
  });
  const machine = await hypervisor.start(spec).catch((error: Error) => {
    log(`cannot start: ${error.message}`);
    throw error;
  });
  const server = new VmmServer(machine, paths.vmmSocket);
  await server.listen();
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.on(signal, () => {
      log(`${signal}: shutting down`);
      void machine.shutdown(SIGNAL_GRACE_MS);
    });
  process.stdout.write('{}\n');

  await machine.whenEnded();
  await server.close();
  log(`slipway-vmm ${process.pid} ends`);
}

process.on('SIGHUP', () => undefined);
// Whoever started us may be gone before it has read our word.
process.stdout.on('error', () => undefined);
main().then(
  () => process.exit(0),
  (error: unknown) => {
    const line = `${JSON.stringify({ error: error instanceof Error ? error.message : String(error) })}\n`;
    process.stdout.write(line, () => process.exit(1));
  },
);
