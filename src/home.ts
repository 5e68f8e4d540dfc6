/**
 * $SLIPWAY_HOME: one folder is one instance, and two folders are two independent instances. This file alone knows the
 * names inside it (CONTRACTS: State). Everything in it belongs to the invoking user: folders 0700, files and sockets
 * 0600. A unix socket's path must fit 104 octets with its closing zero (BSD's and macOS's sun_path, which is shorter
 * than Linux's), so a home whose sockets would not fit is refused before anything is made.
 */

import { chmodSync, existsSync, mkdirSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

const SOCKET_PATH_OCTETS = 103;

export interface Home {
  readonly directory: string;
  /** The Docker API on the host. */
  readonly dockerSocket: string;
  readonly apiSocket: string;
  /** The host's way to containers by SOCKS 5 and HTTP, where the setting `network.entrance` opens it. */
  readonly entranceSocket: string;
  /** USER:PASSWORD for the upstream HTTP proxy, if it wants some; the user's to make. */
  readonly proxyCredential: string;
  /** What an entrance on loopback asks for. */
  readonly entranceCredential: string;
  /** HyperKit's vsock entrance. */
  readonly connectSocket: string;
  /** Where guests' streams to host port 62376 (publishing) arrive. */
  readonly publishSocket: string;
  /** Where guests' streams to host port 62377 (boot marks) arrive. */
  readonly eventsSocket: string;
  /** QEMU's network attachment: QEMU listens, the network core connects. */
  readonly networkSocket: string;
  /** The same by vhost-user. */
  readonly vhostUserSocket: string;
  /** Control socket of `slipway-vmm`. */
  readonly vmmSocket: string;
  readonly vmDirectory: string;
  readonly dataDisk: string;
  readonly logsDirectory: string;
  readonly daemonLog: string;
  /** What the daemon's process prints apart from its log: its last words. */
  readonly crashLog: string;
  readonly vmmLog: string;
  readonly consoleLog: string;
  /** The settings: a bare git repository. */
  readonly database: string;
  /** The database's file tree, over 9P. */
  readonly databaseSocket: string;
  /** Where guests' streams to host port 62378 (the database's file tree, as a guest may see it) arrive. */
  readonly guestDatabaseSocket: string;
  /** Where the settings were before they lay in the database. */
  readonly settingsFile: string;
  /** The settings that the running VM was started with. */
  readonly inForceFile: string;
  /** Held by the daemon for as long as it lives. */
  readonly lockFile: string;
}

/** The instance that the environment names: SLIPWAY_HOME, else $XDG_DATA_HOME/slipway, else ~/.local/share/slipway. */
export function homeDirectory(env: NodeJS.ProcessEnv = process.env): string {
  if (env.SLIPWAY_HOME) return resolve(env.SLIPWAY_HOME);
  const data = env.XDG_DATA_HOME?.startsWith('/') ? env.XDG_DATA_HOME : join(homedir(), '.local', 'share');
  return join(data, 'slipway');
}

/** The layout below `directory`; throws when its sockets' paths would be too long. */
export function homeAt(directory: string): Home {
  const at = (...names: string[]): string => join(directory, ...names);
  const home: Home = {
    directory,
    dockerSocket: at('docker.sock'),
    apiSocket: at('api.sock'),
    entranceSocket: at('entrance.sock'),
    proxyCredential: at('proxy.credential'),
    entranceCredential: at('entrance.credential'),
    connectSocket: at('connect'),
    publishSocket: at('00000002.0000f3a8'),
    eventsSocket: at('00000002.0000f3a9'),
    networkSocket: at('vm', 'network.sock'),
    vhostUserSocket: at('vm', 'vhost.sock'),
    vmmSocket: at('vm', 'vmm.sock'),
    vmDirectory: at('vm'),
    dataDisk: at('vm', 'data.qcow2'),
    logsDirectory: at('logs'),
    daemonLog: at('logs', 'slipway.log'),
    crashLog: at('logs', 'slipway.crash'),
    vmmLog: at('logs', 'vmm.log'),
    consoleLog: at('logs', 'console.log'),
    database: at('database'),
    databaseSocket: at('db.9p.sock'),
    guestDatabaseSocket: at('00000002.0000f3aa'),
    settingsFile: at('settings.json'),
    inForceFile: at('vm', 'in-force.json'),
    lockFile: at('slipway.lock'),
  };
  const longest = Math.max(
    ...Object.values(home)
      .filter(isSocket)
      .map((path) => Buffer.byteLength(path)),
  );
  if (longest > SOCKET_PATH_OCTETS) {
    const spare = SOCKET_PATH_OCTETS - (longest - Buffer.byteLength(directory));
    throw new Error(
      `${directory} is too long: a unix socket's path may have ${SOCKET_PATH_OCTETS + 1} octets, so the home may have ${spare}; set SLIPWAY_HOME to a shorter path`,
    );
  }
  return home;
}

/** Makes the folders, for the invoking user alone. */
export function makeHome(home: Home): void {
  for (const directory of [home.directory, home.vmDirectory, home.logsDirectory]) {
    try {
      makeFolder(directory);
      chmodSync(directory, 0o700);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      throw new Error(`cannot make ${directory}: ${code ?? message}; set SLIPWAY_HOME to a folder of yours`);
    }
  }
}

/** With its parents. Node's own recursive mkdir never returns where a parent is there but takes no entries (/proc). */
function makeFolder(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && statSync(path).isDirectory()) return;
    if (code !== 'ENOENT' || existsSync(dirname(path))) throw error;
    makeFolder(dirname(path));
    mkdirSync(path, { mode: 0o700 });
  }
}

function isSocket(path: string): boolean {
  return path.endsWith('.sock') || /\/(connect|\d{8}\.[0-9a-f]{8})$/.test(path);
}
