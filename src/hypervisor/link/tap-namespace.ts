/**
 * A TAP device in a network namespace that is not ours. A privileged caller visits it: setns moves this thread alone,
 * and all is done before anything else runs on it. Where the namespace belongs to a user namespace (rootless tools make
 * such), a helper enters both.
 */

import { closeSync, fstatSync, openSync, statSync } from 'node:fs';
import { close, codeOf, EINVAL, EPERM, ioctl, setns } from '../../native/system-calls.ts';
import { HelperError, startHelper } from './namespace-helper.ts';
import type { NamespaceRequest } from './namespace-request.ts';
import { configureInterface, type OpenedTap, openTap } from './tap-device.ts';

const CLONE_NEWNET = 0x40000000;
const NS_GET_USERNS = 0xb701;

/** Makes the device in the namespace at `path`, or, without one, where we are. Throws an Error that names cause and remedy. */
export async function openTapIn(path: string | undefined, request: NamespaceRequest): Promise<OpenedTap> {
  if (path === undefined) return openHere(request);
  const namespace = openNamespace(path);
  try {
    const home = openSync('/proc/thread-self/ns/net', 'r');
    try {
      const entered = setns(namespace, CLONE_NEWNET);
      if (entered === EINVAL) throw new Error(`'${path}' is no network namespace`);
      if (entered === EPERM) return await openByHelper(path, namespace, request);
      if (entered < 0) throw new Error(`cannot enter the network namespace '${path}': ${codeOf(entered)}`);
      try {
        return openHere(request);
      } finally {
        const returned = setns(home, CLONE_NEWNET);
        // A thread in the wrong namespace would open the host's sockets there.
        if (returned < 0) process.abort();
      }
    } finally {
      closeSync(home);
    }
  } finally {
    closeSync(namespace);
  }
}

function openHere(request: NamespaceRequest): OpenedTap {
  const tap = openTap(request.name, request.offload);
  try {
    if (request.addresses) configureInterface(tap.name, request.addresses);
    return tap;
  } catch (error) {
    close(tap.fd);
    throw error;
  }
}

async function openByHelper(path: string, namespace: number, request: NamespaceRequest): Promise<OpenedTap> {
  const owner = ioctl(namespace, NS_GET_USERNS, 0);
  const refused = `this user may not enter the network namespace '${path}'`;
  const remedy = 'run as root, or as the user who made it';
  if (owner < 0) throw new Error(`${refused}: ${remedy}`);
  try {
    if (fstatSync(owner).ino === statSync('/proc/self/ns/user').ino) throw new Error(`${refused}: ${remedy}`);
    const enter = ['nsenter', '--user=/proc/self/fd/6', '--net=/proc/self/fd/5', '--preserve-credentials', '--'];
    return await startHelper(enter, request, [], [namespace, owner]).tap;
  } catch (error) {
    if (!(error instanceof HelperError) || !error.said.startsWith('nsenter:')) throw error;
    throw new Error(`${refused}: ${remedy} (${error.said})`);
  } finally {
    close(owner);
  }
}

function openNamespace(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT')
      throw new Error(`there is no network namespace '${path}': 'ip netns add NAME' makes /run/netns/NAME`);
    throw new Error(`cannot open the network namespace '${path}': ${message}`);
  }
}
