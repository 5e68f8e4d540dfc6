/** What went wrong with a connection, with Node's code, and a message as Node has it. */

import type { CloseReason } from '../port.ts';

export type SocketErrorCode =
  | Exclude<CloseReason, 'closed' | 'aborted'>
  | 'ECONNABORTED' /** our own side gave it up */
  | 'ENETUNREACH' /** the stack has no address of that family */
  | 'ENETDOWN' /** the stack has been closed */;

export class SocketError extends Error {
  readonly code: SocketErrorCode;
  readonly syscall: string;
  readonly address: string | undefined;
  readonly port: number | undefined;

  constructor(code: SocketErrorCode, syscall: string, address?: string, port?: number) {
    super(`${syscall} ${code}${address === undefined ? '' : ` ${address}:${port}`}`);
    this.name = 'SocketError';
    this.code = code;
    this.syscall = syscall;
    this.address = address;
    this.port = port;
  }
}
