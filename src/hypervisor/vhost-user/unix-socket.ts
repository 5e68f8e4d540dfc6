/** Unix stream sockets by system call, non-blocking: listeners of mode 0600 whatever the umask, and connections. */

import fs from 'node:fs';
import { addressOfBuffer } from '../../native/memory.ts';
import {
  AF_UNIX,
  accept4,
  bindSocket,
  close,
  codeOf,
  connectSocket,
  EAGAIN,
  ENOENT,
  listenSocket,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  socket,
} from '../../native/system-calls.ts';

const streamType = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
/** struct sockaddr_un on Linux: a u16 family, then the path. */
const pathAt = 2;
const maxPathOctets = 107;

function socketAddress(path: string): ArrayBuffer | undefined {
  const octets = Buffer.from(path);
  if (octets.length === 0 || octets.length > maxPathOctets) return undefined;
  const memory = new ArrayBuffer(pathAt + maxPathOctets + 1);
  new DataView(memory).setUint16(0, AF_UNIX, true);
  new Uint8Array(memory).set(octets, pathAt);
  return memory;
}

/** A connected descriptor, or the negative errno. Connecting to a unix socket never waits: a full backlog is EAGAIN. */
export function connectUnix(path: string): number {
  const address = socketAddress(path);
  if (!address) return ENOENT;
  const fd = socket(AF_UNIX, streamType, 0);
  if (fd < 0) return fd;
  const result = connectSocket(fd, addressOfBuffer(address), address.byteLength);
  if (result === 0) return fd;
  close(fd);
  return result;
}

/** An accepted descriptor, or the negative errno. */
export function acceptUnix(listener: number): number {
  return accept4(listener, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/**
 * A listening descriptor. A socket file that nobody listens on any more is replaced. Throws an Error that names cause
 * and remedy.
 */
export function listenUnix(path: string, backlog = 1024): number {
  const address = socketAddress(path);
  if (!address) throw new Error(`the socket path ${path} is too long: choose a shorter directory (SLIPWAY_HOME)`);
  removeStale(path);
  const fd = socket(AF_UNIX, streamType, 0);
  if (fd < 0) throw new Error(`cannot make a unix socket: ${codeOf(fd)}`);
  let result = bindSocket(fd, addressOfBuffer(address), address.byteLength);
  if (result === 0) {
    // Nobody can connect before listen(): no moment with the umask's mode.
    fs.chmodSync(path, 0o600);
    result = listenSocket(fd, backlog);
  }
  if (result === 0) return fd;
  close(fd);
  throw new Error(`cannot listen on ${path}: ${codeOf(result)}`);
}

/** Closes a listener and removes its file. */
export function closeListener(fd: number, path: string): void {
  close(fd);
  fs.rmSync(path, { force: true });
}

function removeStale(path: string): void {
  const entry = fs.lstatSync(path, { throwIfNoEntry: false });
  if (!entry) return;
  if (!entry.isSocket()) throw new Error(`${path} exists and is not a socket: move it away`);
  const fd = connectUnix(path);
  if (fd >= 0 || fd === EAGAIN) {
    if (fd >= 0) close(fd);
    throw new Error(`${path} is in use by another process: stop it first`);
  }
  fs.rmSync(path, { force: true });
}
