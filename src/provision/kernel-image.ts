/**
 * The kernel as QEMU boots it fastest: the uncompressed ELF out of a bzImage (booted by its PVH note), the plain Image
 * on arm64.
 *
 * x86 boot protocol (Documentation/arch/x86/boot.rst): setup_sects at 0x1f1, the signature HdrS at 0x202, the payload's
 * offset and length at 0x248 and 0x24c, counted from the protected-mode code; the payload's last four octets are its
 * uncompressed length. arm64 (Documentation/arch/arm64/booting.rst): the magic ARM\x64 at 0x38; or an EFI zboot file
 * (drivers/firmware/efi/libstub/zboot-header.S), MZ and zimg, whose payload's offset and length lie at 8 and 12.
 */

import { run } from './host-tools.ts';

const MAGIC: readonly (readonly [hex: string, program: string])[] = [
  ['28b52ffd', 'zstd'],
  ['fd377a58', 'xz'],
  ['1f8b', 'gzip'],
];

export async function uncompressedKernel(kernel: Buffer): Promise<Buffer> {
  if (kernel.length > 0x250 && kernel.toString('latin1', 0x202, 0x206) === 'HdrS') {
    const start = ((kernel[0x1f1] || 4) + 1) * 512 + kernel.readUInt32LE(0x248);
    const end = start + kernel.readUInt32LE(0x24c);
    if (end > kernel.length) throw new Error('the kernel ends within its payload');
    const elf = await decompress(kernel.subarray(start, end - 4));
    if (elf.length !== kernel.readUInt32LE(end - 4) || elf.toString('latin1', 1, 4) !== 'ELF')
      throw new Error("the kernel's payload is no ELF file of the length that it tells");
    return elf;
  }
  if (kernel.length > 0x40 && kernel.toString('latin1', 0x38, 0x3c) === 'ARM\x64') return kernel;
  if (kernel.length > 0x40 && kernel.toString('latin1', 4, 8) === 'zimg') {
    const start = kernel.readUInt32LE(8);
    return uncompressedKernel(await decompress(kernel.subarray(start, start + kernel.readUInt32LE(12))));
  }
  if (kernel.toString('hex', 0, 2) === '1f8b') return uncompressedKernel(await decompress(kernel));
  throw new Error('the kernel is in no format known here');
}

async function decompress(payload: Buffer): Promise<Buffer> {
  const [, program] = MAGIC.find(([hex]) => payload.toString('hex', 0, hex.length / 2) === hex) ?? [];
  if (!program) throw new Error(`the kernel is compressed in a way not known here (${payload.toString('hex', 0, 4)})`);
  return run(program, ['-dc'], { input: payload });
}
