/** What every hypervisor does, whatever it is made of: run by the fake, by the QEMU adapter and by the vmm. */

import type { Test } from 'tap';
import type { HypervisorPort, Machine, MachineSpec, MachineState, MachineStatus } from '../../src/hypervisor/port.ts';

export interface Conformant {
  readonly hypervisor: HypervisorPort;
  /** A machine of its own at each call. */
  specify(): MachineSpec;
  /** Waits until the guest can be asked to power down; at once for a guest that is played. */
  booted?(machine: Machine): Promise<void>;
}

/** Resolves with the first status, now or later, that `wanted` takes. */
export function whenStatus(machine: Machine, wanted: (status: MachineStatus) => boolean): Promise<MachineStatus> {
  return new Promise((resolve) => {
    const look = (status: MachineStatus): void => {
      if (!wanted(status)) return;
      stop();
      resolve(status);
    };
    const stop = machine.onStatus(look);
    look(machine.status());
  });
}

export const whenState = (machine: Machine, state: MachineState): Promise<MachineStatus> =>
  whenStatus(machine, (status) => status.state === state);

/** One machine through its whole life, then a second one killed: two starts, as a start may be a real boot. */
export async function hypervisorConformance(t: Test, { hypervisor, specify, booted }: Conformant): Promise<void> {
  const spec = specify();
  const machine = await hypervisor.start(spec);
  const seen: MachineState[] = [];
  const stop = machine.onStatus((status) => seen.push(status.state));
  await whenState(machine, 'running');
  await booted?.(machine);

  const status = machine.status();
  t.equal(status.ended, undefined, 'it has not ended');
  t.ok(status.accelerator, 'the accelerator is told');
  t.ok(status.acceleratorReason, 'and why it is that one');
  t.ok(status.channel === 'vsock' || status.channel === 'serial', 'the channel is told');
  t.ok(status.hypervisor, 'the hypervisor is told');
  t.type(status.pid, 'number');
  t.type(status.startedAtMs, 'number');
  t.throws(() => Object.assign(status, { state: 'failed' }), 'a status is a value');
  t.type(machine.console(), 'string');

  await t.rejects(hypervisor.start(spec), /in use/, 'two machines never have one disk');
  t.equal(machine.status().state, 'running', 'and the first one is none the worse');

  await t.rejects(machine.resume(), /running, not paused/);
  await machine.pause();
  await whenState(machine, 'paused');
  await t.rejects(machine.pause(), /paused, not running/);
  await machine.resume();
  await whenState(machine, 'running');

  await machine.pause();
  const downs = [machine.shutdown(60_000), machine.shutdown(60_000)];
  await Promise.all(downs);
  t.match(machine.status(), { state: 'stopped', ended: 'asked' }, 'an orderly end, from a pause too, asked twice');
  await machine.shutdown(0);
  await machine.kill();
  t.equal(machine.status().state, 'stopped', 'a machine that has ended takes any more of it');
  await t.rejects(machine.pause(), 'but does not come back');
  t.same(
    seen.filter((state, at) => state !== seen[at - 1] && (at > 0 || state !== 'running')),
    ['paused', 'running', 'paused', 'stopping', 'stopped'],
    'every change was told',
  );
  stop();

  const again = await hypervisor.start(spec);
  await whenState(again, 'running');
  let after = 0;
  again.onStatus(() => after++)();
  await again.kill();
  t.match(again.status(), { state: 'stopped', ended: 'asked' }, 'the disk was free again, and kill ends it');
  t.equal(after, 0, 'a listener that has left is left alone');
}
