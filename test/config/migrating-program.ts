/** Brings the settings of `migrating-program.ts REPOSITORY` up to date; says so before it begins. */

import { GitDatabase } from '../../src/config/adapter/git-database.ts';
import { DatabaseSettings } from '../../src/config/database-settings.ts';
import { chain } from './old-settings.ts';

const author = { name: 'x', email: 'x@example.org' };
const [directory = ''] = process.argv.slice(2);
const database = await GitDatabase.open({
  directory,
  watching: false,
  author,
  nowMs: () => Date.now(),
  log: () => undefined,
});
process.stdout.write('begins\n');
await DatabaseSettings.open(database, chain);
