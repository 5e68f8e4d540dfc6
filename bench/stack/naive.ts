/** What one would write first: the twins that the stages race. */

export function sumByOctets(bytes: Uint8Array, from = 0, to = bytes.length): number {
  let total = 0;
  for (let i = from; i + 1 < to; i += 2) total += (bytes[i]! << 8) | bytes[i + 1]!;
  if ((to - from) % 2 === 1) total += bytes[to - 1]! << 8;
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

/** A frame made of Buffers: Ethernet, IPv4 and TCP headers, checksums, payload. */
export function frameOfBuffers(sequence: number, payload: Uint8Array): Buffer {
  const ethernet = Buffer.from('020000000001020000000002' + '0800', 'hex');
  const ip = Buffer.alloc(20);
  ip.writeUInt16BE(0x4500, 0);
  ip.writeUInt16BE(40 + payload.length, 2);
  ip.writeUInt16BE(0x4000, 6);
  ip.writeUInt16BE((64 << 8) | 6, 8);
  ip.set([10, 0, 0, 1, 192, 168, 65, 3], 12);
  ip.writeUInt16BE(~sumByOctets(ip) & 0xffff, 10);
  const tcp = Buffer.alloc(20);
  tcp.writeUInt16BE(80, 0);
  tcp.writeUInt16BE(40000, 2);
  tcp.writeUInt32BE(sequence, 4);
  tcp.writeUInt32BE(1, 8);
  tcp.writeUInt16BE(0x5010, 12);
  tcp.writeUInt16BE(0xffff, 14);
  const pseudo = Buffer.alloc(12);
  ip.copy(pseudo, 0, 12);
  pseudo[9] = 6;
  pseudo.writeUInt16BE(20 + payload.length, 10);
  tcp.writeUInt16BE(~sumByOctets(Buffer.concat([pseudo, tcp, payload])) & 0xffff, 16);
  return Buffer.concat([ethernet, ip, tcp, payload]);
}
