/**
 * What a client's fids stand for. A fid is at a place: a node, with the way it was reached by, so that `..` and removal are
 * possible. Fids of one place share it; when it is renamed through this connection, they go with it.
 */

import type { Cancellation } from './cancellation.ts';
import { FileError } from './file-error.ts';
import type { Entry, FsNode, OpenFile, OpenMode } from './node.ts';

/** Steps from the root of all fids of a connection: each keeps the way it came, and some trees go on for ever. */
const STEPS = 1_000_000;

export interface Place {
  node: FsNode;
  name: string;
  /** Undefined: the root of an attach. */
  parent: Place | undefined;
  /** Steps from the root, when it was reached. */
  readonly depth: number;
}

export interface OpenDirectory {
  /** As it was when reading began; undefined before that. */
  entries: readonly Entry[] | undefined;
  /** 9P2000: the octets given so far, and the entries they are. read(5): reading goes on there or begins anew. */
  offset: number;
  index: number;
}

export class Fid {
  place: Place;
  directory: OpenDirectory | undefined;
  file: OpenFile | undefined;
  mode: OpenMode | undefined;
  /** What it counts for of the table's `STEPS`. */
  steps = 0;
  removeOnClunk = false;
  /** Requests that use it and may wait. */
  readonly waiting = new Set<Cancellation>();
  clunked = false;

  constructor(place: Place) {
    this.place = place;
  }

  get opened(): boolean {
    return this.file !== undefined || this.directory !== undefined;
  }
}

export class FidTable {
  readonly #limit: number;
  readonly #fids = new Map<number, Fid>();
  #steps = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#fids.size;
  }

  get(number: number): Fid {
    const fid = this.#fids.get(number);
    if (!fid) throw new FileError('EBADF', 'unknown fid');
    return fid;
  }

  /** Throws when the number cannot be given to a new fid. */
  checkFree(number: number): void {
    if (this.#fids.has(number)) throw new FileError('EBADF', 'fid is in use');
    if (this.#fids.size >= this.#limit) throw new FileError('ENOBUFS', 'too many fids');
  }

  add(number: number, place: Place): Fid {
    this.checkFree(number);
    const fid = new Fid(place);
    this.move(fid, place);
    this.#fids.set(number, fid);
    return fid;
  }

  /** Puts a fid of the table at another place. */
  move(fid: Fid, place: Place): void {
    const steps = this.#steps - fid.steps + place.depth;
    if (place.depth > fid.steps && steps > STEPS) throw new FileError('ENOBUFS', 'fids are too far from the root');
    this.#steps = steps;
    fid.steps = place.depth;
    fid.place = place;
  }

  /** Takes a fid away. Who waits on it is told. */
  remove(number: number): Fid {
    const fid = this.get(number);
    this.#fids.delete(number);
    this.#steps -= fid.steps;
    fid.clunked = true;
    for (const cancellation of fid.waiting) cancellation.cancel();
    return fid;
  }

  numbers(): number[] {
    return [...this.#fids.keys()];
  }

  /** Every place that a fid is at or has come through. */
  places(): Set<Place> {
    const found = new Set<Place>();
    for (const { place } of this.#fids.values())
      for (let at: Place | undefined = place; at && !found.has(at); at = at.parent) found.add(at);
    return found;
  }
}
