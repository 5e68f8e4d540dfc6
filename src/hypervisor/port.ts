/**
 * The hypervisor as the platform needs it: a machine that boots a kernel, with a network attachment and byte streams
 * to and from its guest. Adapters: qemu, fake. Optional abilities are capabilities apart, so that an adapter without
 * them is still whole.
 */

export type Accelerator = 'kvm' | 'hvf' | 'whpx' | 'tcg';

export interface MachineSpec {
  /** Directory of a built image: vmlinux, initramfs, root.erofs, manifest.json (vm/README.md). */
  readonly imageDirectory: string;
  /** The persistent data disk (qcow2), made when missing. */
  readonly dataDisk: { readonly path: string; readonly sizeOctets: number };
  readonly memoryMiB: number;
  readonly cpus: number;
  readonly mtu: number;
  readonly macAddress: string;
  /** Appended to the kernel's command line. */
  readonly kernelArguments: readonly string[];
  /** 'auto' is chosen by proof. */
  readonly accelerator: 'auto' | Accelerator;
  /** How streams to the guest travel: 'auto' takes vsock where guest memory can be shared. */
  readonly channel: 'auto' | 'vsock' | 'serial';
  /** Unix socket of the network attachment: the hypervisor listens, the network connects (QEMU stream framing). */
  readonly networkSocket: string;
  /** The same by vhost-user, with offload: tried first where guest memory is shared. Absent: frames travel by the stream. */
  readonly vhostUserSocket?: string;
  /** Directory of the sockets of vsock's host side: `connect`, `00000002.PPPPPPPP` (CONTRACTS.md). */
  readonly socketDirectory: string;
}

export type MachineState = 'starting' | 'running' | 'paused' | 'stopping' | 'stopped' | 'failed';

export interface MachineStatus {
  readonly state: MachineState;
  /** Why it failed, in one line that names the remedy. */
  readonly reason?: string;
  /** How it ended, once it has: 'asked' for, by the guest's 'panic', 'reboot' or 'poweroff', or 'lost' (the process is gone). */
  readonly ended?: 'asked' | 'panic' | 'reboot' | 'poweroff' | 'lost';
  readonly accelerator?: Accelerator;
  /** Why this accelerator: shown by `slipway status`. */
  readonly acceleratorReason?: string;
  readonly channel?: 'vsock' | 'serial';
  /** How frames travel. */
  readonly link?: 'vhost-user' | 'stream';
  /** Why by the stream, where vhost-user was wished for. */
  readonly linkReason?: string;
  readonly hypervisor?: string;
  readonly pid?: number;
  /** Milliseconds since the epoch. */
  readonly startedAtMs?: number;
  /** Seconds from the hypervisor's start to each step of the boot, as the guest reports them (vm/README.md). */
  readonly boot: Readonly<Record<string, number>>;
}

export interface Machine {
  status(): MachineStatus;
  /** Calls back on every change of status; returns the way to stop. */
  onStatus(listener: (status: MachineStatus) => void): () => void;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Orderly: the guest powers down; killed after `graceMs`. */
  shutdown(graceMs: number): Promise<void>;
  kill(): Promise<void>;
  /** The last octets of the console, bounded. */
  console(): string;
}

export interface HypervisorPort {
  readonly name: string;
  /** Rejects with an Error that names the cause and the remedy (QEMU missing, no disk space, image corrupt). */
  start(spec: MachineSpec): Promise<Machine>;
}

/** A two-way stream of octets with half-close, backed by vsock or the serial multiplexer. */
export interface GuestChannelPort {
  /** Opens a stream to a port the guest listens on; rejects with ECONNREFUSED or ETIMEDOUT. */
  connect(port: number): Promise<import('node:stream').Duplex>;
  /** Streams the guest opens to host port `port` reach the unix socket `SOCKET_DIRECTORY/00000002.PPPPPPPP`. */
  close(): void;
}
