/**
 * What `slipway` and `slipway-vmm` say to each other.
 *
 * Once, at the start: the options as JSON on the vmm's standard input, and one line on its standard output, `{}` when
 * the machine runs or `{"error": TEXT}`. From then on, over the control socket, JSON objects, a line each: the vmm sends
 * `{"vmm": PID, "status": ...}` to whoever connects and again at every change; the other side sends
 * `{"id": N, "method": ...}` and gets `{"id": N}` or `{"id": N, "error": TEXT}`. The last status is sent before the vmm
 * ends; a connection that ends without one means that the vmm was killed.
 */

import type { MachineSpec, MachineStatus } from './port.ts';

export interface VmmOptions {
  readonly spec: MachineSpec;
  /** QEMU's program for the guest's architecture and what must stand before its arguments, and its version. */
  readonly qemu: { readonly command: readonly string[]; readonly version: string };
  readonly qemuImg: readonly string[];
  readonly paths: VmmPaths;
}

/** Where the vmm keeps its files; the names are those of the instance's home. */
export interface VmmPaths {
  /** The Docker API on the host. */
  readonly dockerSocket: string;
  readonly vmmSocket: string;
  readonly vmDirectory: string;
  readonly vmmLog: string;
  readonly consoleLog: string;
}

/** Why a second vmm does not start. */
export function inUse(vmDirectory: string, owner: string | number): string {
  return `${vmDirectory} is in use by another slipway-vmm (process ${owner}); 'slipway down' ends it, or set SLIPWAY_HOME for an instance of its own`;
}

/** The longest line on the control socket. */
export const LINE_OCTETS = 64 << 10;

export type VmmMethod = 'pause' | 'resume' | 'shutdown' | 'kill';

export interface VmmRequest {
  readonly id: number;
  readonly method: VmmMethod;
  /** Of a shutdown. */
  readonly graceMs: number;
}

export type VmmMessage =
  | { readonly vmm: number; readonly status: MachineStatus }
  | { readonly id: number; readonly error?: string };

const methods: readonly string[] = ['pause', 'resume', 'shutdown', 'kill'];
const MOST_GRACE_MS = 10 * 60_000;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function parse(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Reads what a client sent; undefined when it is no request. */
export function parseVmmRequest(line: string): VmmRequest | undefined {
  const { id, method, graceMs = 0 } = parse(line) ?? {};
  if (!Number.isSafeInteger(id) || typeof method !== 'string' || !methods.includes(method)) return undefined;
  if (typeof graceMs !== 'number' || !(graceMs >= 0 && graceMs <= MOST_GRACE_MS)) return undefined;
  return { id: id as number, method: method as VmmMethod, graceMs };
}

/** Reads what the vmm sent; undefined when it is no message. */
export function parseVmmMessage(line: string): VmmMessage | undefined {
  const { id, error, vmm, status } = parse(line) ?? {};
  if (typeof vmm === 'number' && isRecord(status) && typeof status.state === 'string' && isRecord(status.boot))
    return { vmm, status: status as unknown as MachineStatus };
  if (typeof id !== 'number') return undefined;
  return { id, ...(typeof error === 'string' && { error }) };
}
