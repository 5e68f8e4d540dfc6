/** The hypervisor's conformance suite with a real boot, in a vmm: one machine to its full height, one killed early. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { locate } from '../../src/cli/prepare.ts';
import { homeAt, makeHome } from '../../src/home.ts';
import type { Machine } from '../../src/hypervisor/port.ts';
import { VmmHost } from '../../src/hypervisor/vmm-client.ts';
import { hypervisorConformance, whenStatus } from '../hypervisor/hypervisor-conformance.ts';

t.setTimeout(600_000);

t.test('conformance: QEMU, booted', async (t) => {
  t.setTimeout(600_000);
  const home = homeAt(mkdtempSync(join(tmpdir(), 'slipway-hypervisor-')));
  makeHome(home);
  t.teardown(() => rmSync(home.directory, { recursive: true, force: true }));
  const { imageDirectory, tools } = await locate();
  const { qemuImg } = await tools();
  const hypervisor = new VmmHost({ paths: home, tools });
  const booted = async (machine: Machine): Promise<void> => {
    const { state, reason, boot } = await whenStatus(
      machine,
      (status) => 'dockerd' in status.boot || status.state === 'failed' || status.state === 'stopped',
    );
    t.equal(state, 'running', reason ?? machine.console().slice(-2000));
    const order = ['kernel', 'initramfs', 'init', 'containerd', 'dockerd'];
    t.same(
      Object.keys(boot).filter((name) => order.includes(name)),
      order,
      'the steps of the boot that need no network, in order',
    );
    t.comment(JSON.stringify(machine.status()));
  };
  await hypervisorConformance(t, {
    hypervisor,
    booted,
    specify: () => ({
      imageDirectory,
      dataDisk: { path: home.dataDisk, sizeOctets: 4 * 2 ** 30 },
      memoryMiB: 1024,
      cpus: 2,
      mtu: 1500,
      macAddress: '02:00:00:00:00:03',
      kernelArguments: [],
      accelerator: 'auto',
      channel: 'auto',
      networkSocket: home.networkSocket,
      socketDirectory: home.directory,
    }),
  });
  const [program = '', ...argv] = qemuImg;
  execFileSync(program, [...argv, 'check', '-q', home.dataDisk]);
  t.pass('the data disk is sound after an orderly end and a kill');
  const left = [home.directory, home.vmDirectory].flatMap((directory) =>
    readdirSync(directory).filter((name) => statSync(join(directory, name)).isSocket()),
  );
  t.same(left, [], 'no socket is left');
});
