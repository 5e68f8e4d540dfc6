import type { DebianArch } from './port.ts';

/** This machine's architecture by Debian's name; a guest of another one would be emulated. */
export function hostArch(arch: string = process.arch): DebianArch {
  if (arch === 'x64') return 'amd64';
  if (arch === 'arm64') return 'arm64';
  throw new Error(`there is no guest image for ${arch}: Slipway runs on x64 and arm64`);
}
