/** A search list as guests are told it. RFC 3397 2, RFC 3646 4, RFC 8106 5.2: names of RFC 1035, uncompressed. */

/** As many whole names as fit; what is no name is left out. */
export function encodeSearch(names: readonly string[], room: number): Uint8Array {
  const octets: number[] = [];
  for (const name of names) {
    const labels = name.split('.').filter((label) => label !== '');
    const encoded = labels.flatMap((label) => [label.length, ...new TextEncoder().encode(label)]);
    const sound = labels.length > 0 && /^[\x21-\x7e]+$/.test(name) && labels.every((label) => label.length < 64);
    if (!sound || encoded.length > 254) continue;
    if (octets.length + encoded.length + 1 > room) break;
    octets.push(...encoded, 0);
  }
  return Uint8Array.from(octets);
}
