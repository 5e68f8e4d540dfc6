/** Settings as an older Slipway might have written them, and the steps from its schema to a later one. */

import type { Migration } from '../../src/config/migration.ts';

/** Names and forms that never were: from 1 to 2 a name, from 2 to 3 two that change places and one that goes, then forms. */
export const chain: readonly Migration[] = [
  [{ from: 'vm.ram', to: 'vm.megabytes' }],
  [{ from: 'ports.bind', to: 'ports.reserved' }, { from: 'ports.reserved', to: 'ports.bind' }, { from: 'vm.colour' }],
  [
    { from: 'vm.megabytes', to: 'vm.memory', convert: (text) => /^(\d+)MB$/.exec(text)?.[1] },
    { from: 'ports.privileged', to: 'ports.privileged', convert: (text) => (text === 'yes' ? 'allow' : 'refuse') },
    { from: 'vm.cores', to: 'vm.cpus', convert: (text) => (Number(text) > 0 ? text : undefined) },
  ],
];
export const ofOld = {
  'vm/ram': '4096MB\n',
  'ports/bind': '5432\n',
  'ports/reserved': '::1\n',
  'vm/colour': 'red\n',
  'ports/privileged': 'yes\n',
  'vm/cores': 'all\n',
  'schema-version': '1\n',
};
