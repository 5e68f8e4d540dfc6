/**
 * A cpio archive in the newc format of initramfs images (Documentation/driver-api/early-userspace/buffer-format):
 * per entry a header of 110 octets in hexadecimal, the name with its zero, the content, each padded to four octets.
 * Everything belongs to root and has no date, so that the same entries give the same octets; device nodes need no
 * privilege to be written here.
 */

export type CpioEntry =
  | { readonly path: string; readonly kind: 'folder'; readonly mode: number }
  | { readonly path: string; readonly kind: 'file'; readonly mode: number; readonly content: Uint8Array }
  | { readonly path: string; readonly kind: 'link'; readonly target: string }
  | {
      readonly path: string;
      readonly kind: 'device';
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

const FORMAT = { folder: 0o040000, file: 0o100000, link: 0o120000, device: 0o020000 } as const;

/** The archive of `entries` in their order: a folder before what it holds. */
export function cpio(entries: readonly CpioEntry[]): Buffer {
  const parts: Uint8Array[] = [];
  let offset = 0;
  const add = (part: Uint8Array): void => {
    const pad = (4 - (part.length % 4)) % 4;
    parts.push(part);
    if (pad > 0) parts.push(Buffer.alloc(pad));
    offset += part.length + pad;
  };
  entries.forEach((entry, index) => {
    const content =
      entry.kind === 'file' ? entry.content : entry.kind === 'link' ? Buffer.from(entry.target) : new Uint8Array(0);
    const mode = FORMAT[entry.kind] | (entry.kind === 'link' ? 0o777 : entry.mode);
    const device = entry.kind === 'device' ? ([entry.major, entry.minor] as const) : ([0, 0] as const);
    const links = entry.kind === 'folder' ? 2 : 1;
    add(header(index + 1, mode, links, content.length, device, entry.path));
    add(content);
  });
  add(header(0, 0, 1, 0, [0, 0], 'TRAILER!!!'));
  const tail = (512 - (offset % 512)) % 512;
  return Buffer.concat([...parts, Buffer.alloc(tail)]);
}

function header(
  inode: number,
  mode: number,
  links: number,
  octets: number,
  [major, minor]: readonly [number, number],
  path: string,
): Buffer {
  const name = Buffer.from(`${path}\0`);
  const fields = [inode, mode, 0, 0, links, 0, octets, 0, 0, major, minor, name.length, 0];
  const text = fields.map((field) => field.toString(16).padStart(8, '0')).join('');
  return Buffer.concat([Buffer.from(`070701${text}`), name]);
}
