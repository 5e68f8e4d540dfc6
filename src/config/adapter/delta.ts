/** Git's deltas (gitformat-pack, "Deltified representation"): an object as pieces of another one and new octets. */

/** Throws an Error where `delta` is none, or is not one of `base`. */
export function applyDelta(base: Uint8Array, delta: Uint8Array, mostOctets: number): Uint8Array {
  let at = 0;
  const octet = (): number => {
    const next = delta[at++];
    if (next === undefined) throw new Error('a delta ends too early');
    return next;
  };
  const size = (): number => {
    let whole = 0;
    for (let scale = 1; ; scale *= 128) {
      const next = octet();
      whole += (next & 0x7f) * scale;
      if ((next & 0x80) === 0) return whole;
    }
  };
  if (size() !== base.length) throw new Error('a delta is of another object');
  const length = size();
  if (length > mostOctets) throw new Error('a delta makes too much');
  const made = new Uint8Array(length);
  let filled = 0;
  const put = (from: Uint8Array, start: number, count: number): void => {
    if (start + count > from.length || filled + count > length) throw new Error('a delta goes too far');
    made.set(from.subarray(start, start + count), filled);
    filled += count;
  };
  while (at < delta.length) {
    const command = octet();
    if (command & 0x80) {
      let [start, count] = [0, 0];
      for (let i = 0; i < 4; i++) if (command & (1 << i)) start += octet() * 2 ** (8 * i);
      for (let i = 0; i < 3; i++) if (command & (16 << i)) count += octet() * 2 ** (8 * i);
      put(base, start, count || 0x10000);
    } else if (command > 0) {
      put(delta, at, command);
      at += command;
    } else throw new Error('a delta has an unknown command');
  }
  if (filled !== length) throw new Error('a delta makes too little');
  return made;
}
