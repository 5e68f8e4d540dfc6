/**
 * The other end of a stream link: one connected socket. Two kinds: Node's (here), and, on Linux, system calls without
 * Node between (linux-stream-peer.ts).
 */

import net from 'node:net';
import type { Arena } from '../../stack/port.ts';

export interface StreamPeerHandler {
  /** `octets` have landed at the place for them, which is to be left alone from when this returns. */
  received(octets: number): void;
  /** The last call, unless `close` came first. */
  lost(error?: Error): void;
}

export interface StreamPeer {
  /** Sends octets `from` to `to` of an arena; they must stay until `taken` is called: before this returns, later, or when the peer has gone. */
  send(arena: Arena, from: number, to: number, taken: () => void): void;
  close(): void;
}

/** Makes a peer of a connected socket that nothing was read from; the socket object is of no use from then on. */
export type StreamPeerMaker = (socket: net.Socket, landing: Uint8Array, handler: StreamPeerHandler) => StreamPeer;

/** Through Node's `net.Socket`, reading into the one place (`onread`). */
export const nodeStreamPeer: StreamPeerMaker = (socket, landing, handler) => {
  // Neither a server's sockets nor one that was made without has `onread`; one made around the same handle does.
  const { _handle: handle } = socket as unknown as { _handle: unknown };
  Object.assign(socket, { _handle: null });
  let error: Error | undefined;
  let open = true;
  const callback = (octets: number): boolean => {
    handler.received(octets);
    return true;
  };
  const own = new net.Socket({
    handle,
    onread: { buffer: landing, callback },
    allowHalfOpen: false,
  } as net.SocketConstructorOpts);
  own.on('error', (failure) => {
    error = failure;
  });
  own.on('close', () => {
    if (open) handler.lost(error);
  });
  return {
    send: ({ bytes }, from, to, taken) => {
      own.write(Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from), taken);
    },
    close: () => {
      open = false;
      own.destroy();
    },
  };
};
