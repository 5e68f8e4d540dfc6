/** Reads a pcapng file by the rules of its specification, apart from the writer's own constants; throws on what is wrong. */

export interface ReadPacket {
  readonly interfaceId: number;
  readonly ns: bigint;
  readonly bytes: Uint8Array;
  readonly original: number;
  readonly flags: number;
  readonly comment: string | undefined;
  readonly dropped: bigint | undefined;
}

export interface ReadFile {
  readonly application: string | undefined;
  readonly interfaces: { name: string; description: string; snap: number; resolution: number; filter?: string }[];
  readonly packets: ReadPacket[];
  readonly statistics: { interfaceId: number; received: bigint; dropped: bigint }[];
}

const text = (bytes: Uint8Array | undefined): string => new TextDecoder().decode(bytes);

function optionsOf(bytes: Uint8Array): Map<number, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const options = new Map<number, Uint8Array>();
  for (let at = 0; ; ) {
    const [code, length] = [view.getUint16(at, true), view.getUint16(at + 2, true)];
    if (code === 0) {
      if (length !== 0 || at + 4 !== bytes.length) throw new Error('the end of options is not at the end');
      return options;
    }
    options.set(code, bytes.subarray(at + 4, at + 4 + length));
    at += 4 + ((length + 3) & ~3);
  }
}

const uint32 = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
const uint64 = (bytes: Uint8Array): bigint => new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);

export function readPcapng(bytes: Uint8Array): ReadFile {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const file: ReadFile & { application: string | undefined } = {
    application: undefined,
    interfaces: [],
    packets: [],
    statistics: [],
  };
  for (let at = 0; at < bytes.length; ) {
    const type = view.getUint32(at, true);
    const octets = view.getUint32(at + 4, true);
    if (octets % 4 !== 0 || view.getUint32(at + octets - 4, true) !== octets) throw new Error(`lengths at ${at}`);
    if ((at === 0) !== (type === 0x0a0d0d0a)) throw new Error('a section begins the file, and only there');
    const end = at + octets - 4;
    if (type === 0x0a0d0d0a) {
      if (view.getUint32(at + 8, true) !== 0x1a2b3c4d) throw new Error('byte order');
      file.application = text(optionsOf(bytes.subarray(at + 24, end)).get(4));
    } else if (type === 1) {
      const options = optionsOf(bytes.subarray(at + 16, end));
      const filter = options.get(11);
      file.interfaces.push({
        name: text(options.get(2)),
        description: text(options.get(3)),
        snap: view.getUint32(at + 12, true),
        resolution: options.get(9)![0]!,
        ...(filter && { filter: text(filter.subarray(1)) }),
      });
    } else if (type === 5) {
      const options = optionsOf(bytes.subarray(at + 20, end));
      file.statistics.push({
        interfaceId: view.getUint32(at + 8, true),
        received: uint64(options.get(4)!),
        dropped: uint64(options.get(5)!),
      });
    } else if (type === 6) {
      const captured = view.getUint32(at + 20, true);
      const options = optionsOf(bytes.subarray(at + 28 + ((captured + 3) & ~3), end));
      const [comment, dropped] = [options.get(1), options.get(4)];
      const interfaceId = view.getUint32(at + 8, true);
      if (interfaceId >= file.interfaces.length) throw new Error('a packet before its interface');
      file.packets.push({
        interfaceId,
        ns: (BigInt(view.getUint32(at + 12, true)) << 32n) | BigInt(view.getUint32(at + 16, true)),
        bytes: bytes.slice(at + 28, at + 28 + captured),
        original: view.getUint32(at + 24, true),
        flags: uint32(options.get(2)!),
        comment: comment && text(comment),
        dropped: dropped && uint64(dropped),
      });
    } else throw new Error(`block type ${type}`);
    at += octets;
  }
  return file;
}
