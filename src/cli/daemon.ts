/**
 * The process `slipway`, which `slipway up` starts in a session of its own: one a home (the lock says so), the platform
 * and its API until it is told to shut down. A signal ends the process alone; the VM runs on, and the next daemon
 * attaches to it.
 */

import { rmSync } from 'node:fs';
import { distinctUntilChanged, filter, map, take } from 'rxjs';
import { routes } from '../api/routes.ts';
import { ApiServer } from '../api/server.ts';
import { openSettings } from '../config/adapter/settings-store.ts';
import type { LogLevel } from '../config/schema.ts';
import { selectSettings } from '../config/select-settings.ts';
import { type Home, makeHome } from '../home.ts';
import { lockFile, lockOwner } from '../hypervisor/disk/lock-file.ts';
import { startPlatform } from '../platform.ts';
import { command, runCommand } from './command.ts';
import { currentHome } from './current-home.ts';
import { LogFile } from './log-file.ts';
import { locate } from './prepare.ts';
import { giveBackAfterStart } from './settled.ts';

/** For the daemon before us, which is ending. */
const LOCK_PATIENCE_MS = 500;

export async function run(argv: readonly string[]): Promise<number> {
  const program = command(
    'daemon',
    "run the platform in the foreground, as 'slipway up' does in the background",
    'slipway daemon',
  ).action(async () => {
    process.umask(0o077);
    await serve(currentHome());
  });
  return runCommand(program, argv);
}

async function serve(home: Home): Promise<void> {
  makeHome(home);
  const lock = await lockFile(home.lockFile, LOCK_PATIENCE_MS);
  if (!lock) {
    const owner = lockOwner(home.lockFile);
    throw new Error(`another instance (process ${owner}) runs in ${home.directory}; 'slipway status' shows it`);
  }
  const log = new LogFile(home.daemonLog);
  const write = (line: string, level?: LogLevel): void => log.write(line, level);
  const warn = (line: string): void => log.write(line, 'warning');
  const store = await openSettings({
    directory: home.database,
    settingsFile: home.settingsFile,
    watching: true,
    log: warn,
  });
  const { settings, database } = store;
  if (settings.refused !== undefined) {
    await store.close();
    throw new Error(settings.refused);
  }
  settings.changes.pipe(selectSettings('logs.level')).subscribe((now) => {
    log.level = now['logs.level'];
  });
  const { imageDirectory, tools, versions } = await locate();
  process.on('uncaughtException', (error) => {
    warn(`ended by an error: ${error.stack ?? error}`);
    process.stderr.write(`${error.stack ?? error}\n`);
    process.exit(1);
  });
  write(`slipway ${versions.slipway} begins (process ${process.pid}, home ${home.directory})`);
  if (settings.problem !== undefined) warn(`settings: ${settings.problem}`);
  settings.follow((problem) => warn(`settings: ${problem}`));
  const { supervisor, release } = await startPlatform({
    home,
    settings,
    database,
    imageDirectory,
    tools,
    versions,
    log: write,
  });
  const states = supervisor.changes
    .pipe(
      map(({ state, reason }) => (reason ? `${state}: ${reason}` : state)),
      distinctUntilChanged(),
    )
    .subscribe((state) => write(`the VM is ${state}`));
  const started = supervisor.changes
    .pipe(
      filter(({ state }) => state === 'running'),
      take(1),
    )
    .subscribe(() => void giveBackAfterStart());
  const api = await ApiServer.listen(supervisor, home.apiSocket, routes);
  const signalled = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve());
  });
  await Promise.race([supervisor.finished, signalled]);
  states.unsubscribe();
  started.unsubscribe();
  await release();
  await api.close();
  await store.close();
  for (const path of [home.apiSocket, home.publishSocket]) rmSync(path, { force: true });
  write('slipway ends');
  lock.release();
  process.exit(0);
}
