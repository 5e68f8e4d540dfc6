/** Unix socket paths: their length, and the names of vsock's host side (CONTRACTS: HyperKit's convention). */

/** sun_path holds 108 octets on Linux and 104 elsewhere, the closing NUL included there. */
export const maxPathOctets = process.platform === 'linux' ? 104 : 103;

/** Throws an Error that names the remedy when a path is too long for a unix socket. */
export function checkSocketPath(path: string): void {
  const octets = Buffer.byteLength(path);
  if (octets > maxPathOctets)
    throw new Error(
      `the socket path ${path} has ${octets} octets, a unix socket takes ${maxPathOctets}: choose a shorter directory (SLIPWAY_HOME)`,
    );
  if (path.includes('\0')) throw new Error('a socket path has a NUL octet');
}

/** The file a guest's connection to host port `port` reaches: `00000002.PPPPPPPP`. */
export function hostPortName(port: number): string {
  return `00000002.${port.toString(16).padStart(8, '0')}`;
}

/** A host socket that leads to one guest port. */
export interface Forward {
  readonly path: string;
  readonly port: number;
}
