/**
 * POSIX record locks as 9P2000.L's Tlock and Tgetlock want them: advisory, by ranges of a file, shared by all connections
 * of a server. An owner is a client's process; a lock also belongs to the fid it was taken by, and ends with it. Nothing
 * waits here: a client whose lock is taken is told so and asks again. fcntl(2); diod's protocol.md, `lock`.
 */

export interface LockOwner {
  /** Who asks: a connection, and within it a process of a client. */
  readonly connection: object;
  readonly client: string;
  readonly process: number;
}

export interface LockRange {
  readonly start: bigint;
  /** 0: to the end of the file, however long. */
  readonly length: bigint;
}

export interface HeldLock {
  readonly owner: LockOwner;
  readonly holder: object;
  readonly exclusive: boolean;
  readonly start: bigint;
  /** The first octet after it. */
  readonly end: bigint;
}

const INFINITE = 1n << 65n;

const endOf = ({ start, length }: LockRange): bigint => (length === 0n ? INFINITE : start + length);

export const lengthOf = ({ start, end }: HeldLock): bigint => (end === INFINITE ? 0n : end - start);

const sameOwner = (a: LockOwner, b: LockOwner): boolean =>
  a.connection === b.connection && a.client === b.client && a.process === b.process;

export class LockTable {
  readonly #limit: number;
  readonly #files = new Map<bigint, HeldLock[]>();
  #size = 0;

  /** @param limit the most ranges held at a time, by all clients */
  constructor(limit = 10_000) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#size;
  }

  /** Another's lock that stands in the way. */
  conflict(file: bigint, owner: LockOwner, range: LockRange, exclusive: boolean): HeldLock | undefined {
    const end = endOf(range);
    return this.#files
      .get(file)
      ?.find(
        (held) =>
          held.start < end && range.start < held.end && (exclusive || held.exclusive) && !sameOwner(held.owner, owner),
      );
  }

  /** Takes a lock, in place of what the same owner has of the range; 'full' beyond the table's limit. */
  lock(
    file: bigint,
    owner: LockOwner,
    holder: object,
    range: LockRange,
    exclusive: boolean,
  ): 'held' | 'blocked' | 'full' {
    if (this.conflict(file, owner, range, exclusive)) return 'blocked';
    // Cutting a lock in two makes one more.
    if (this.#size + 2 > this.#limit) return 'full';
    this.unlock(file, owner, range);
    this.#put(file, [
      ...(this.#files.get(file) ?? []),
      { owner, holder, exclusive, start: range.start, end: endOf(range) },
    ]);
    return 'held';
  }

  unlock(file: bigint, owner: LockOwner, range: LockRange): void {
    const end = endOf(range);
    this.#put(
      file,
      (this.#files.get(file) ?? []).flatMap((held) => {
        if (!sameOwner(held.owner, owner) || held.start >= end || range.start >= held.end) return [held];
        const before = held.start < range.start ? [{ ...held, end: range.start }] : [];
        const after = held.end > end ? [{ ...held, start: end }] : [];
        return [...before, ...after];
      }),
    );
  }

  /** Forgets what was taken by a fid. */
  release(file: bigint, holder: object): void {
    const held = this.#files.get(file);
    if (held)
      this.#put(
        file,
        held.filter((lock) => lock.holder !== holder),
      );
  }

  #put(file: bigint, locks: HeldLock[]): void {
    this.#size += locks.length - (this.#files.get(file)?.length ?? 0);
    if (locks.length > 0) this.#files.set(file, locks);
    else this.#files.delete(file);
  }
}
