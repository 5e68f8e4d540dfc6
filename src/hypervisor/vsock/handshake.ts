/**
 * The first line on the `connect` socket, which says what port of the guest is wanted. HyperKit: `%08x.%08x\n`, guest
 * CID and port, and the stream begins at once. Firecracker: `CONNECT PORT\n`, answered `OK LOCALPORT\n` when the guest
 * has accepted. A refusal is a closed socket in both.
 */

export interface Wanted {
  readonly port: number;
  /** The line's octets, the newline included. */
  readonly octets: number;
  /** Whether `OK LOCALPORT\n` is owed. */
  readonly answer: boolean;
}

/** Longest line: `CONNECT 4294967295\n` and room for a sloppy client's spaces. */
export const maxLineOctets = 64;

/** What is wanted; undefined: the line is not whole yet; a string: what is wrong with it. */
export function parseHandshake(bytes: Uint8Array, guestCid: number): Wanted | string | undefined {
  const newline = bytes.indexOf(0x0a);
  if (newline < 0) return bytes.length < maxLineOctets ? undefined : 'no line within 64 octets';
  const line = String.fromCharCode(...bytes.subarray(0, newline)).replace(/\r$/, '');
  const octets = newline + 1;
  const hyperkit = /^([0-9a-f]{8})\.([0-9a-f]{8})$/i.exec(line);
  if (hyperkit) {
    const cid = Number.parseInt(hyperkit[1]!, 16);
    if (cid !== guestCid) return `the guest's CID is ${guestCid}, not ${cid}`;
    return { port: Number.parseInt(hyperkit[2]!, 16), octets, answer: false };
  }
  const firecracker = /^CONNECT +(\d{1,10})$/.exec(line);
  const port = Number(firecracker?.[1]);
  if (firecracker && port <= 0xffff_ffff) return { port, octets, answer: true };
  return 'neither CID.PORT in hexadecimal nor CONNECT PORT';
}
