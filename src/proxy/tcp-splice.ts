/**
 * Two ends of one conversation: a guest's TCP connection and a stream of the host, joined so that each end's
 * back-pressure reaches the other. Neither side is ever read before the other has room: what the guest sends is
 * acknowledged when the host's socket has taken it (the receive window is `writeRoom`), and the host is read straight
 * into the connection's send queue, as far as that has room.
 *
 * FIN and RST pass through as what they are: FIN one way leaves the other way open (half-close), RST or a failure on
 * one side is RST on the other. Half-closed conversations and idle ones stay as long as both ends keep them (RFC 5382
 * REQ-5); there are no timers here.
 *
 * The guest's events come while the stack runs, the host's at any time: whoever owns both polls the stack after those.
 */

import type { CloseReason, FragmentList, TcpConnection, TcpHandler } from '../stack/port.ts';
import { END, type HostErrorCode, type HostStream, type StreamHandler } from './port.ts';

export class TcpSplice {
  connection: TcpConnection | undefined;
  stream: HostStream | undefined;
  /** The host's END was passed on. */
  hostEnded = false;
  readonly onClosed: (() => void) | undefined;

  /** `onClosed` is called once, when both ends are gone. */
  constructor(onClosed?: () => void) {
    this.onClosed = onClosed;
  }

  joinConnection(connection: TcpConnection): void {
    this.connection = connection;
    connection.owner = this;
  }

  joinStream(stream: HostStream): void {
    this.stream = stream;
    stream.owner = this;
  }

  /** Host to guest: as much as the guest's send queue takes and the host has. */
  pump(): void {
    const { connection, stream } = this;
    if (!connection || !stream || this.hostEnded) return;
    for (;;) {
      let octets: number;
      if (stream.readv) {
        const places = connection.reserveSendList();
        if (!places) return;
        octets = stream.readv(places);
      } else {
        if (!connection.reserveSend()) return;
        octets = stream.read(connection.sendArena.bytes, connection.sendOffset, connection.sendLength);
      }
      if (octets > 0) {
        connection.commitSend(octets);
        continue;
      }
      if (octets === END) {
        this.hostEnded = true;
        connection.end();
      }
      return;
    }
  }

  /** The host answered a dial. */
  streamConnected(): void {
    this.pump();
  }

  connectionClosed(reason: CloseReason): void {
    this.connection = undefined;
    if (!this.stream) this.onClosed?.();
    // In order means that the host's END was read and our FIN is behind what the guest sent.
    else if (reason !== 'closed') this.stream.abort();
  }

  streamClosed(code: HostErrorCode | undefined): void {
    this.stream = undefined;
    if (!this.connection) this.onClosed?.();
    else if (code !== undefined || !this.hostEnded) this.connection.abort();
  }
}

const spliceOf = (end: { owner: unknown }): TcpSplice => end.owner as TcpSplice;

/** The guest's side of every splice. */
export const guestSide: TcpHandler = {
  established(connection: TcpConnection): void {
    spliceOf(connection).pump();
  },
  room(connection: TcpConnection): number {
    return spliceOf(connection).stream?.writeRoom ?? 0;
  },
  received(connection: TcpConnection, octets: FragmentList): number {
    return spliceOf(connection).stream?.writev(octets) ?? octets.octets;
  },
  receivedEnd(connection: TcpConnection): void {
    spliceOf(connection).stream?.end();
  },
  writable(connection: TcpConnection): void {
    spliceOf(connection).pump();
  },
  closed(connection: TcpConnection, reason: CloseReason): void {
    const splice = spliceOf(connection);
    connection.owner = undefined;
    splice.connectionClosed(reason);
  },
};

/** The host's side of every splice. */
export const hostSide: StreamHandler = {
  connected(stream: HostStream): void {
    spliceOf(stream).streamConnected();
  },

  readable(stream: HostStream): void {
    spliceOf(stream).pump();
  },

  writable(stream: HostStream): void {
    spliceOf(stream).connection?.roomGrew();
  },

  closed(stream: HostStream, code?: HostErrorCode): void {
    spliceOf(stream).streamClosed(code);
  },
};
